from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moment_rows import EPS, some_rows

from jaxsteer.maps import AffineMap, LowRankMap
from jaxsteer.moments import accumulate, principal_projection, random_projection

X, LABEL, _ = some_rows(n=64, d=6)
STATE = accumulate([(X[:32], LABEL[:32]), (X[32:], LABEL[32:])], n_classes=2)


def projections():
    return (
        principal_projection(STATE, 3),
        random_projection(jax.random.key(0), 6, 3),
    )


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=3e3 * EPS)


def test_principal_directions_are_those_of_scikit_learn():
    decomposition = pytest.importorskip(
        "sklearn.decomposition", reason="needs scikit-learn"
    )
    pca = decomposition.PCA(3).fit(X)
    found = principal_projection(STATE, 3)
    expected = pca.transform(X)
    signs = np.sign(np.sum(np.asarray(found(X)) * expected, 0))
    close(found(X) * signs, expected)
    close(found.share, pca.explained_variance_ratio_.sum())


@pytest.mark.parametrize("kind", [0, 1])
def test_a_lifted_map_moves_the_coordinates_and_nothing_else(kind):
    projection = projections()[kind]
    close(projection.basis.T @ projection.basis, np.eye(3))
    rng = np.random.default_rng(0)
    one, two = (
        AffineMap(jnp.asarray(rng.normal(size=(3, 3))), jnp.asarray(rng.normal(size=3)))
        for _ in range(2)
    )
    x = jnp.asarray(X)
    moved = projection.lift(one)(x)
    assert isinstance(projection.lift(one), LowRankMap)
    close(projection(moved), one(projection(x)))
    rest = np.eye(6) - np.asarray(projection.basis) @ np.asarray(projection.basis).T
    close((moved - x) @ rest, 0)
    close(projection.lift(AffineMap.identity(3))(x), x)
    both = projection.lift(one.compose(two))
    close(both(x), projection.lift(one)(projection.lift(two)(x)))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), one, two)
    lifted = jax.tree.map(lambda leaf: leaf[1], projection.lift(stacked))
    close(lifted(x), projection.lift(two)(x))
    u, v = rng.normal(size=(2, 2, 3, 1))
    low = LowRankMap(
        jnp.asarray(u), jnp.asarray(v), jnp.asarray(rng.normal(size=(2, 3)))
    )
    found, dense = projection.lift(low), projection.lift(low.to_dense())
    assert found.u.shape == (2, 6, 1)
    for a in range(2):
        own, whole = (
            jax.tree.map(lambda leaf, a=a: leaf[a], f) for f in (found, dense)
        )
        close(own(x), whole(x))


@pytest.mark.parametrize("size", [0, 7])
def test_sizes_are_checked(size):
    with pytest.raises(ValueError, match=f"n_components={size} must be between 1"):
        principal_projection(STATE, size)
    with pytest.raises(ValueError, match=f"n_components={size} must be between 1"):
        random_projection(jax.random.key(0), 6, size)
