from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import EPS, FAMILIES, SCALAR, member

import jaxsteer.families as families
from jaxsteer.families import (
    DiagonalNormal,
    LogNormal,
    MultivariateLogNormal,
    MultivariateNormal,
    Normal,
    TransformedNormal,
    kl_divergence,
    kl_log_normal,
    kl_multivariate_log_normal,
    kl_transformed_normal,
)
from jaxsteer.maps import Exp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stretch:
    """Another bijection, with a parameter: ``x = sinh(z) * size``."""

    size: jax.Array

    def forward(self, z):
        return jnp.sinh(z) * self.size

    def inverse(self, x):
        return jnp.arcsinh(x / self.size)

    def log_slope(self, z):
        return jnp.log(jnp.cosh(z)) + jnp.log(self.size)


@pytest.mark.parametrize("name", FAMILIES)
def test_round_trip_through_leaves_and_placeholders(name):
    p = member(name, 0, (2,))
    leaves, tree = jax.tree.flatten(p)
    assert len(leaves) == (3 if name == "LowRankNormal" else 2)
    again = jax.tree.unflatten(tree, leaves)
    assert type(again) is type(p)
    np.testing.assert_array_equal(jax.tree.leaves(again)[0], leaves[0])
    # JAX rebuilds pytrees around placeholders: constructors must not look inside.
    placeholders = [object(), None, object()][: len(leaves)]
    assert jax.tree.unflatten(tree, placeholders) is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        p.loc = 0


@pytest.mark.parametrize("name", FAMILIES)
def test_vmap_of_the_constructor_makes_a_batch(name):
    p = member(name, 1, (4,))
    leaves, tree = jax.tree.flatten(p)
    built = jax.vmap(lambda *ls: jax.tree.unflatten(tree, ls))(*leaves)
    for leaf, expected in zip(jax.tree.leaves(built), leaves, strict=True):
        np.testing.assert_array_equal(leaf, expected)
    np.testing.assert_array_equal(kl_divergence(p, built), kl_divergence(p, p))
    last = jax.vmap(lambda *ls: jax.tree.unflatten(tree, ls), out_axes=-1)(*leaves)
    assert jax.tree.leaves(last)[0].shape == (*leaves[0].shape[1:], 4)
    x = jnp.full(() if name in SCALAR else (3,), 0.7)
    found = jax.jit(jax.vmap(lambda p: p.log_prob(x), in_axes=-1))(last)
    np.testing.assert_allclose(found, p.log_prob(x), rtol=200 * EPS)


PAIRS_WITHOUT = [
    ("Normal", "LogNormal"),
    ("Normal", "DiagonalNormal"),
    ("MultivariateNormal", "MultivariateLogNormal"),
    ("LogNormal", "MultivariateLogNormal"),
    ("TransformedNormal", "DiagonalNormal"),
    ("LowRankNormal", "Normal"),
]


@pytest.mark.parametrize("pair", PAIRS_WITHOUT, ids="-".join)
def test_pairs_without_closed_form_are_named(pair):
    for p, q in (pair, pair[::-1]):
        with pytest.raises(TypeError, match="no closed-form KL divergence from"):
            kl_divergence(member(p, 0), member(q, 0))
    with pytest.raises(TypeError, match=r"from Normal to str; families with one: Bern"):
        kl_divergence(member("Normal", 0), "Normal")


def test_log_normals_are_normals_seen_through_exp():
    p, q = member("Normal", 0), member("Normal", 1)
    named = LogNormal(p.loc, p.scale), LogNormal(q.loc, q.scale)
    seen = TransformedNormal(p, Exp()), TransformedNormal(q, Exp())
    expected = families.kl_normal(p, q)
    for pair in (named, seen, (named[0], seen[1]), (seen[0], named[1])):
        np.testing.assert_allclose(kl_divergence(*pair), expected, rtol=10 * EPS)
    assert kl_log_normal(*named) == named[0].kl(named[1]) == kl_divergence(*named)
    assert kl_transformed_normal(*seen) == seen[0].kl(seen[1])
    np.testing.assert_array_equal(named[0].log_prob(1.3), seen[0].log_prob(1.3))


def test_bases_of_one_bijection_mix_as_the_bases_do():
    p, q = member("DiagonalNormal", 0), member("MultivariateNormal", 1)
    seen = TransformedNormal(p, Exp()), MultivariateLogNormal(q.mean, q.cov)
    expected = kl_divergence(p, q)
    np.testing.assert_allclose(kl_divergence(*seen), expected, rtol=10 * EPS)
    dense = MultivariateLogNormal(*jax.tree.leaves(p.to_dense()))
    found = kl_multivariate_log_normal(dense, seen[1])
    np.testing.assert_allclose(found, expected, rtol=10 * EPS)


def test_other_bijections_are_refused():
    p = Normal(jnp.zeros(()), jnp.ones(()))
    with pytest.raises(ValueError, match="share one bijection, got Exp and Stretch"):
        kl_divergence(
            TransformedNormal(p, Exp()), TransformedNormal(p, Stretch(jnp.ones(())))
        )


@pytest.mark.parametrize("base", ["Normal", "DiagonalNormal", "MultivariateNormal"])
def test_users_bijection_gives_density_and_samples(base):
    law = TransformedNormal(member(base, 2), Stretch(jnp.asarray(2.0)))
    x = law.sample(jax.random.key(0), (5,))
    z = jnp.arcsinh(x / 2)
    slope = -0.5 * jnp.log1p((x / 2) ** 2) - jnp.log(2.0)
    slope = slope if base == "Normal" else jnp.sum(slope, -1)
    expected = member(base, 2).log_prob(z) + slope
    found = jax.jit(lambda law, x: law.log_prob(x))(law, x)
    np.testing.assert_allclose(found, expected, rtol=300 * EPS)


def test_named_classes_are_the_public_ones():
    assert {DiagonalNormal, LogNormal, MultivariateLogNormal, MultivariateNormal} <= {
        getattr(families, name) for name in families.__all__
    }
