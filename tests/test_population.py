from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer import (
    LogNormal,
    MultivariateNormal,
    Normal,
    Population,
    TransformedNormal,
)
from jaxsteer.families import kl_normal

EPS = float(jnp.finfo(jnp.result_type(float)).eps)
KL = jax.jit(lambda p, q: p.kl(q))


def univariate(seed, K=2, G=3, zero=False):
    rng = np.random.default_rng(seed)
    priors = rng.uniform(0.5, 2, (K, G))
    if zero:
        priors[0, 1] = 0
    law = Normal(
        jnp.asarray(rng.normal(size=(K, G))), jnp.asarray(rng.uniform(0.5, 2, (K, G)))
    )
    return Population(jnp.asarray(priors / priors.sum()), law)


def multivariate(seed, K=2, G=2, d=2):
    rng = np.random.default_rng(seed)
    priors = rng.dirichlet(np.ones(K * G)).reshape(K, G)
    root = rng.normal(size=(K, G, d, d))
    cov = root @ np.swapaxes(root, -1, -2) + 0.5 * np.eye(d)
    law = MultivariateNormal(jnp.asarray(rng.normal(size=(K, G, d))), jnp.asarray(cov))
    return Population(jnp.asarray(priors), law)


@pytest.mark.parametrize("zero", [False, True])
def test_kl_is_the_sum_over_cells(zero):
    p, q = univariate(0, zero=zero), univariate(1)
    assert (p.n_classes, p.n_groups) == (2, 3)
    total = 0.0
    for i, a in np.ndindex(2, 3):
        weight, other = float(p.priors[i, a]), float(q.priors[i, a])
        if weight > 0:
            cells = [
                Normal(
                    float(c.conditionals.loc[i, a]), float(c.conditionals.scale[i, a])
                )
                for c in (p, q)
            ]
            total += weight * (np.log(weight / other) + kl_normal(*cells).item())
    np.testing.assert_allclose(KL(p, q), total, rtol=50 * EPS)
    assert KL(p, p) == 0


def test_mass_where_the_other_has_none_is_infinite():
    assert KL(univariate(0), univariate(1, zero=True)) == np.inf


def test_empty_cells_count_nothing_and_have_finite_slopes():
    p, q = univariate(0, zero=True), univariate(1)
    slopes = jax.jit(jax.grad(lambda p, q: p.kl(q), (0, 1)))(p, q)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    for part in slopes:
        assert part.conditionals.loc[0, 1] == 0
        assert part.conditionals.scale[0, 1] == 0
    moved = dataclasses.replace(
        p,
        conditionals=Normal(p.conditionals.loc.at[0, 1].add(99), p.conditionals.scale),
    )
    assert KL(moved, q) == KL(p, q)
    unknown = p.conditionals.scale.at[0, 1].set(jnp.nan)
    moved = dataclasses.replace(p, conditionals=Normal(p.conditionals.loc, unknown))
    assert KL(moved, q) == KL(p, q)


def test_slope_in_the_priors_equals_finite_differences(x64):
    p, q = univariate(2), univariate(3)
    slope = jax.grad(lambda r: Population(r, p.conditionals).kl(q))(p.priors)
    for i, a in np.ndindex(2, 3):
        step = jnp.zeros((2, 3)).at[i, a].set(1e-6)
        up, down = (
            KL(Population(p.priors + s * step, p.conditionals), q) for s in (1, -1)
        )
        np.testing.assert_allclose(slope[i, a], (up - down) / 2e-6, atol=1e-8)


def test_batches_of_populations():
    pairs = [(multivariate(s), multivariate(s + 9)) for s in range(3)]
    p, q = (
        jax.tree.map(lambda *x: jnp.stack(x), *side)
        for side in zip(*pairs, strict=True)
    )
    expected = [float(KL(*pair)) for pair in pairs]
    found = jax.jit(jax.vmap(lambda p, q: p.kl(q)))(p, q)
    np.testing.assert_allclose(found, expected, rtol=100 * EPS)
    np.testing.assert_allclose(KL(p, q), expected, rtol=100 * EPS)  # leading axes
    draw = jax.jit(jax.vmap(lambda p: p.sample(jax.random.key(0), 5)))
    x, label, _ = draw(p)
    assert (x.shape, label.shape) == ((3, 5, 2), (3, 5))


def test_samples_have_the_priors_and_the_moments():
    n = 40_000
    p = multivariate(4)
    x, label, group = map(np.asarray, p.sample(jax.random.key(1), n))
    assert x.shape == (n, 2)
    for i, a in np.ndindex(2, 2):
        share, mine = float(p.priors[i, a]), (label == i) & (group == a)
        m = mine.sum()
        assert abs(m / n - share) <= 5 * np.sqrt(share * (1 - share) / n)
        cov = np.asarray(p.conditionals.cov[i, a], float)
        shift = x[mine].astype(float) - np.asarray(p.conditionals.mean[i, a], float)
        assert (np.abs(shift.mean(0)) <= 5 * np.sqrt(np.diag(cov) / m)).all()
        spread = np.outer(np.diag(cov), np.diag(cov)) + cov**2
        assert (np.abs(shift.T @ shift / m - cov) <= 5 * np.sqrt(spread / m)).all()


def test_empty_cells_are_never_drawn():
    p = univariate(5, zero=True)
    x, label, group = p.sample(jax.random.key(0), 2000)
    assert not ((label == 0) & (group == 1)).any()
    assert np.isfinite(x).all()
    assert set(np.unique(label * 3 + group)) == {0, 2, 3, 4, 5}


def test_key_decides():
    p = univariate(6)
    draw = jax.jit(lambda p, key: p.sample(key, 50))
    key, other = jax.random.split(jax.random.key(7))
    for once, again in zip(draw(p, key), draw(p, key), strict=True):
        np.testing.assert_array_equal(once, again)
    for eager, jitted in zip(p.sample(key, 50), draw(p, key), strict=True):
        np.testing.assert_allclose(eager, jitted, rtol=20 * EPS)
    assert (draw(p, key)[0] != draw(p, other)[0]).all()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scaled:
    """A bijection whose parameter has no class and group axes: ``x = size * z``."""

    size: jax.Array

    def forward(self, z):
        return self.size * z

    def inverse(self, x):
        return x / self.size

    def log_slope(self, z):
        return jnp.log(self.size) * jnp.ones_like(z)


def test_shared_bijections_are_not_taken_apart():
    base = univariate(8)
    key = jax.random.key(3)
    z, label, _ = base.sample(key, 100)
    law = TransformedNormal(base.conditionals, Scaled(jnp.asarray(4.0)))
    x, again, _ = Population(base.priors, law).sample(key, 100)
    np.testing.assert_allclose(x, 4 * z, rtol=10 * EPS)
    np.testing.assert_array_equal(label, again)
    logged = LogNormal(base.conditionals.loc, base.conditionals.scale)
    x, _, _ = Population(base.priors, logged).sample(key, 100)
    np.testing.assert_allclose(jnp.log(x), z, atol=50 * EPS)
