"""Rows by group: copies do not count, batches are balanced, errors say what to do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer import pareto

from .problems import draw


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sizes", [(3, 50, 20), (2000, 2500)])
def test_group_means_are_those_of_the_rows(sizes, weighted, eps):
    x, y, group = draw(1, sizes=sizes, kind="regression")
    shuffle = np.random.default_rng(0).permutation(len(y))
    x, y, group = x[shuffle], y[shuffle], group[shuffle]
    weights = np.random.default_rng(1).random(len(y)) + 0.1 if weighted else None
    data = pareto.group_data(x, y, group, weights=weights)
    w = np.ones(len(y)) if weights is None else weights
    mean = [np.average(x[group == a], 0, w[group == a]) for a in range(len(sizes))]
    np.testing.assert_allclose(data.group_mean(data.x), mean, atol=20 * eps)
    mass = np.bincount(group, w) / w.sum()
    np.testing.assert_allclose(data.mass, mass, atol=20 * eps)
    positive = [
        np.average(x[(group == a) & (y > 0)], 0, w[(group == a) & (y > 0)])
        for a in range(len(sizes))
    ]
    found = data.mean_where(data.x, data.target > 0)
    np.testing.assert_allclose(found, positive, atol=20 * eps)
    assert data.count.tolist() == list(sizes)
    assert data.group.shape[0] % data.tile == 0


def test_batches_are_balanced_and_cover_every_row(eps):
    _, y, group = draw(2, sizes=(30, 12))
    tagged = np.arange(42.0)[:, None]
    data = pareto.group_data(tagged, y, group)
    seen, means = [], []
    for step in range(6):
        batch = data.batch(5, jnp.full(2, 5 * step))
        assert batch.group.tolist() == [0] * 5 + [1] * 5
        rows = batch.x[:, 0].astype(int)
        assert (group[rows] == batch.group).all()
        np.testing.assert_allclose(batch.group_sum(batch.share), 1.0, atol=10 * eps)
        seen += rows.tolist()
        means.append(batch.group_mean(batch.x)[0])
    # Once through the larger group, two and a half times through the smaller one.
    counts = np.bincount(seen, minlength=42)
    assert (counts[:30] == 1).all()
    assert set(counts[30:]) == {2, 3}
    np.testing.assert_allclose(
        np.mean(means, 0), data.group_mean(data.x)[0], rtol=20 * eps
    )


def test_any_pytree_of_rows():
    x, y, group = draw(3)
    data = pareto.group_data({"a": x, "b": (x[:, 0] > 0).astype(int)}, y, group)
    batch = data.batch(4, jnp.zeros(2, int))
    assert batch.x["a"].shape == (8, 3)
    assert jnp.issubdtype(data.x["b"].dtype, jnp.floating)
    assert (batch.x["b"] == (batch.x["a"][:, 0] > 0)).all()


def test_seed_changes_the_order_only():
    x, y, group = draw(4)
    first, second = (pareto.group_data(x, y, group, seed=s) for s in (0, 1))
    assert not np.array_equal(first.x, second.x)
    np.testing.assert_allclose(
        first.group_mean(first.x), second.group_mean(second.x), rtol=1e-4, atol=1e-5
    )


def test_unusable_rows():
    x, y, group = draw(5)
    with pytest.raises(ValueError, match=r"x has 150, target has 149"):
        pareto.group_data(x, y[1:], group)
    with pytest.raises(ValueError, match="at least two groups"):
        pareto.group_data(x, y, 0 * group)
    with pytest.raises(ValueError, match=r"group 2 has no rows .*encode_labels"):
        pareto.group_data(x, y, group, n_groups=3)
    with pytest.raises(ValueError, match=r"target .* not finite"):
        pareto.group_data(x, np.where(y > 0, np.nan, 1.0), group)
    with pytest.raises(ValueError, match=r"x has 1 values that are not finite"):
        bad = x.copy()
        bad[0, 0] = np.inf
        pareto.group_data(bad, y, group)
    with pytest.raises(ValueError, match="weights must be at least 0"):
        pareto.group_data(x, y, group, weights=-np.ones(150))
    with pytest.raises(ValueError, match="cannot be traced"):
        jax.jit(pareto.group_data)(x, y, group)
