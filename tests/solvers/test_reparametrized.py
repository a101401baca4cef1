from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsteer.solvers import Reparametrized, Status, from_log_cholesky, log_cholesky

RANDOM = np.random.default_rng(1)
FACTOR = RANDOM.normal(size=(3, 6))
SCATTER = FACTOR @ FACTOR.T / 6
DEFAULT = Reparametrized(trace=True)
# These compile in a fraction of the time of the default.
DESCENT = optax.sgd(0.5)
FROZEN = optax.sgd(0.0)
BACKTRACKING = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(20))


def deviance(s, scatter):
    """Twice the negative Gaussian log-likelihood; least at ``s = scatter``."""
    return jnp.trace(jnp.linalg.solve(s, scatter)) + jnp.linalg.slogdet(s)[1]


def solve(scatter=SCATTER, start=None, solver=DEFAULT, **options):
    start = jnp.zeros(6) if start is None else start
    options = {"parametrization": from_log_cholesky} | options
    return solver.run(deviance, start, jnp.asarray(scatter), **options)


def test_log_cholesky_and_back(eps):
    batch = np.stack([SCATTER, np.eye(3), 1e-3 * SCATTER])
    down, up = jax.jit(log_cholesky), jax.jit(from_log_cholesky)
    v = down(batch)
    assert v.shape == (3, 6)
    assert not v[1].any()
    np.testing.assert_allclose(up(v), batch, rtol=50 * eps, atol=50 * eps)
    other = np.tile(np.arange(6) / 5, (3, 1))
    np.testing.assert_allclose(down(up(other)), other, atol=50 * eps)
    batch = np.stack([np.diag([1.0, 1.0, np.e**2]), np.eye(3), -np.eye(3)])
    v = down(batch)
    np.testing.assert_allclose(v[0], [0, 0, 0, 0, 0, 1.0], atol=10 * eps)
    assert jnp.isnan(v[2]).any()


def test_log_cholesky_is_differentiable_and_refuses_other_lengths():
    jacobian = jax.jit(jax.jacobian(from_log_cholesky))(jnp.zeros(3))
    np.testing.assert_allclose(jacobian[..., 0], [[2.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(jacobian[..., 1], [[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match=r"d \(d \+ 1\) / 2"):
        from_log_cholesky(jnp.zeros(4))


def test_maximum_likelihood_in_closed_form(eps):
    found = solve()
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.x, SCATTER, atol=100 * eps**0.5)
    value = 3 + np.linalg.slogdet(SCATTER)[1]
    np.testing.assert_allclose(found.value, value, rtol=1e3 * eps)
    steps = int(found.steps)
    assert found.trace.shape == (500,)
    assert np.isfinite(found.trace[:steps]).all()
    assert np.isnan(found.trace[steps:]).all()


TRACES = []


def bowl(x, aim):
    TRACES.append(1)
    return jnp.sum((x - aim) ** 2) + jnp.sum(x**4)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adam(0.03),
        optax.sgd(0.05),
        BACKTRACKING,
    ],
    ids=["adam", "sgd", "backtracking"],
)
def test_any_optimizer_serves(optimizer):
    aim = jnp.array([1.0, -0.5])
    solver = Reparametrized(optimizer=optimizer, max_steps=2000)
    found = solver.run(bowl, jnp.zeros(2), aim)
    peer = Reparametrized().run(bowl, jnp.zeros(2), aim)
    assert found.converged
    assert peer.converged
    assert found.steps > peer.steps
    np.testing.assert_allclose(found.x, peer.x, atol=2e-3)


def entry(t, differentiate="implicit"):
    scatter = jnp.asarray(SCATTER) + t * jnp.eye(3)
    solver = Reparametrized(tolerance=1e-10)
    found = solve(scatter, solver=solver, differentiate=differentiate)
    return found.x[0, 1] + found.x[2, 2] ** 2


def test_implicit_derivatives_in_closed_form(x64):
    def reverse(t):
        slope = jax.grad(entry)(t)
        return (entry(t), slope), slope

    # Forward, reverse and second derivatives in one program.
    (forward, second), slope = jax.jit(jax.jacfwd(reverse, has_aux=True))(0.0)
    # The solution is the scatter itself.
    np.testing.assert_allclose([forward, slope], 2 * SCATTER[2, 2], rtol=1e-6)
    np.testing.assert_allclose(second, 2.0, rtol=1e-5)


def test_none_has_no_derivative():
    solver = Reparametrized(optimizer=DESCENT, max_steps=2)

    def total(aim):
        found = solver.run(bowl, jnp.zeros(2), aim, differentiate="none")
        return found.x.sum() + found.value

    assert not jax.jit(jax.grad(total))(jnp.ones(2)).any()


def tilted(p, cost):
    return jnp.sum(p * jnp.log(p)) + cost @ p


def test_flat_directions_have_derivative_zero(eps):
    # A common shift of the logits is invisible.
    def shares(cost):
        solver = Reparametrized(optimizer=DESCENT)
        found = solver.run(tilted, jnp.zeros(3), cost, parametrization=jax.nn.softmax)
        return found.x, (found.x, found.converged)

    cost = jnp.array([0.0, 1.0, -0.5])
    slope, (x, converged) = jax.jit(jax.jacobian(shares, has_aux=True))(cost)
    assert converged
    expected = np.asarray(jax.nn.softmax(-cost))
    np.testing.assert_allclose(x, expected, atol=eps**0.4)
    expected = np.outer(expected, expected) - np.diag(expected)
    np.testing.assert_allclose(slope, expected, atol=eps**0.4)


def test_gradient_by_the_start_is_zero():
    solver = Reparametrized(optimizer=DESCENT, max_steps=2)

    def total(start):
        found = solver.run(bowl, start, jnp.zeros(2))
        return found.x.sum() + found.value

    assert not jax.jit(jax.grad(total))(jnp.ones(2)).any()


def test_failures_and_batches(eps):
    def end(optimizer, **options):
        solver = Reparametrized(optimizer=optimizer, **options)
        return solver.run(bowl, jnp.ones(2), jnp.zeros(2))

    short = end(optax.sgd(0.01), max_steps=2)
    assert short.status == Status.MAX_STEPS
    assert short.steps == 2
    assert short.trace is None
    assert end(FROZEN).status == Status.STALLED
    assert end(optax.sgd(10.0)).status == Status.NONFINITE
    starts = jnp.stack([jnp.zeros(6), jnp.full(6, jnp.nan)])
    batch = jax.jit(jax.vmap(lambda start: solve(start=start)))(starts)
    assert batch.status.tolist() == [Status.CONVERGED, Status.NONFINITE]
    np.testing.assert_allclose(batch.x[0], solve().x, atol=100 * eps**0.5)


def test_new_values_do_not_retrace():
    first = Reparametrized().run(bowl, jnp.zeros(2), jnp.ones(2))
    before = len(TRACES)
    second = Reparametrized().run(bowl, jnp.ones(2), jnp.zeros(2))
    assert len(TRACES) == before > 0
    assert first.value != second.value


def test_unusable_arguments_are_refused():
    with pytest.raises(ValueError, match="start must be a floating"):
        solve(start=jnp.arange(6))
    with pytest.raises(ValueError, match="differentiate='unroll'"):
        solve(differentiate="unroll")
