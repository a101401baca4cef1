from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.maps import AffineMap, LowRankMap

EPS = float(jnp.finfo(jnp.result_type(float)).eps)
D, R = 5, 2


def low_rank(seed, batch=(), rank=R):
    rng = np.random.default_rng(seed)
    u, v = (jnp.asarray(0.4 * rng.normal(size=(*batch, D, rank))) for _ in range(2))
    return LowRankMap(u, v, jnp.asarray(rng.normal(size=(*batch, D))))


def points(seed=9, n=6):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, D)))


def close(found, expected, factor=500):
    np.testing.assert_allclose(found, expected, atol=factor * EPS)


def row(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


@pytest.mark.parametrize("seed", range(3))
def test_every_operation_equals_the_dense_one(seed):
    f, g, x = low_rank(seed), low_rank(seed + 10, rank=3), points()
    dense, other = f.to_dense(), g.to_dense()
    close(f(x), dense(x))
    for found, expected in (
        (f.compose(g), dense.compose(other)),
        (f.inverse(), dense.inverse()),
        (f.interpolate(0.3), dense.interpolate(0.3)),
        (f.inverse().compose(f), AffineMap.identity(D)),
    ):
        assert isinstance(found, LowRankMap)
        close(found.to_dense().weight, expected.weight)
        close(found.to_dense().bias, expected.bias)
    assert f.compose(g).rank == R + 3
    assert f.n_features(0) == D


def test_compositions_with_dense_maps_are_dense():
    f, x = low_rank(0), points()
    other = AffineMap(jnp.asarray(np.random.default_rng(1).normal(size=(D, D))), x[0])
    for found in (f.compose(other), f.to_dense().compose(other)):
        assert isinstance(found, AffineMap)
        close(found(x), f(other(x)))
    close(other.compose(f)(x), other(f(x)))
    wide = AffineMap(other.weight[:, :3], x[0])
    close(f.compose(wide)(x[:, :3]), f(wide(x[:, :3])))


def test_leading_axes_act_as_a_batch():
    f, g, x = low_rank(2, (2, 3)), low_rank(3, (3,)), points()
    for many, one in (
        (f.compose(g), row(f, 1, 2).compose(row(g, 2))),
        (f.inverse(), row(f, 1, 2).inverse()),
        (f.interpolate(0.3), row(f, 1, 2).interpolate(0.3)),
        (f.to_dense(), row(f, 1, 2).to_dense()),
    ):
        close(row(many, 1, 2)(x), one(x))
    applied = jax.jit(jax.vmap(lambda m: m(x)))(g)
    close(applied[1], row(g, 1)(x))


def test_from_dense_is_exact_and_finds_the_rank():
    f, x = low_rank(4), points()
    found = LowRankMap.from_dense(f.to_dense())
    assert found.rank == R
    close(found(x), f(x))
    assert LowRankMap.from_dense(AffineMap.identity(D)).rank == 0
    full = AffineMap(jnp.asarray(np.random.default_rng(0).normal(size=(D, D))), x[0])
    assert LowRankMap.from_dense(full).rank == D
    batch = low_rank(5, (3,)).to_dense()
    close(row(LowRankMap.from_dense(batch), 2)(x), row(batch, 2)(x))
    wide = LowRankMap.from_dense(f.to_dense(), rank=4)
    assert wide.rank == 4
    close(wide(x), f(x))
    jitted = jax.jit(lambda m: LowRankMap.from_dense(m, rank=R))(f.to_dense())
    close(jitted(x), f(x))


def test_from_dense_refuses_what_is_not_exact():
    dense = low_rank(6).to_dense()
    with pytest.raises(ValueError, match=r"rank=1 is too small: .* in 2 directions"):
        LowRankMap.from_dense(dense, rank=1)
    with pytest.raises(ValueError, match="takes 4 features and returns 5"):
        LowRankMap.from_dense(AffineMap(dense.weight[:, :4], dense.bias))
    with pytest.raises(ValueError, match=r"map_ is traced.*rank="):
        jax.jit(LowRankMap.from_dense)(dense)


def test_identity_and_singular_maps():
    x = points()
    np.testing.assert_array_equal(LowRankMap.identity(D)(x), x)
    np.testing.assert_array_equal(LowRankMap.identity(D, 2).inverse()(x), x)
    e = jnp.eye(D)[:, :1]
    eraser = LowRankMap(-e, e, jnp.zeros(D))
    assert not jnp.isfinite(eraser.inverse().u).any()


def test_gradient_goes_through_inverse_and_composition():
    f, x = low_rank(7), points()

    def cost(m, dense):
        m = m.to_dense() if dense else m
        return jnp.sum(m.inverse().compose(m.interpolate(0.5))(x) ** 2)

    slopes = [jax.jit(jax.grad(cost), static_argnums=1)(f, d) for d in (False, True)]
    for a, b in zip(*map(jax.tree.leaves, slopes), strict=True):
        np.testing.assert_allclose(a, b, atol=1e4 * EPS * float(jnp.abs(b).max()))
