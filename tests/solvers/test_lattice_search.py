from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxsteer.solvers import search_lattice
from jaxsteer.solvers._lattice_search import lattice_size

EPS = float(jnp.finfo(jnp.result_type(float)).eps)
LOW, HIGH = np.array([-4.0]), np.array([4.0])
BOX = np.array([-3.0, -3.0]), np.array([3.0, 3.0])


def wave(x, args):
    """Several basins on a line; `args` decide which is lowest."""
    return 0.1 * (x[0] - args[0]) ** 2 + args[1] * jnp.sin(3 * x[0] + args[2])


def bowls(x, args):
    """Two basins in the plane, the deeper one chosen by `args`."""
    left = jnp.sum((x - args[:2]) ** 2)
    right = jnp.sum((x + args[:2] + 0.3) ** 2) + args[2]
    return left * right / (1 + 0.2 * (left + right)) + 0.1 * left + 0.05 * x[0] * x[1]


def on_line(args, **options):
    return search_lattice(wave, args, jnp.asarray(LOW), jnp.asarray(HIGH), **options)


def in_plane(args, **options):
    return search_lattice(bowls, args, *map(jnp.asarray, BOX), **options)


LINE, PLANE = jax.jit(on_line), jax.jit(in_plane)


def line_args(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.c_[rng.uniform(-2, 2, n), rng.uniform(0.3, 1, n), rng.uniform(0, 6, n)]


def plane_args(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.c_[rng.uniform(0.6, 1.5, (n, 2)), rng.uniform(-0.5, 0.5, n)]


def wave_in_numpy(x, args):
    return 0.1 * (x[0] - args[0]) ** 2 + args[1] * np.sin(3 * x[0] + args[2])


def bowls_in_numpy(x, args):
    left = np.sum((x - args[:2]) ** 2)
    right = np.sum((x + args[:2] + 0.3) ** 2) + args[2]
    return left * right / (1 + 0.2 * (left + right)) + 0.1 * left + 0.05 * x[0] * x[1]


def brute(fn, args, low, high, points):
    ranges = tuple(zip(low, high, strict=True))
    x = optimize.brute(fn, ranges, (args,), Ns=points, finish=None)
    found = optimize.minimize(fn, np.atleast_1d(x), (args,), tol=1e-12)
    return found.x, found.fun


@pytest.mark.parametrize("args", line_args(8))
def test_best_basin_of_a_line(args):
    x, value = brute(wave_in_numpy, args, LOW, HIGH, 400)
    found = LINE(args)
    np.testing.assert_allclose(found.value, value, atol=20 * EPS)
    np.testing.assert_allclose(found.x, x, atol=max(1e-7, 10 * EPS**0.5))
    assert found.gradient_norm < 200 * EPS


@pytest.mark.parametrize("args", plane_args(6))
def test_best_basin_of_a_plane(args):
    x, value = brute(bowls_in_numpy, args, *BOX, 60)
    found = PLANE(args)
    np.testing.assert_allclose(found.value, value, atol=50 * EPS)
    np.testing.assert_allclose(found.x, x, atol=max(1e-6, 20 * EPS**0.5))
    assert found.gradient_norm < 1e3 * EPS


def test_second_basin_may_be_the_better_one():
    def teeth(x, args):
        """A narrow deep tooth whose lattice neighbors lie above a wide shallow one."""
        narrow = -1.2 * jnp.exp(-(((x[0] - args) / 0.08) ** 2))
        return narrow - jnp.exp(-((x[0] + 1.5) ** 2)) + 0.01 * x[0] ** 2

    middle = np.linspace(-4, 4, 48)[30] + 0.06  # off the lattice, so it looks shallow
    run = partial(search_lattice, teeth, jnp.asarray(middle))
    box = jnp.asarray(LOW), jnp.asarray(HIGH)
    one, two = (run(*box, basins=k, steps=20) for k in (1, 2))
    np.testing.assert_allclose(one.x, [-1.5], atol=0.05)
    np.testing.assert_allclose(two.x, [middle], atol=0.01)
    assert two.value < one.value


def test_newton_may_leave_the_box():
    found = search_lattice(
        lambda x, a: jnp.sum((x - a) ** 2), 5.0, jnp.asarray(LOW), jnp.asarray(HIGH)
    )
    np.testing.assert_allclose(found.x, [5.0], rtol=10 * EPS)


def test_steps_are_a_limit():
    args = line_args(1)[0]
    one, many = on_line(args, steps=1), LINE(args)
    assert one.steps == 1
    assert 1 < many.steps <= 8
    assert one.gradient_norm > many.gradient_norm
    assert 1 < PLANE(plane_args(1)[0]).steps <= 30


@pytest.mark.parametrize("m", [7, 19])
def test_many_variables_take_no_more_points(m):
    # Two basins along the diagonal, the lower one by the tilt.
    def fn(x, tilt):
        return jnp.sum((x**2 - 1) ** 2) / m + tilt * jnp.mean(x)

    assert lattice_size(6) == 3
    assert lattice_size(m) == 1
    box = -2 * jnp.ones(m), 2 * jnp.ones(m)
    search = jax.jit(partial(search_lattice, fn, steps=100))
    memory = search.lower(jnp.asarray(0.2), *box).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4e6
    found = search(jnp.asarray(0.2), *box)
    assert found.gradient_norm < 1e3 * EPS
    # Lower than where a blind start ends, with half of the variables in each basin: 12
    # of 19 are in the lower one, for 2,048 points are few in so many variables.
    assert jnp.mean(found.x < 0) > 0.6


@pytest.mark.parametrize("search", [on_line, in_plane])
def test_implicit_equals_unrolled_equals_by_hand(search):
    fn, args = (wave, line_args(1)) if search is on_line else (bowls, plane_args(1))
    args = jnp.asarray(args[0])

    @jax.jit
    def all_ways(args):
        slopes = [
            mode(lambda a, k=k: search(a, differentiate=k).x)(args)
            for mode, k in (
                (jax.jacrev, "implicit"),
                (jax.jacfwd, "unroll"),  # compiles in half the time
                (jax.jacrev, "none"),
            )
        ]
        x = search(args).x
        hessian = jax.hessian(fn)(x, args)
        across = jax.jacfwd(jax.grad(fn), 1)(x, args)
        return slopes, jax.jacfwd(lambda a: search(a).x)(args), hessian, across

    (implicit, unrolled, none), forward, hessian, across = all_ways(args)
    expected = -np.linalg.solve(np.asarray(hessian, float), np.asarray(across, float))
    rtol = max(1e-6, 20 * EPS**0.5)  # x itself is known to the root of the rounding
    np.testing.assert_allclose(implicit, expected, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(unrolled, expected, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(forward, implicit, atol=1e3 * EPS)
    assert not none.any()


def test_slope_of_the_value_is_that_at_a_fixed_point():
    args = jnp.asarray(line_args(1)[0])
    both = [
        jax.jit(jax.grad(lambda a, k=k: on_line(a, differentiate=k).value))(args)
        for k in ("implicit", "none")
    ]
    expected = jax.grad(wave, 1)(LINE(args).x, args)
    np.testing.assert_allclose(both[0], expected, atol=500 * EPS)
    assert not both[1].any()


def test_batch_equals_one_at_a_time_and_a_bad_row_stays_alone():
    args = line_args(5)
    args[2] = np.nan
    found = jax.jit(jax.vmap(on_line))(args)
    for k in (0, 1, 3, 4):
        np.testing.assert_allclose(found.x[k], LINE(args[k]).x, atol=10 * EPS**0.5)
        np.testing.assert_allclose(found.value[k], LINE(args[k]).value, atol=20 * EPS)
    assert np.isnan(found.value[2])


def test_new_values_are_not_traced_again():
    traces = []

    def counted(x, args):
        traces.append(1)
        return wave(x, args)

    run = jax.jit(partial(search_lattice, counted))
    run(line_args(1)[0], LOW, HIGH)
    once = len(traces)
    assert once > 0
    run(line_args(1, seed=1)[0], LOW - 1, HIGH + 1)
    assert len(traces) == once


def test_unknown_derivative_is_refused():
    with pytest.raises(ValueError, match="differentiate='exact' is not known; choose"):
        on_line(line_args(1)[0], differentiate="exact")
