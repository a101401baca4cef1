"""The NNX layers: the maps they apply, exactness, precision and what they refuse."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsteer.maps import AffineMap, DiagonalMap, LowRankMap
from jaxsteer.nn import AffineSteer, GroupSteer, SoftGroupSteer

D, G, R = 5, 3, 2
KINDS = ("full", "low_rank", "diagonal")


def draw(*shape, seed=0, scale=1.0):
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape))


def maps_of(kind, batch=(G,)):
    """Maps with leading axes `batch`, of one kind."""
    bias = draw(*batch, D, seed=1)
    if kind == "full":
        return AffineMap(jnp.eye(D) + draw(*batch, D, D, seed=2, scale=0.3), bias)
    if kind == "low_rank":
        return LowRankMap(draw(*batch, D, R, seed=3), draw(*batch, D, R, seed=4), bias)
    return DiagonalMap(1 + draw(*batch, D, seed=5, scale=0.3), bias)


def pick(maps, group):
    return jax.tree.map(lambda leaf: leaf[group], maps)


def apply_each(maps, x, group):
    """The plain way: one example at a time."""
    return jnp.stack([pick(maps, g)(row) for row, g in zip(x, group, strict=True)])


def bits(x):
    return np.asarray(x).view(np.uint8)


def layer_dtype():
    return jnp.result_type(float)


@pytest.fixture
def close(eps):
    def check(found, expected):
        np.testing.assert_allclose(found, expected, rtol=0, atol=200 * eps)

    return check


@pytest.mark.parametrize("kind", KINDS)
def test_one_map_for_every_row(kind, close):
    map_ = maps_of(kind, ())
    layer = AffineSteer(map_, param_dtype=layer_dtype())
    x = draw(2, 4, D)
    expected = jnp.stack([jnp.stack([map_(row) for row in rows]) for rows in x])
    close(layer(x), expected)
    close(layer(x[0, 0]), expected[0, 0])
    half = AffineSteer(map_, strength=0.5, param_dtype=layer_dtype())
    close(half(x), (x + expected) / 2)
    close(layer(x, strength=2.0), 2 * expected - x)
    each = layer(x, strength=jnp.array([0.0, 1.0]))
    assert (bits(each[0]) == bits(x[0])).all()
    close(each[1], expected[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_gives_its_map_back(kind, close):
    map_ = maps_of(kind, ())
    back = AffineSteer(map_, param_dtype=layer_dtype()).to_map()
    assert type(back) is type(map_)
    jax.tree.map(close, back, map_)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n", "rows"),
    # Few examples, and many rows each: maps are gathered. Many examples of a row each:
    # every map is applied and one row taken.
    [(2, ()), (4, (40,)), (9, ()), (9, (2, 2))],
)
def test_each_example_is_moved_by_the_map_of_its_group(kind, n, rows, close):
    maps, x = maps_of(kind), draw(n, *rows, D, seed=7)
    group = jnp.arange(n) * 2 % G
    layer = GroupSteer(maps, param_dtype=layer_dtype())
    close(layer(x, group), apply_each(maps, x, group))
    close(layer(x, jnp.array(1)), apply_each(maps, x, [1] * n))
    assert (bits(layer(x, group, strength=0.0)) == bits(x)).all()


def test_groups_may_differ_from_token_to_token(close):
    maps, x = maps_of("full"), draw(2, 6, D)
    group = jnp.arange(12).reshape(2, 6) % G
    found = GroupSteer(maps, param_dtype=layer_dtype())(x, group)
    expected = apply_each(maps, x.reshape(12, D), group.ravel()).reshape(x.shape)
    close(found, expected)


@pytest.mark.parametrize("n", [2, 9])
def test_under_jit_an_unknown_group_is_left_alone(n):
    maps, x = maps_of("full"), draw(n, D)
    layer = GroupSteer(maps)
    group = jnp.array([-1, G] + [0] * (n - 2))
    found = nnx.jit(lambda layer, x, group: layer(x, group))(layer, x, group)
    assert (bits(found[:2]) == bits(x[:2])).all()
    with pytest.raises(ValueError, match=r"group has codes from -1"):
        layer(x, group)


@pytest.mark.parametrize("kind", KINDS)
def test_soft_groups_average_the_maps(kind, close):
    maps, x = maps_of(kind), draw(4, 3, D)
    probe = AffineMap(draw(G, D, seed=8), draw(G, seed=9))
    layer = SoftGroupSteer(maps, probe, param_dtype=layer_dtype())
    share = jax.nn.softmax(x @ probe.weight.T + probe.bias)
    close(layer.posterior(x), share)
    every = jnp.stack([pick(maps, g)(x.reshape(-1, D)) for g in range(G)], 1)
    every = every.reshape(4, 3, G, D)
    close(layer(x), jnp.einsum("btg,btgd->btd", share, every))
    # A posterior for each example, and one that is sure: that group's map.
    sure = jax.nn.one_hot(jnp.array([0, 1, 2, 0]), G)
    close(layer(x, sure), apply_each(maps, x, [0, 1, 2, 0]))
    equal = SoftGroupSteer(maps, param_dtype=layer_dtype())
    close(equal(x), every.mean(2))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_identity_changes_no_bit(dtype):
    x = jnp.asarray(draw(64, D, scale=100.0), dtype)
    one = AffineMap.identity(D)
    maps = jax.tree.map(lambda leaf: jnp.stack([leaf] * G), one)
    group = jnp.arange(64) % G
    settings = [{}, {"param_dtype": jnp.bfloat16}, {"dtype": jnp.bfloat16}]
    for options in settings:
        layers = (
            AffineSteer(one, **options),
            AffineSteer(LowRankMap.identity(D, rank=1), **options),
            AffineSteer(DiagonalMap(jnp.ones(D), jnp.zeros(D)), **options),
            SoftGroupSteer(maps, AffineMap(draw(G, D), draw(G)), **options),
        )
        found = [layer(x) for layer in layers]
        found.append(GroupSteer(maps, **options)(x, group))
        for y in found:
            assert y.dtype == x.dtype
            assert (bits(y) == bits(x)).all()


def test_bfloat16_keeps_maps_that_are_near_the_identity():
    # 1 + 1/512 is 1 in bfloat16; the residual 1/512 is itself.
    map_ = DiagonalMap(jnp.full(D, 1 + 1 / 512), jnp.zeros(D)).to_affine()
    layer = AffineSteer(map_, param_dtype=jnp.bfloat16)
    assert layer.kernel[...].dtype == jnp.bfloat16
    assert jnp.bfloat16(1 + 1 / 512) == 1
    np.testing.assert_allclose(layer(jnp.ones(D, jnp.float32)), 1 + 1 / 512, rtol=1e-6)


def test_bfloat16_sums_are_accumulated_in_float32():
    n = 4096
    many = LowRankMap(jnp.ones((n, 1)) / n, jnp.ones((n, 1)), jnp.zeros(n))
    x = jnp.ones((1, n), jnp.bfloat16)
    # Summed in bfloat16 the 4,096 ones would stop at 256.
    found = AffineSteer(many, param_dtype=jnp.bfloat16)(x)
    np.testing.assert_array_equal(np.asarray(found, np.float32), 2.0)


def test_dtype_and_param_dtype():
    map_, x = maps_of("full", ()), draw(100, D).astype(jnp.float32)
    exact = AffineSteer(map_)(x)
    rounded = AffineSteer(map_, dtype=jnp.bfloat16)(x)
    assert rounded.dtype == jnp.float32
    error = float(jnp.abs(rounded - exact).max())
    assert 1e-4 < error < 0.1
    assert AffineSteer(map_).kernel[...].dtype == jnp.float32
    low = jax.lax.Precision.DEFAULT
    assert AffineSteer(map_, precision=low)(x).shape == x.shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AffineSteer(AffineMap(jnp.ones((2, 3)), jnp.ones(2))), "d, d"),
        (lambda: AffineSteer(maps_of("full")), "GroupSteer"),
        (lambda: GroupSteer(maps_of("full", ())), r"leading axis \[G\]"),
        (lambda: AffineSteer(DiagonalMap(jnp.ones(()), jnp.ones(()))), "scalars"),
        (lambda: AffineSteer(jnp.sin), "AffineMap"),
        (
            lambda: SoftGroupSteer(maps_of("full"), maps_of("full", ())),
            "one row of logits",
        ),
        (lambda: AffineSteer(maps_of("full", ()))(draw(2, D + 1)), "move 5 features"),
        (
            lambda: AffineSteer(maps_of("full", ()))(jnp.ones((2, D), jnp.int32)),
            "floating-point",
        ),
        (lambda: GroupSteer(maps_of("full"))(draw(2, D)), "set_groups"),
        (
            lambda: GroupSteer(maps_of("full"))(draw(2, D), jnp.zeros(3, int)),
            "one entry an example",
        ),
        (
            lambda: SoftGroupSteer(maps_of("full"))(draw(2, D), jnp.ones((2, G + 1))),
            "3 entries",
        ),
        (
            lambda: AffineSteer(maps_of("full", ()))(draw(2, D), strength=jnp.ones(3)),
            "strength has shape",
        ),
    ],
)
def test_refusals_say_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()
