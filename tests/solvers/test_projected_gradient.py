from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsteer.solvers import ProjectedGradient, Status, minimize_on_simplex

RANDOM = np.random.default_rng(0)
FACTOR = RANDOM.normal(size=(6, 4)) * np.array([1.0, 1.0, 2.0, 3.0])
ARGS = {"hessian": FACTOR.T @ FACTOR / 6, "linear": np.array([1.0, -2.0, 0.5, 3.0])}
START = np.array([1.0, 0.0, 2.0, 0.5])
DEFAULT = ProjectedGradient()


def quadratic(x, args):
    return 0.5 * x @ args["hessian"] @ x - args["linear"] @ x


def bend(x, args):
    return quadratic(x, args) + jnp.sum(jnp.cosh(x * args["linear"]))


def box(x):
    return jnp.clip(x, 0.0, 1.0)


def real(tree):
    return jax.tree.map(jnp.asarray, tree)


def run(args=ARGS, start=START, solver=DEFAULT, fn=quadratic, **options):
    options = {"projection": box} | options
    return solver.run(fn, jnp.asarray(start), real(args), **options)


def enumerated(args):
    """The box-constrained minimum by trying every active set."""
    best, lowest = None, np.inf
    for code in range(3**4):
        x = np.array([(code // 3**i) % 3 for i in range(4)], float)
        free = x == 2
        x[free] = 0.0
        right = args["linear"] - args["hessian"] @ x
        inner = args["hessian"][np.ix_(free, free)]
        x[free] = np.linalg.solve(inner, right[free])
        value = 0.5 * x @ args["hessian"] @ x - args["linear"] @ x
        if (x >= 0).all() and (x <= 1).all() and value < lowest:
            best, lowest = x, value
    return best, lowest


CASES = {
    "default": DEFAULT,
    "plain": ProjectedGradient(acceleration=False),
    "fixed": ProjectedGradient(step_size=0.05),
    "schedule": ProjectedGradient(step_size=optax.cosine_decay_schedule(0.1, 1000)),
}


@pytest.mark.parametrize("name", CASES)
def test_box_constrained_quadratic_by_enumeration(name, eps):
    x, value = enumerated(ARGS)
    assert 0 < ((x > 0) & (x < 1)).sum() < 4
    found = run(solver=CASES[name])
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.x, x, atol=50 * eps**0.5)
    np.testing.assert_allclose(found.value, value, rtol=100 * eps)
    assert found.x.dtype == found.residual.dtype == jnp.zeros(()).dtype
    assert found.steps.dtype == found.status.dtype == jnp.int32


def test_residual_is_the_documented_one(eps):
    solver = ProjectedGradient(step_size=0.05, tolerance=0.01)
    found = run(solver=solver)
    slope = jax.grad(quadratic)
    moved = box(found.x - 0.05 * slope(found.x, real(ARGS)))
    scale = 1 + jnp.linalg.norm(slope(box(START), real(ARGS)))
    expected = jnp.linalg.norm(moved - found.x) / 0.05 / scale
    np.testing.assert_allclose(found.residual, expected, rtol=1e3 * eps / 0.01)
    assert 0 < found.residual <= 0.01


def test_acceleration_saves_steps():
    args = ARGS | {"hessian": np.diag([1.0, 10.0, 100.0, 1000.0])}
    slow = run(args, solver=CASES["plain"], projection=lambda x: x)
    fast = run(args, projection=lambda x: x)
    assert fast.converged
    assert fast.steps < 0.5 * slow.steps


def test_scipy_agrees_on_a_bent_function():
    optimize = pytest.importorskip("scipy.optimize", reason="the oracle is SciPy")

    def value(x):
        bent = np.cosh(x * ARGS["linear"]).sum()
        return 0.5 * x @ ARGS["hessian"] @ x - ARGS["linear"] @ x + bent

    peer = optimize.minimize(value, np.full(4, 0.5), bounds=[(0, 1)] * 4, tol=1e-12)
    found = run(fn=bend)
    assert found.converged
    np.testing.assert_allclose(found.x, peer.x, atol=2e-3)
    np.testing.assert_allclose(found.value, peer.fun, rtol=1e-6)


def matrix_distance(x, args):
    return 0.5 * jnp.sum((x - args) ** 2)


def upper(x):
    return jnp.triu(x)


def test_arrays_of_any_shape_and_no_constraint(eps):
    aim = jnp.asarray(RANDOM.normal(size=(3, 3)))
    found = DEFAULT.run(matrix_distance, jnp.zeros((3, 3)), aim, projection=upper)
    np.testing.assert_allclose(found.x, np.triu(aim), atol=10 * eps**0.5)
    free = DEFAULT.run(matrix_distance, jnp.zeros((3, 3)), aim)
    np.testing.assert_allclose(free.x, aim, atol=10 * eps**0.5)


TIGHT = ProjectedGradient(tolerance=1e-12, max_steps=200)


def entry(t, differentiate):
    args = ARGS | {"linear": ARGS["linear"] + t * np.array([1.0, 0.0, 0.0, 0.5])}
    x = run(args, solver=TIGHT, fn=bend, differentiate=differentiate).x
    return x @ jnp.array([1.0, 2.0, 3.0, 4.0])


@jax.jit
def slopes(t):
    """Forward, reverse and second derivatives in one program."""

    def reverse(t):
        value, slope = jax.value_and_grad(entry)(t, "implicit")
        return (value, slope), slope

    (forward, second), slope = jax.jacfwd(reverse, has_aux=True)(t)
    return forward, slope, second


def test_derivatives_agree(x64):
    def frozen(t):
        return jax.jvp(lambda t: entry(t, "none"), (t,), (1.0,))

    frozen = jax.jit(frozen)
    h = 1e-4
    finite = (frozen(h)[0] - frozen(-h)[0]) / (2 * h)
    assert abs(finite) > 0.01
    forward, slope, second = slopes(0.0)
    unrolled = jax.jit(jax.grad(entry), static_argnums=1)(0.0, "unroll")
    np.testing.assert_allclose([forward, slope, unrolled], finite, rtol=1e-6)
    assert frozen(0.0)[1] == 0.0
    finite = (slopes(h)[1] - slopes(-h)[1]) / (2 * h)
    assert abs(finite) > 0.01
    np.testing.assert_allclose(second, finite, rtol=1e-5)


def test_implicit_derivatives_are_not_damped(eps):
    # Curvatures 1 to 1000: the damping, sqrt(eps), exceeds a tenth of their ratio.
    stiff = np.array([1.0, 10.0, 100.0, 1000.0])
    args = {"hessian": jnp.diag(stiff), "linear": jnp.asarray(ARGS["linear"])}

    def point(linear):
        args["linear"] = linear
        return DEFAULT.run(quadratic, jnp.ones(4), args).x

    jacobian = jax.jit(jax.jacrev(point))(args["linear"])
    damping = eps**0.5
    # The step size is at least half the inverse of the largest curvature.
    left = (damping / (damping + 0.5 * stiff / 1000)) ** 3
    np.testing.assert_allclose(np.diag(jacobian) * stiff - 1, 0, atol=0.03)
    assert (np.abs(np.diag(jacobian) * stiff - 1) <= left + 500 * eps).all()


def test_gradients_of_value_and_start():
    def value(args, start):
        found = run(args, start)
        return found.value, found.x

    slope = jax.jit(jax.grad(value, (0, 1), has_aux=True))
    (by_args, by_start), x = slope(real(ARGS), jnp.asarray(START))
    # Envelope theorem: the point's own move does not matter.
    np.testing.assert_allclose(by_args["linear"], -x, atol=1e-3)
    assert not by_start.any()


def test_the_start_has_no_derivative_when_unrolled():
    solver = ProjectedGradient(max_steps=2)

    def total(start):
        return run(start=start, solver=solver, differentiate="unroll").x.sum()

    assert not jax.jit(jax.grad(total))(START).any()


def cancelling(x, args):
    return x @ args @ x


def test_rounding_of_the_values_does_not_stop_the_search(x64):
    # The value is small by cancellation; its rounding error is that of the terms.
    for seed in (3, 44):
        a = np.random.default_rng(seed).normal(size=(8, 10))
        found = minimize_on_simplex(
            cancelling, jnp.full(8, 0.125), jnp.asarray(a @ a.T / 10), tolerance=2e-12
        )
        assert found.status == Status.CONVERGED
        assert found.steps < 500


def test_the_set_may_be_closed_over(x64):
    @jax.jit
    @jax.value_and_grad
    def sides(high):
        return run(projection=lambda x: jnp.clip(x, 0.0, high), solver=TIGHT).x.sum()

    # The first entry would end at 0.738 and is stopped at 0.72, the last one is free.
    h = 1e-4
    finite = (sides(0.72 + h)[0] - sides(0.72 - h)[0]) / (2 * h)
    hessian = ARGS["hessian"]
    expected = 1 - hessian[0, 3] / hessian[3, 3]
    np.testing.assert_allclose(finite, expected, rtol=1e-6)
    np.testing.assert_allclose(sides(0.72)[1], expected, rtol=1e-6)


def chain(x, args):
    inner = jnp.sum((x[1:] - x[:-1]) ** 2) + jnp.sum(x**2)
    return 0.5 * inner - args @ x


def test_implicit_gradient_of_many_unknowns(eps):
    n = 300
    aim = jnp.asarray(RANDOM.normal(size=n))

    def total(aim):
        x = DEFAULT.run(chain, jnp.zeros(n), aim, projection=nonnegative).x
        return jnp.sum(x * jnp.cos(jnp.arange(n))), x

    gradient, x = jax.jit(jax.grad(total, has_aux=True))(aim)
    x = np.asarray(x)
    links = np.diff(np.eye(n), axis=0)
    hessian = np.eye(n) + links.T @ links
    free = x > 0
    expected = np.zeros(n)
    inner = hessian[np.ix_(free, free)]
    expected[free] = np.linalg.solve(inner, np.cos(np.arange(n))[free])
    np.testing.assert_allclose(gradient, expected, atol=100 * eps**0.5)


def nonnegative(x):
    return jnp.maximum(x, 0.0)


@pytest.mark.parametrize("differentiate", ["implicit", "unroll"])
def test_nan_start_and_step_limit(differentiate):
    solver = ProjectedGradient(max_steps=2, trace=True)
    broken = run(start=START * np.nan, solver=solver, differentiate=differentiate)
    assert broken.status == Status.NONFINITE
    short = run(solver=solver, differentiate=differentiate)
    assert short.status == Status.MAX_STEPS
    assert short.steps == 2
    assert np.isfinite(short.residual)


def test_divergence_is_no_success():
    found = run(solver=ProjectedGradient(step_size=10.0), projection=lambda x: x)
    assert found.status == Status.NONFINITE


def test_trace_has_fixed_length():
    solver = ProjectedGradient(max_steps=300, trace=True, acceleration=False)
    found = run(solver=solver)
    steps = int(found.steps)
    assert found.trace.shape == (300,)
    # The last entry is the residual that ended the search.
    assert np.isfinite(found.trace[: steps + 1]).all()
    assert np.isnan(found.trace[steps + 1 :]).all()
    np.testing.assert_allclose(found.trace[steps], found.residual, rtol=1e-2)
    assert run().trace is None


def test_batch_contains_failures_and_new_values_do_not_retrace(eps):
    traces = []

    def counted(x, args):
        traces.append(1)
        return quadratic(x, args)

    first = run(fn=counted)
    before = len(traces)
    second = run(ARGS | {"linear": -ARGS["linear"]}, start=START + 1, fn=counted)
    assert len(traces) == before
    assert first.value != second.value
    starts = np.stack([START, START * np.nan, START + 1])
    batch = jax.jit(jax.vmap(lambda start: run(start=start)))(jnp.asarray(starts))
    codes = [Status.CONVERGED, Status.NONFINITE, Status.CONVERGED]
    assert batch.status.tolist() == codes
    for row in (0, 2):
        one = run(start=starts[row])
        np.testing.assert_allclose(batch.x[row], one.x, atol=50 * eps**0.5)
        np.testing.assert_allclose(batch.value[row], one.value, rtol=100 * eps)


def test_unusable_arguments_are_refused():
    with pytest.raises(ValueError, match="start must be a floating"):
        run(start=np.arange(4))
    with pytest.raises(ValueError, match="differentiate='no'"):
        run(differentiate="no")
