"""Lanes: every row is advanced until it is done, and no further."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer.solvers import _lanes
from jaxsteer.solvers._lanes import WIDEST, Packing, run_in_lanes

enable_x64 = (
    jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
)


class State(NamedTuple):
    left: jax.Array
    total: jax.Array
    done: jax.Array


def count_down(n, step):
    """Adds `step` ``n`` times."""

    def begin(problem):
        n, _ = problem
        return State(n, jnp.zeros(()), n <= 0)

    def advance(state, problem):
        left = state.left - 1
        return State(left, state.total + problem[1], left <= 0)

    return run_in_lanes(begin, advance, lambda state: state.total, (n, step))


N = jnp.asarray(np.random.default_rng(0).integers(0, 200, 70))
STEP = jnp.linspace(1.0, 2.0, 70)


def test_rows_of_any_length_end_with_their_own_sum():
    found = jax.jit(jax.vmap(count_down))(N, STEP)
    np.testing.assert_allclose(found, N * STEP, rtol=1e-5)
    alone = [float(count_down(n, s)) for n, s in zip(N[:3], STEP[:3], strict=True)]
    np.testing.assert_allclose(found[:3], alone, rtol=1e-6)


def test_nested_batches_and_values_that_no_axis_changes():
    nested = jax.vmap(jax.vmap(count_down, in_axes=(0, None)), in_axes=(0, 0))
    found = nested(N.reshape(7, 10), STEP[:7])
    np.testing.assert_allclose(found, N.reshape(7, 10) * STEP[:7, None], rtol=1e-5)


def test_few_problems_and_large_ones(monkeypatch):
    few = jax.vmap(count_down)(N[:20], STEP[:20])
    np.testing.assert_allclose(few, N[:20] * STEP[:20], rtol=1e-5)
    monkeypatch.setattr(_lanes, "LARGE", 1)
    large = jax.vmap(count_down)(N[:3], STEP[:3])
    np.testing.assert_allclose(large, N[:3] * STEP[:3], rtol=1e-5)


def test_no_row_is_in_two_lanes():
    seen = []

    def watch(row):
        seen.append(np.array(row))
        return np.array(row)

    def advance(state, problem):
        left, row = state.left - 1, problem[1]
        told = jax.pure_callback(watch, row, row, vmap_method="expand_dims")
        return State(left, told, left <= 0)

    def problem(n, row):
        return run_in_lanes(
            lambda problem: State(*problem, problem[0] <= 0),
            advance,
            lambda state: state.total,
            (n, row),
        )

    rows = jnp.arange(len(N))
    np.testing.assert_array_equal(jax.vmap(problem)(N, rows), rows)
    assert len(seen) > len(N) // WIDEST
    assert all(len(np.unique(lanes)) == lanes.size for lanes in seen)


def test_strict_promotion_of_dtypes():
    with enable_x64(True), jax.numpy_dtype_promotion("strict"):
        n, step = np.asarray(N, np.int32), np.asarray(STEP, np.float32)

        def counted(n, step):
            return run_in_lanes(
                lambda problem: State(problem[0], 0 * problem[1], problem[0] <= 0),
                lambda state, problem: State(
                    state.left - 1, state.total + problem[1], state.left <= 1
                ),
                lambda state: state.total,
                (n, step),
            )

        assert jax.eval_shape(jax.vmap(counted), n, step).dtype == jnp.float32


def test_derivatives_stop_at_a_search():
    slope = jax.grad(lambda s: jnp.sum(jax.vmap(count_down)(N[:4], s)))(STEP[:4])
    assert not slope.any()


def test_packing_gives_back_what_it_got():
    tree = {
        "a": jnp.arange(6.0).reshape(2, 3),
        "b": jnp.array([True, False]),
        "c": jnp.asarray(7),
    }
    packing = Packing.of(tree)
    back = packing.unpack(packing.pack(tree))
    jax.tree.map(np.testing.assert_array_equal, tree, back)
    assert jax.tree.map(lambda leaf: leaf.dtype, tree) == jax.tree.map(
        lambda leaf: leaf.dtype, back
    )
