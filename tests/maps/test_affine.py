from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsteer.maps import AffineMap, DiagonalMap

EPS = float(jnp.finfo(jnp.result_type(float)).eps)
seeds = st.integers(0, 2**16)
few = settings(max_examples=25, deadline=None)


def affine(rng, d=3, batch=()):
    q = np.linalg.qr(rng.normal(size=(*batch, d, d)))[0]
    weight = q * rng.uniform(0.5, 2, (*batch, 1, d))
    return AffineMap(jnp.asarray(weight), jnp.asarray(rng.normal(size=(*batch, d))))


def diagonal(rng, d=3, batch=()):
    scale = rng.uniform(0.5, 2, (*batch, d)) * rng.choice([-1, 1], (*batch, d))
    return DiagonalMap(jnp.asarray(scale), jnp.asarray(rng.normal(size=(*batch, d))))


kinds = pytest.mark.parametrize("make", [affine, diagonal])


@kinds
@few
@given(seed=seeds)
def test_laws_of_composition_inverse_and_interpolation(make, seed):
    rng = np.random.default_rng(seed)
    f, g, h = make(rng), make(rng), make(rng)
    x = jnp.asarray(rng.normal(size=(5, 3)))
    atol = 500 * EPS
    np.testing.assert_allclose(f.compose(g)(x), f(g(x)), atol=atol)
    left, right = f.compose(g).compose(h), f.compose(g.compose(h))
    np.testing.assert_allclose(left(x), right(x), atol=atol)
    np.testing.assert_allclose(f.inverse()(f(x)), x, atol=atol)
    np.testing.assert_allclose(f(f.inverse()(x)), x, atol=atol)
    np.testing.assert_allclose(f.inverse().inverse()(x), f(x), atol=atol)
    strength = rng.uniform(-0.5, 1.5)
    np.testing.assert_allclose(
        f.interpolate(strength)(x), (1 - strength) * x + strength * f(x), atol=atol
    )
    np.testing.assert_allclose(f.interpolate(0.0)(x), x, atol=4 * EPS * 10)
    np.testing.assert_allclose(f.interpolate(1.0)(x), f(x), atol=atol)


@kinds
def test_inverse_of_a_composition_swaps_the_order(make):
    rng = np.random.default_rng(0)
    f, g = make(rng), make(rng)
    x = jnp.asarray(rng.normal(size=(5, 3)))
    np.testing.assert_allclose(
        f.compose(g).inverse()(x), g.inverse().compose(f.inverse())(x), atol=500 * EPS
    )


@kinds
def test_leading_axes_act_as_a_batch(make):
    rng = np.random.default_rng(1)
    f, g = make(rng, batch=(2, 4)), make(rng, batch=(4,))
    x = jnp.asarray(rng.normal(size=(7, 3)))

    def row(tree, *index):
        return jax.tree.map(lambda leaf: leaf[index], tree)

    for name, many, one in (
        ("compose", f.compose(g), row(f, 1, 2).compose(row(g, 2))),
        ("inverse", f.inverse(), row(f, 1, 2).inverse()),
        ("interpolate", f.interpolate(0.3), row(f, 1, 2).interpolate(0.3)),
    ):
        np.testing.assert_allclose(
            row(many, 1, 2)(x), one(x), atol=500 * EPS, err_msg=name
        )
    applied = jax.vmap(lambda map_: map_(x))(g)
    assert applied.shape == (4, 7, 3)
    np.testing.assert_allclose(applied[3], row(g, 3)(x), atol=20 * EPS)


@kinds
def test_pytree_round_trip_and_jit(make):
    f = make(np.random.default_rng(2))
    leaves, tree = jax.tree.flatten(f)
    assert len(leaves) == 2
    again = jax.tree.unflatten(tree, leaves)
    assert type(again) is type(f)
    x = jnp.ones((2, 3))
    np.testing.assert_array_equal(again(x), f(x))
    np.testing.assert_allclose(jax.jit(lambda m, x: m(x))(f, x), f(x), atol=20 * EPS)
    # Trees are rebuilt with placeholders while JAX traces: nothing may be validated.
    assert type(jax.tree.map(lambda _: None, f)) is type(f)
    with pytest.raises(AttributeError):
        f.bias = f.shift = 0


def test_identity():
    found = AffineMap.identity(3)
    np.testing.assert_array_equal(found(jnp.arange(3.0)), jnp.arange(3.0))
    assert AffineMap.identity(2, jnp.float16).weight.dtype == jnp.float16


def test_maps_between_dimensions_compose():
    rng = np.random.default_rng(3)
    wide = AffineMap(jnp.asarray(rng.normal(size=(2, 4))), jnp.zeros(2))
    tall = AffineMap(jnp.asarray(rng.normal(size=(4, 3))), jnp.ones(4))
    both = wide.compose(tall)
    assert both.weight.shape == (2, 3)
    x = jnp.asarray(rng.normal(size=(6, 3)))
    np.testing.assert_allclose(both(x), wide(tall(x)), atol=100 * EPS)


def test_singular_map_has_no_finite_inverse():
    assert not jnp.isfinite(
        AffineMap(jnp.zeros((2, 2)), jnp.ones(2)).inverse().weight
    ).any()
    assert jnp.isinf(DiagonalMap(jnp.zeros(2), jnp.ones(2)).inverse().scale).all()


def test_gradient_through_a_map():
    f = affine(np.random.default_rng(4))
    x = jnp.asarray(np.random.default_rng(5).normal(size=3))
    grad = jax.grad(lambda m: jnp.sum(m(x)))(f)
    assert type(grad) is AffineMap
    np.testing.assert_allclose(grad.weight, jnp.ones((3, 1)) * x, atol=4 * EPS)
    np.testing.assert_array_equal(grad.bias, jnp.ones(3))


def test_diagonal_is_an_affine_map():
    f = diagonal(np.random.default_rng(6), batch=(2,))
    full = f.to_affine()
    x = jnp.asarray(np.random.default_rng(7).normal(size=3))
    expected = f(x)
    np.testing.assert_allclose(jax.vmap(lambda m: m(x))(full), expected, atol=20 * EPS)


def test_scalar_diagonal_map():
    f = DiagonalMap(jnp.array(2.0), jnp.array(1.0))
    np.testing.assert_array_equal(f.compose(f)(jnp.array([0.0, 1.0])), [3.0, 7.0])
    np.testing.assert_array_equal(f.inverse()(jnp.array([1.0, 3.0])), [0.0, 1.0])
