"""The Linen twins do what the NNX layers do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer import nn
from jaxsteer.maps import AffineMap, DiagonalMap, LowRankMap
from jaxsteer.nn import linen

D, G = 4, 3
rng = np.random.default_rng(0)


def draw(*shape):
    return rng.normal(size=shape).astype(np.float32)


X = draw(5, 2, D)
GROUP = np.arange(5) % G
MAPS = {
    "full": AffineMap(draw(G, D, D), draw(G, D)),
    "low_rank": LowRankMap(draw(G, D, 1), draw(G, D, 1), draw(G, D)),
    "diagonal": DiagonalMap(draw(G, D), draw(G, D)),
}
PROBE = AffineMap(draw(G, D), draw(G))


def pairs(maps, **options):
    """Each layer, its twin and what both are called with."""
    first = jax.tree.map(lambda leaf: leaf[0], maps)
    x = jnp.asarray(X)
    return [
        (nn.AffineSteer(first, **options), linen.AffineSteer(first, **options), (x,)),
        (
            nn.GroupSteer(maps, **options),
            linen.GroupSteer(maps, **options),
            (x, GROUP),
        ),
        (
            nn.SoftGroupSteer(maps, PROBE, **options),
            linen.SoftGroupSteer(maps, PROBE, **options),
            (x,),
        ),
    ]


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strength": 0.3, "trainable": True},
        pytest.param(
            {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["plain", "trainable", "bfloat16"],
)
def test_twins_agree_bit_for_bit(kind, options):
    for layer, twin, args in pairs(MAPS[kind], **options):
        variables = twin.init(jax.random.key(0), *args)
        assert set(variables) == {"params" if options.get("trainable") else "steering"}
        (fields,) = variables.values()
        for name, value in fields.items():
            np.testing.assert_array_equal(value, getattr(layer, name)[...])
        found = twin.apply(variables, *args)
        np.testing.assert_array_equal(found, layer(*args))
        doubled = twin.apply(variables, *args, strength=2.0)
        np.testing.assert_array_equal(doubled, layer(*args, strength=2.0))


def test_a_posterior_may_be_given():
    posterior = jax.nn.one_hot(GROUP, G)
    twin = linen.SoftGroupSteer(MAPS["full"], trainable_probe=True)
    variables = twin.init(jax.random.key(0), X)
    assert set(variables["params"]) == {"probe_kernel", "probe_bias"}
    found = twin.apply(variables, jnp.asarray(X), posterior)
    expected = nn.SoftGroupSteer(MAPS["full"])(jnp.asarray(X), posterior)
    np.testing.assert_array_equal(found, expected)


def test_twins_are_hashable_and_nest():
    from flax import linen as flax_linen

    class Model(flax_linen.Module):
        @flax_linen.compact
        def __call__(self, x):
            first = jax.tree.map(lambda leaf: leaf[0], MAPS["full"])
            return linen.AffineSteer(first)(flax_linen.Dense(D)(x))

    x = jnp.asarray(X)
    variables = Model().init(jax.random.key(0), x)
    assert set(variables) == {"params", "steering"}
    assert Model().apply(variables, x).shape == x.shape
    twin = linen.AffineSteer(jax.tree.map(lambda leaf: leaf[0], MAPS["full"]))
    assert hash(twin) == hash(twin)
    jitted = jax.jit(twin.apply)(twin.init(jax.random.key(0), x), x)
    assert jitted.shape == x.shape
