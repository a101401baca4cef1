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


def deviance(s, scatter):
    """Twice the negative Gaussian log-likelihood; least at ``s = scatter``."""
    return jnp.trace(jnp.linalg.solve(s, scatter)) + jnp.linalg.slogdet(s)[1]


def solve(scatter=SCATTER, start=None, solver=DEFAULT, **options):
    start = jnp.zeros(6) if start is None else start
    options = {"parametrization": from_log_cholesky} | options
    return solver.run(deviance, start, jnp.asarray(scatter), **options)


def test_log_cholesky_and_back(eps):
    batch = np.stack([SCATTER, np.eye(3), 1e-3 * SCATTER])
    v = log_cholesky(jnp.asarray(batch))
    assert v.shape == (3, 6)
    assert not v[1].any()
    np.testing.assert_allclose(
        from_log_cholesky(v), batch, rtol=50 * eps, atol=50 * eps
    )
    back = log_cholesky(from_log_cholesky(jnp.arange(6.0) / 5))
    np.testing.assert_allclose(back, np.arange(6) / 5, atol=50 * eps)
    diagonal = log_cholesky(jnp.diag(jnp.array([1.0, np.e**2])))
    np.testing.assert_allclose(diagonal, [0.0, 0.0, 1.0], atol=10 * eps)


def test_log_cholesky_is_differentiable_and_refuses_other_lengths():
    jacobian = jax.jacobian(from_log_cholesky)(jnp.zeros(3))
    np.testing.assert_allclose(jacobian[..., 0], [[2.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(jacobian[..., 1], [[0.0, 1.0], [1.0, 0.0]])
    assert jnp.isnan(log_cholesky(-jnp.eye(2))).any()
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


def bowl(x, aim):
    return jnp.sum((x - aim) ** 2) + jnp.sum(x**4)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adam(0.03),
        optax.sgd(0.05),
        optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(20)),
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
    # The solution is the scatter itself.
    slope = 2 * SCATTER[2, 2]
    np.testing.assert_allclose(jax.grad(entry)(0.0), slope, rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(entry)(0.0), slope, rtol=1e-6)
    np.testing.assert_allclose(jax.hessian(entry)(0.0), 2.0, rtol=1e-5)
    assert jax.grad(entry)(0.0, "none") == 0.0


def tilted(p, cost):
    return jnp.sum(p * jnp.log(p)) + cost @ p


def test_flat_directions_have_derivative_zero(eps):
    # A common shift of the logits is invisible.
    def shares(cost):
        found = Reparametrized().run(
            tilted, jnp.zeros(3), cost, parametrization=jax.nn.softmax
        )
        return found.x

    cost = jnp.array([0.0, 1.0, -0.5])
    np.testing.assert_allclose(shares(cost), jax.nn.softmax(-cost), atol=eps**0.4)
    expected = jax.jacobian(lambda c: jax.nn.softmax(-c))(cost)
    np.testing.assert_allclose(jax.jacobian(shares)(cost), expected, atol=eps**0.4)


def test_gradient_by_the_start_is_zero():
    start = jnp.full(6, 0.1)
    assert not jax.grad(lambda start: solve(start=start).x.sum())(start).any()


def test_failures_and_batches(eps):
    short = solve(solver=Reparametrized(max_steps=2))
    assert short.status == Status.MAX_STEPS
    assert short.steps == 2
    assert short.trace is None
    stuck = Reparametrized(optimizer=optax.sgd(0.0)).run(
        bowl, jnp.zeros(2), jnp.ones(2)
    )
    assert stuck.status == Status.STALLED
    away = Reparametrized(optimizer=optax.sgd(10.0)).run(bowl, jnp.ones(2), jnp.ones(2))
    assert away.status == Status.NONFINITE
    starts = jnp.stack([jnp.zeros(6), jnp.full(6, jnp.nan)])
    batch = jax.jit(jax.vmap(lambda start: solve(start=start)))(starts)
    assert batch.status.tolist() == [Status.CONVERGED, Status.NONFINITE]
    np.testing.assert_allclose(batch.x[0], solve().x, atol=100 * eps**0.5)


def test_new_values_do_not_retrace():
    traces = []

    def counted(x, aim):
        traces.append(1)
        return bowl(x, aim)

    first = Reparametrized().run(counted, jnp.zeros(2), jnp.ones(2))
    before = len(traces)
    second = Reparametrized().run(counted, jnp.ones(2), jnp.zeros(2))
    assert len(traces) == before
    assert first.value != second.value


def test_unusable_arguments_are_refused():
    with pytest.raises(ValueError, match="start must be a floating"):
        solve(start=jnp.arange(6))
    with pytest.raises(ValueError, match="differentiate='unroll'"):
        solve(differentiate="unroll")
