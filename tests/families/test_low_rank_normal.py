from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_cases import DTYPE, EPS, as_numbers, build, mean_and_cov, member, parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxsteer.families import (
    DiagonalNormal,
    LowRankNormal,
    MultivariateNormal,
    kl_divergence,
    kl_low_rank_normal,
)
from jaxsteer.maps import AffineMap, DiagonalMap

NAME = "LowRankNormal"
KL = jax.jit(kl_divergence)
KL_METHOD = jax.jit(lambda p, q: p.kl(q))
RTOL = max(1e-10, 300 * EPS)
seeds = st.integers(0, 2**20)


def law(seed, batch=(), d=5, r=2):
    """Return a random member of any rank."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(*batch, d)), rng.normal(size=(*batch, d, r))
    return build(NAME, *values, rng.uniform(0.3, 2, (*batch, d)))


@settings(max_examples=10)
@given(seed=seeds)
def test_pairs_of_families_agree_with_full_covariances(seed):
    p, q = law(seed, (3, 1)), law(seed + 1, (4,), r=3)
    flat = DiagonalNormal(p.mean, jnp.sqrt(p.diagonal))
    dense, flat_dense = p.to_dense(), flat.to_dense()
    expected = KL(dense, q.to_dense())
    assert expected.shape == (3, 4)
    for pair in ((p, q), (dense, q), (p, q.to_dense())):
        np.testing.assert_allclose(KL(*pair), expected, rtol=5 * RTOL)
        np.testing.assert_allclose(KL_METHOD(*pair), expected, rtol=5 * RTOL)
    expected = KL(flat_dense, q.to_dense())
    np.testing.assert_allclose(KL(flat, q), expected, rtol=5 * RTOL)
    expected = KL(q.to_dense(), flat_dense)
    np.testing.assert_allclose(KL(q, flat), expected, rtol=5 * RTOL)
    np.testing.assert_allclose(KL_METHOD(q, flat), expected, rtol=5 * RTOL)


@settings(max_examples=10)
@given(seed=seeds)
def test_turning_a_factor_keeps_the_divergence(seed):
    p, q = law(seed), law(seed + 1)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(2, 2)))[0]
    turned = LowRankNormal(p.mean, p.factor @ jnp.asarray(turn, DTYPE), p.diagonal)
    np.testing.assert_allclose(KL(turned, q), KL(p, q), rtol=RTOL)
    size = 1 + np.sum(np.asarray(p.factor) ** 2 / np.asarray(p.diagonal)[:, None])
    np.testing.assert_allclose(KL(turned, p), 0, atol=30 * EPS * size)


def reference(p, q):
    """``KL`` from Cholesky factors in float64: a sum of non-negative terms."""
    (m, s), (n, t) = (mean_and_cov(NAME, *map(as_numbers, v)) for v in (p, q))
    ratio = np.linalg.solve(np.linalg.cholesky(t), np.linalg.cholesky(s))
    shift = np.linalg.solve(np.linalg.cholesky(t), m - n)
    excess = 2 * np.log(np.diag(ratio))
    squares = np.sum(np.tril(ratio, -1) ** 2) + shift @ shift
    return 0.5 * (np.sum(np.expm1(excess) - excess) + squares)


@pytest.mark.parametrize("signal", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("excess", [1e-1, 1e-2, 1e-3])
def test_nearly_equal_laws_keep_their_digits_in_float32(signal, excess):
    rng = np.random.default_rng(3)
    q = [rng.normal(size=8), rng.normal(size=(8, 2)), rng.uniform(0.3, 2, 8)]
    q[1] *= np.sqrt(signal)
    p = [v * (1 + excess * rng.normal(size=v.shape)) for v in q]
    p[0] = q[0] + excess * np.asarray(q[1])[:, 0]  # along the factor
    p, q = ([jnp.asarray(v, jnp.float32) for v in law] for law in (p, q))
    found = KL(LowRankNormal(*p), LowRankNormal(*q))
    eps = float(jnp.finfo(jnp.float32).eps)
    # The textbook formula has an error of eps * signal / excess^2, up to 600 here.
    np.testing.assert_allclose(found, reference(p, q), rtol=50 * eps / excess)


def test_strong_factors_keep_the_density_in_float32():
    rng = np.random.default_rng(4)
    values = rng.normal(size=8), 100 * rng.normal(size=(8, 2)), rng.uniform(0.3, 2, 8)
    values = [jnp.asarray(v, jnp.float32) for v in values]
    x = values[0] + values[1] @ jnp.asarray([0.3, -1.0], jnp.float32)
    peer = stats.multivariate_normal(*mean_and_cov(NAME, *map(as_numbers, values)))
    found = LowRankNormal(*values).log_prob(x)
    np.testing.assert_allclose(found, peer.logpdf(as_numbers(x)), rtol=1e-4)


@pytest.mark.parametrize("batch", [(), (3, 2)])
def test_products_equal_the_dense_ones(batch):
    p = law(5, batch)
    x = jnp.asarray(np.random.default_rng(6).normal(size=(2, 5, 4)), DTYPE)
    cov = as_numbers(p.cov)
    expected = cov[..., None, :, :] @ as_numbers(x) if batch else cov @ as_numbers(x)
    wide = jax.tree.map(lambda leaf: jnp.expand_dims(leaf, len(batch)), p)
    wide = wide if batch else p
    found = jax.jit(lambda p, x: p.covariance_times(x))(wide, x)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=20 * EPS * scale)
    again = jax.jit(lambda p, x: p.precision_times(x))(wide, found)
    shape = np.broadcast_shapes(again.shape, x.shape)
    np.testing.assert_allclose(again, np.broadcast_to(x, shape), atol=500 * EPS)
    solved = np.linalg.solve(cov[..., None, :, :] if batch else cov, as_numbers(x))
    np.testing.assert_allclose(wide.precision_times(x), solved, atol=500 * EPS)


def equations_of(jaxpr):
    """Return every equation of a program and its sub-programs."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for one in value if isinstance(value, tuple) else (value,):
                inner = getattr(one, "jaxpr", one)
                if hasattr(inner, "eqns"):
                    yield from equations_of(inner)


