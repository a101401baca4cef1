from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import EPS, FAMILIES, SCALAR, member

from jaxsteer.maps import AffineMap, ConjugatedMap, DiagonalMap, Exp

DIAGONAL = ("Normal", "DiagonalNormal", "LogNormal", "LowRankNormal")
LOGGED = ("LogNormal", "MultivariateLogNormal", "TransformedNormal")


def base_of(name, p):
    return p.base if name in LOGGED else p


def some_map(name):
    rng = np.random.default_rng(7)
    d = () if name in SCALAR else (3,)
    shift = jnp.asarray(rng.normal(size=d))
    if name in DIAGONAL:  # a negative slope too: a law may be reflected
        move = DiagonalMap(jnp.asarray(-rng.uniform(0.5, 2, d)), shift)
    else:
        move = AffineMap(jnp.asarray(rng.normal(size=(3, 3)) + 2 * np.eye(3)), shift)
    return ConjugatedMap(move, Exp()) if name in LOGGED else move


@pytest.mark.parametrize("name", FAMILIES)
def test_pushforward_obeys_the_change_of_variables(name):
    @jax.jit
    def both_sides(p, x):
        moved = p.pushforward(move)
        d = x.shape[1:]
        slope = jax.vmap(jax.jacfwd(move))(x).reshape(len(x), *(d + d or (1, 1)))
        jacobian = jnp.log(jnp.abs(jnp.linalg.det(slope)))
        return moved.log_prob(jax.vmap(move)(x)) + jacobian, p.log_prob(x)

    move, p = some_map(name), member(name, 3)
    x = p.sample(jax.random.key(1), (6,))
    left, right = both_sides(p, x)
    assert type(p.pushforward(move)) is type(p)
    scale = 1 + np.abs(right).max()
    np.testing.assert_allclose(left, right, atol=max(1e-10, 2e3 * EPS) * scale)


# A full map would leave the low-rank family: its own tests hold that.
@pytest.mark.parametrize("name", [n for n in FAMILIES if n != "LowRankNormal"])
def test_transport_carries_every_cell_onto_its_target(name):
    p, q = member(name, 5, (2,)), member(name, 6, (2,))
    moved = jax.jit(lambda p, q: p.pushforward(p.transport_to(q)))(p, q)
    for found, expected in zip(jax.tree.leaves(moved), jax.tree.leaves(q), strict=True):
        np.testing.assert_allclose(found, expected, atol=max(1e-11, 2e3 * EPS))


@pytest.mark.parametrize("name", FAMILIES)
def test_transport_to_itself_is_the_identity(name):
    p = member(name, 5)
    x = p.sample(jax.random.key(2), (4,))
    moved = jax.vmap(p.transport_to(p))(x)
    np.testing.assert_allclose(moved, x, rtol=max(1e-11, 2e3 * EPS))


@pytest.mark.parametrize("name", ["Normal", "DiagonalNormal", "MultivariateNormal"])
def test_from_moments_returns_the_member_with_these_moments(name):
    p = member(name, 8, (2,))
    again = type(p).from_moments(p.mean, p.cov)
    np.testing.assert_allclose(again.mean, p.mean, rtol=10 * EPS)
    np.testing.assert_allclose(again.cov, p.cov, rtol=10 * EPS)


def test_dense_form_keeps_the_moments():
    p = member("DiagonalNormal", 9, (2,))
    dense = p.to_dense()
    assert dense.cov.shape == (2, 3, 3)
    np.testing.assert_allclose(jnp.trace(dense.cov[1]), jnp.sum(p.scale[1] ** 2))
    assert jnp.count_nonzero(dense.cov) == 6


@pytest.mark.parametrize("name", FAMILIES)
def test_base_scale_is_what_a_shared_bijection_keeps(name):
    p = member(name, 10)
    kl = p.kl(member(name, 11))
    base = base_of(name, p).kl(base_of(name, member(name, 11)))
    np.testing.assert_array_equal(kl, base)
