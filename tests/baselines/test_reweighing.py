from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsteer.baselines import reweighing

DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)


def data(seed, n=200, classes=3, groups=2):
    rng = np.random.default_rng(seed)
    every = np.indices((classes, groups)).reshape(2, -1)
    share = rng.dirichlet(np.ones(classes * groups))
    drawn = every[:, rng.choice(classes * groups, n, p=share)]
    return np.concatenate([every, drawn], 1)


def joint(label, group, weights):
    table = np.zeros((label.max() + 1, group.max() + 1))
    np.add.at(table, (label, group), np.asarray(weights, float))
    return table


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    classes=st.integers(1, 4),
    groups=st.integers(1, 4),
    weighted=st.booleans(),
)
def test_weighted_joint_is_the_product_of_unchanged_marginals(
    seed, classes, groups, weighted
):
    n = 200  # rows in all, whatever the cells: one shape for the programs
    label, group = data(seed, n - classes * groups, classes, groups)
    given_ = np.random.default_rng(seed).uniform(0.5, 2, n) if weighted else np.ones(n)
    options = {"weights": jnp.asarray(given_)} if weighted else {}
    found = reweighing(jnp.asarray(label), jnp.asarray(group), **options)
    assert found.shape == (n,) and (found > 0).all()
    before, after = joint(label, group, given_), joint(label, group, found)
    rtol = n * EPS
    np.testing.assert_allclose(after.sum(0), before.sum(0), rtol=rtol)
    np.testing.assert_allclose(after.sum(1), before.sum(1), rtol=rtol)
    product = np.outer(after.sum(1), after.sum(0)) / after.sum()
    np.testing.assert_allclose(after, product, rtol=rtol)


def test_mean_is_one_and_the_formula_holds():
    label, group = np.array([0, 0, 0, 1, 0, 1]), np.array([0, 0, 0, 0, 1, 1])
    found = reweighing(jnp.asarray(label), jnp.asarray(group))
    table = joint(label, group, np.ones(6)) / 6
    expected = np.outer(table.sum(1), table.sum(0)) / table
    np.testing.assert_allclose(found, expected[label, group], rtol=8 * EPS)
    np.testing.assert_allclose(found.mean(), 1, rtol=8 * EPS)


def test_independent_rows_keep_their_weights():
    label, group = np.indices((3, 4)).reshape(2, -1)
    np.testing.assert_allclose(
        reweighing(jnp.asarray(label), jnp.asarray(group)), 1, rtol=8 * EPS
    )


def test_large_counts_do_not_overflow_float32():
    # 4 million rows: the product of two marginal counts is 4e12.
    counts = np.array([[2_000_000, 500_000], [500_000, 1_000_000]])
    label = np.repeat([0, 0, 1, 1], counts.ravel())
    group = np.repeat([0, 1, 0, 1], counts.ravel())
    found = np.asarray(reweighing(jnp.asarray(label), jnp.asarray(group)))
    total = counts.sum()
    expected = np.outer(counts.sum(1), counts.sum(0)) / total / counts
    first = np.concatenate([[0], counts.ravel().cumsum()[:-1]])
    np.testing.assert_allclose(found[first], expected.ravel(), rtol=8 * EPS)


def test_given_weights_change_the_result():
    label, group = data(0)
    weights = np.linspace(1, 3, len(label))
    found = reweighing(
        jnp.asarray(label), jnp.asarray(group), weights=jnp.asarray(weights)
    )
    plain = reweighing(jnp.asarray(label), jnp.asarray(group))
    assert np.abs(np.asarray(found) / weights - np.asarray(plain)).max() > 0.01


def test_unused_codes_are_no_empty_cells():
    label, group = map(jnp.asarray, data(1))
    np.testing.assert_array_equal(
        reweighing(label, group, n_classes=5, n_groups=4), reweighing(label, group)
    )


def test_jit_and_vmap():
    label, group = map(jnp.asarray, data(2))
    fit = partial(reweighing, n_classes=3, n_groups=2)
    expected = reweighing(label, group)
    np.testing.assert_allclose(jax.jit(fit)(label, group), expected, rtol=8 * EPS)
    many = jax.vmap(fit)(jnp.stack([label, 2 - label]), jnp.stack([group, group]))
    np.testing.assert_allclose(many[0], expected, rtol=8 * EPS)
    np.testing.assert_allclose(many[1], expected, rtol=8 * EPS)


def test_gradient_in_the_weights():
    label, group = map(jnp.asarray, data(3, n=30))
    weights = jnp.asarray(np.random.default_rng(0).uniform(0.5, 2, len(label)))
    # The sum of the results is the sum of the weights, whatever the cells.
    grad = jax.grad(lambda w: jnp.sum(reweighing(label, group, weights=w)))(weights)
    np.testing.assert_allclose(grad, 1, atol=200 * EPS)


def test_an_empty_cell_under_jit_stays_finite():
    label, group = jnp.array([0, 0, 1]), jnp.array([0, 1, 0])
    found = jax.jit(partial(reweighing, n_classes=2, n_groups=2))(label, group)
    assert jnp.isfinite(found).all()


L, A = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("label", "group", "options", "message"),
    [
        (L[:3], A, {}, "label has 3, group has 4 rows"),
        (L[:0], A[:0], {}, "no rows"),
        (L / 1.0, A, {}, "label must hold integer codes"),
        (L, np.array(["m", "m", "f", "f"]), {}, "group must hold integer codes"),
        (L - 1, A, {}, "label has codes from -1 to 0"),
        (L, A, {"n_classes": 1}, "label has codes from 0 to 1, expected 0..0"),
        (L, A, {"n_groups": 1}, "group has codes from 0 to 1, expected 0..0"),
        (L, A, {"weights": np.ones(3)}, "weights has 3 rows"),
        (L, A, {"weights": np.array([1, 1, 1, np.nan])}, "weights has 1 values"),
        (L, A, {"weights": -np.ones(4)}, "weights must be at least 0"),
        (L[:3], A[:3], {}, r"class 1 has no rows of positive weight in group 1 \(1"),
        (
            L,
            A,
            {"weights": np.array([1.0, 1, 0, 1])},
            "class 0 has no rows of positive weight in group 1",
        ),
    ],
)
def test_messages(label, group, options, message):
    with pytest.raises(ValueError, match=message):
        reweighing(label, group, **options)


@pytest.mark.parametrize("given_", [{"n_classes": 2}, {"n_groups": 2}])
def test_traced_codes_need_their_number(given_):
    missing = "group" if "n_classes" in given_ else "label"
    with pytest.raises(ValueError, match=f"{missing} is traced"):
        jax.jit(partial(reweighing, **given_))(jnp.asarray(L), jnp.asarray(A))