OPERATIONS = {
    "kl": lambda p, q, x: kl_low_rank_normal(p, q),
    "log_prob": lambda p, q, x: p.log_prob(x[:, 0]),
    "sample": lambda p, q, x: p.sample(jax.random.key(0), (2,)),
    "covariance_times": lambda p, q, x: p.covariance_times(x),
    "precision_times": lambda p, q, x: p.precision_times(x),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_matrix_of_all_features_is_formed(name):
    operation = OPERATIONS[name]
    p, q, x = law(0, d=40, r=3), law(1, d=40, r=2), jnp.ones((40, 1))

    def slopes(p, q, x):
        value, pull = jax.vjp(operation, p, q, x)
        return value, pull(jnp.ones_like(value))

    made = list(equations_of(jax.make_jaxpr(slopes)(p, q, x).jaxpr))
    shapes = [v.aval.shape for equation in made for v in equation.outvars]
    assert shapes
    assert not [s for s in shapes if sum(n == 40 for n in s) > 1]
    # One for each law, and none more for derivatives.
    factorizations = sum(e.primitive.name == "custom_vmap_call" for e in made)
    expected = {"kl": 2, "log_prob": 1, "precision_times": 1}
    assert factorizations == expected.get(name, 0)


def test_programs_over_cells_run_batched():
    p, q = law(0, (6, 4), d=30, r=3), law(1, (6, 4), d=30, r=3)
    value = jax.jit(jax.value_and_grad(lambda p, q: jnp.sum(kl_low_rank_normal(p, q))))
    total, slope = value(p, q)
    flat = (
        jax.tree.map(lambda leaf: leaf.reshape(24, *leaf.shape[2:]), v) for v in (p, q)
    )
    one = jax.lax.map(lambda pair: kl_low_rank_normal(*pair), tuple(flat))
    np.testing.assert_allclose(total, jnp.sum(one), rtol=50 * EPS)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_diagonal_map_stays_and_full_map_leaves():
    p = law(7, (2,))
    rng = np.random.default_rng(8)
    move = DiagonalMap(*(jnp.asarray(rng.normal(size=5), DTYPE) for _ in range(2)))
    kept, moved = p.pushforward(move), p.pushforward(move.to_affine())
    assert type(kept) is LowRankNormal
    assert type(moved) is MultivariateNormal
    np.testing.assert_allclose(kept.mean, moved.mean, atol=20 * EPS)
    np.testing.assert_allclose(kept.cov, moved.cov, atol=50 * EPS)


@pytest.mark.parametrize("kind", [NAME, "MultivariateNormal"])
def test_transport_carries_onto_the_target(kind):
    p, q = member(NAME, 5, (2,)), member(kind, 6, (2,))
    move = p.transport_to(q)
    assert type(move) is AffineMap
    moved = p.pushforward(move)
    np.testing.assert_allclose(moved.mean, q.mean, atol=max(1e-11, 2e3 * EPS))
    np.testing.assert_allclose(moved.cov, q.cov, atol=max(1e-11, 2e3 * EPS))


def test_diagonal_that_is_not_positive_gives_nan_in_its_own_row():
    good = law(0, (2,))
    for value in (0.0, -1.0):
        bad = LowRankNormal(good.mean, good.factor, good.diagonal.at[0, 1].set(value))
        for found in (KL(bad, good), KL(good, bad), bad.log_prob(jnp.zeros(5))):
            assert not np.isfinite(found[0])
            assert np.isfinite(found[1])


def test_other_dimensions_are_refused():
    for d in (1, 2):
        with pytest.raises(ValueError, match=rf"p has {d} features, q has 5; .*space"):
            kl_low_rank_normal(law(0, d=d), law(1))


def test_vmap_over_batches_equals_the_batch():
    values = parameters(NAME, 3, (4,))
    p, q = build(NAME, *values), member(NAME, 4, (4,))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2)), DTYPE)
    for fn in (lambda p: p.precision_times(x), lambda p: p.covariance_times(x)):
        found = jax.jit(jax.vmap(fn))(p)
        np.testing.assert_allclose(found, fn(p), atol=100 * EPS)
    np.testing.assert_allclose(jax.vmap(kl_low_rank_normal)(p, q), KL(p, q), rtol=RTOL)
