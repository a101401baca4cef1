from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsteer.maps import AffineMap, ConjugatedMap, DiagonalMap, Exp

EPS = float(jnp.finfo(jnp.result_type(float)).eps)


def test_exp_and_its_inverse_and_slope():
    z = jnp.linspace(-5, 5, 11)
    x = Exp().forward(z)
    np.testing.assert_allclose(x, np.exp(np.asarray(z, float)), rtol=20 * EPS)
    np.testing.assert_allclose(Exp().inverse(x), z, atol=20 * EPS)
    slope = jax.vmap(jax.grad(Exp().forward))(z)
    np.testing.assert_allclose(Exp().log_slope(z), jnp.log(slope), atol=20 * EPS)


def test_exp_has_no_inverse_at_or_below_zero():
    assert jnp.isnan(Exp().inverse(jnp.array([0.0, -1.0]))).all()
    # One bad entry leaves the gradient of the others finite.
    grad = jax.grad(lambda x: Exp().inverse(x)[0])(jnp.array([2.0, 0.0]))
    np.testing.assert_array_equal(grad, [0.5, 0.0])


def bases(rng):
    scale, shift = rng.uniform(0.5, 1.5, 3), rng.normal(size=3)
    yield DiagonalMap(jnp.asarray(scale), jnp.asarray(shift))
    q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    yield AffineMap(jnp.asarray(q * scale), jnp.asarray(shift))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_laws(seed):
    rng = np.random.default_rng(seed)
    x = jnp.asarray(np.exp(rng.normal(size=(4, 3))))
    for base, other in zip(bases(rng), bases(rng), strict=True):
        f, g = ConjugatedMap(base, Exp()), ConjugatedMap(other, Exp())
        rtol = 2000 * EPS
        expected = jnp.exp(base(jnp.log(x)))
        np.testing.assert_allclose(f(x), expected, rtol=rtol)
        np.testing.assert_allclose(f.compose(g)(x), f(g(x)), rtol=rtol)
        np.testing.assert_allclose(f.inverse()(f(x)), x, rtol=rtol)
        np.testing.assert_allclose(f.interpolate(0.0)(x), x, rtol=rtol)
        np.testing.assert_allclose(f.interpolate(1.0)(x), f(x), rtol=rtol)
        half = jnp.sqrt(x * f(x))  # the geometric mean: halfway in base coordinates
        np.testing.assert_allclose(f.interpolate(0.5)(x), half, rtol=rtol)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_values_outside_the_range_are_nan(value):
    f = ConjugatedMap(DiagonalMap(jnp.array(1.0), jnp.array(0.0)), Exp())
    assert jnp.isnan(f(jnp.array(value)))


def test_pytree_round_trip_vmap_and_grad():
    base = DiagonalMap(jnp.array([1.0, 2.0]), jnp.array([0.0, 0.5]))
    f = ConjugatedMap(base, Exp())
    leaves, tree = jax.tree.flatten(f)
    assert len(leaves) == 2
    again = jax.tree.unflatten(tree, leaves)
    assert isinstance(again.bijection, Exp)
    x = jnp.array([1.0, 3.0])
    np.testing.assert_array_equal(again(x), f(x))
    np.testing.assert_allclose(jax.vmap(lambda m, x: m(x))(f, x), f(x), rtol=8 * EPS)
    # d/dshift exp(scale log x + shift) is the value itself.
    grad = jax.grad(lambda m: jnp.sum(m(x)))(f)
    np.testing.assert_allclose(grad.base.shift, f(x), rtol=8 * EPS)
