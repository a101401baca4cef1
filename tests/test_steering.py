"""How rows are steered: tiles of rows, types of codes, transforms, compilations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.maps import AffineMap, ConjugatedMap, DiagonalMap, Exp
from jaxsteer.nn import GroupSteer, SoftGroupSteer
from jaxsteer.steering import _by_index, _by_tiles
from tests.ideal.problems import random_univariate

RNG = np.random.default_rng(0)
tiles = jax.jit(_by_tiles, static_argnames="count")


def one_by_one(maps, x, index):
    """Each row by its own map, NaN for unknown codes."""
    count = jax.tree.leaves(maps)[0].shape[0]
    rows = []
    for point, code in zip(x, index, strict=True):
        own = jax.tree.map(lambda leaf, code=code: leaf[int(code) % count], maps)
        moved = np.asarray(own(point))
        rows.append(moved if 0 <= code < count else np.full_like(moved, np.nan))
    return np.stack(rows)


def affine_maps(count, d, out=None):
    weight = RNG.normal(size=(count, out or d, d))
    return AffineMap(
        jnp.asarray(weight), jnp.asarray(RNG.normal(size=(count, len(weight[0]))))
    )


@pytest.mark.parametrize("n", [1, 3, 40, 700])
@pytest.mark.parametrize("kind", ["affine", "narrower", "scalar", "conjugated"])
def test_tiles_move_each_row_by_its_own_map(n, kind, eps):
    count, d = 7, 3
    index = RNG.integers(-1, count + 1, n)
    if n == 40:
        index[:] = 2  # all rows of one group, several tiles
    if kind == "affine" or kind == "narrower":
        maps, x = affine_maps(count, d, 2 if kind == "narrower" else d), (n, d)
    else:
        maps = DiagonalMap(jnp.arange(1.0, count + 1), jnp.arange(count) - 2.0)
        x = (n,)
    if kind == "conjugated":
        maps = ConjugatedMap(maps, Exp())
    x = jnp.asarray(np.exp(0.2 * RNG.normal(size=x)))
    found = tiles(maps, x, jnp.asarray(index), count)
    np.testing.assert_allclose(
        found, one_by_one(maps, x, index), rtol=200 * eps, atol=200 * eps
    )


def test_gradients_through_tiles_are_those_of_each_row(eps):
    n, count, d = 50, 6, 3
    maps, x = affine_maps(count, d), jnp.asarray(RNG.normal(size=(n, d)))
    index = jnp.asarray(RNG.integers(0, count, n))

    def total(maps, x, move):
        return jnp.sum(jnp.sin(move(maps, x)))

    def gathered(maps, x):
        own = jax.tree.map(lambda leaf: leaf[index], maps)
        return jax.vmap(lambda move, point: move(point))(own, x)

    ways = [
        jax.jit(jax.grad(lambda m, x, move=move: total(m, x, move), (0, 1)))(maps, x)
        for move in (lambda m, x: _by_tiles(m, x, index, count), gathered)
    ]
    for found, expected in zip(*map(jax.tree.leaves, ways), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e3 * eps, atol=1e3 * eps)
    batch = jnp.stack([x, 2 * x])
    both = jax.vmap(lambda x: tiles(maps, x, index, count))(batch)
    np.testing.assert_allclose(
        both[1], gathered(maps, 2 * x), rtol=1e3 * eps, atol=1e3 * eps
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16])
def test_codes_of_narrow_types_do_not_overflow(dtype):
    # 100 classes by 3 groups: label * 3 + group is beyond 255.
    k, g = 100, 3
    loc = jnp.asarray(RNG.normal(size=(k, g)))
    pop = js.Population(jnp.full((k, g), 1 / (k * g)), js.Normal(loc, jnp.ones((k, g))))
    found = js.nearest_ideal(pop)
    label, group = np.repeat(np.arange(k), g), np.tile(np.arange(g), k)
    x = jnp.asarray(RNG.normal(size=k * g))
    args = (group, label)
    narrow = tuple(codes.astype(dtype) for codes in args)
    np.testing.assert_array_equal(
        found.transport(x, *narrow), found.transport(x, *args)
    )
    np.testing.assert_array_equal(
        found.row_weights(x, *narrow), found.row_weights(x, *args)
    )


@pytest.mark.parametrize("rows", [1, 40])
def test_a_layer_takes_codes_of_narrow_types(rows):
    maps = affine_maps(200, 2)
    x = jnp.asarray(RNG.normal(size=(500, rows, 2)), jnp.float32)
    group = np.arange(500) % 128
    layer = GroupSteer(maps)
    np.testing.assert_array_equal(layer(x, group.astype(np.int8)), layer(x, group))


COMPILED: list[str] = []


def _listen(event, duration, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


def compilations(run):
    """Programs compiled by a second call with arguments of the same shapes."""
    jax.block_until_ready(run())
    before = len(COMPILED)
    jax.block_until_ready(run())
    return len(COMPILED) - before


def test_a_second_call_compiles_nothing():
    pop = random_univariate(np.random.default_rng(1), 2, 2)
    found = js.nearest_ideal(pop, intervention="all_groups")
    x, label, group = pop.sample(jax.random.key(0), 20)
    assert compilations(lambda: found.transport(x, group)) == 0
    assert compilations(lambda: found.transport(x, group, label)) == 0
    assert compilations(lambda: found.transport(x, group, strength=0.5)) == 0
    assert compilations(lambda: found.row_weights(x, group, label)) == 0
    maps, points = affine_maps(2, 3), jnp.ones((6, 3), jnp.float32)
    codes = np.arange(6) % 2
    layer, soft = GroupSteer(maps), SoftGroupSteer(maps)
    assert compilations(lambda: layer(points, codes)) == 0
    assert compilations(lambda: soft(points)) == 0
    # The count is one that can fail.
    assert compilations(lambda: jax.jit(lambda x: x + 1)(points)) > 0


def test_many_groups_are_tiled_and_a_few_visit_every_row():
    def loops(count, d):
        maps, x = affine_maps(count, d), jnp.ones((1000, d))
        index = jnp.zeros(1000, jnp.int32)
        return str(
            jax.make_jaxpr(lambda *a: _by_index(*a, count=count))(maps, x, index)
        )

    assert "sort" in loops(8, 64)
    assert "sort" not in loops(2, 64)
    assert "sort" not in loops(8, 4)
