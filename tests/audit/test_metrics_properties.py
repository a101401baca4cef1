"""Properties that hold on any rows."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsteer.audit import metrics

TOL = 50 * float(jnp.finfo(jnp.result_type(float)).eps)
N, K, G = 40, 3, 3
ON_CODES = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "demographic_parity": metrics.demographic_parity,
    "equal_opportunity": metrics.equal_opportunity,
    "equalized_odds": metrics.equalized_odds,
    "tpr_gap": metrics.tpr_gap,
    "tpr_gap_per_class": metrics.tpr_gap_per_class,
}
ON_SCORES = {
    "auc": metrics.auc,
    "sup_tpr_gap": lambda *a, **k: metrics.sup_gap(*a, rate="tpr", **k),
    "sup_fpr_gap": lambda *a, **k: metrics.sup_gap(*a, rate="fpr", **k),
    "sup_dp_gap": lambda *a, **k: metrics.sup_gap(*a, rate="dp", **k),
}
ALL = [*ON_CODES, *ON_SCORES]
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None)


def draw(name, rng):
    """Rows in which every cell is taken: the first K * G rows go through them all."""
    n_classes = 2 if name in ON_SCORES else K
    cells = np.arange(n_classes * G)
    label = np.r_[cells // G, rng.integers(n_classes, size=N - cells.size)]
    group = np.r_[cells % G, rng.integers(G, size=N - cells.size)]
    if name in ON_SCORES:
        return ON_SCORES[name], label, rng.integers(8, size=N) / 4, group
    return ON_CODES[name], label, rng.integers(n_classes, size=N), group


@pytest.mark.parametrize("name", ALL)
@few
@given(seed=seeds)
def test_the_order_of_rows_does_not_matter(name, seed):
    rng = np.random.default_rng(seed)
    f, label, out, group = draw(name, rng)
    w = rng.uniform(0.5, 2, N)
    p = rng.permutation(N)
    np.testing.assert_allclose(
        f(label, out, group, weights=w),
        f(label[p], out[p], group[p], weights=w[p]),
        atol=TOL,
    )


@pytest.mark.parametrize("name", ALL)
@few
@given(seed=seeds)
def test_a_weight_of_two_is_a_row_repeated(name, seed):
    rng = np.random.default_rng(seed)
    f, label, out, group = draw(name, rng)
    # As many repeats as rows left out, so that the shapes, and so the compiled
    # programs, are the same at every draw; the first rows hold every cell.
    times = np.ones(N, int)
    first = K * G
    chosen = first + rng.permutation(N - first)
    times[chosen[:8]], times[chosen[8:16]] = 2, 0
    r = np.repeat(np.arange(N), times)
    np.testing.assert_allclose(
        f(label, out, group, weights=times), f(label[r], out[r], group[r]), atol=TOL
    )


@pytest.mark.parametrize("name", ALL)
@few
@given(seed=seeds)
def test_names_of_groups_do_not_matter(name, seed):
    rng = np.random.default_rng(seed)
    f, label, out, group = draw(name, rng)
    renamed = rng.permutation(G)[group]
    np.testing.assert_allclose(f(label, out, group), f(label, out, renamed), atol=TOL)


@pytest.mark.parametrize("name", ALL)
@few
@given(seed=seeds, scale=st.floats(1e-6, 1e6))
def test_weights_count_up_to_a_factor(name, seed, scale):
    rng = np.random.default_rng(seed)
    f, label, out, group = draw(name, rng)
    w = rng.uniform(0.5, 2, N)
    np.testing.assert_allclose(
        f(label, out, group, weights=w),
        f(label, out, group, weights=scale * w),
        atol=TOL,
    )


@pytest.mark.parametrize("name", ALL)
@few
@given(seed=seeds)
def test_values_lie_between_zero_and_one(name, seed):
    f, label, out, group = draw(name, np.random.default_rng(seed))
    value = np.asarray(f(label, out, group))
    assert (value >= 0).all() and (value <= 1 + TOL).all()


@pytest.mark.parametrize("name", ON_CODES)
@few
@given(seed=seeds)
def test_a_perfect_prediction_has_no_error_and_no_error_gap(name, seed):
    f, label, _, group = draw(name, np.random.default_rng(seed))
    if name != "demographic_parity":
        value = np.asarray(f(label, label, group))
        np.testing.assert_array_equal(value, 1.0 if "accuracy" in name else 0.0)


@pytest.mark.parametrize("name", ON_SCORES)
@few
@given(seed=seeds)
def test_a_rising_function_of_the_score_changes_nothing(name, seed):
    f, label, score, group = draw(name, np.random.default_rng(seed))
    np.testing.assert_array_equal(
        f(label, score, group), f(label, np.exp(3 * score) - 7, group)
    )


def test_the_sign_of_two_groups_gap_follows_group_one(rows):
    d = rows(500)
    data = d["label"], d["prediction"]
    gap = metrics.tpr_gap_per_class(*data, d["group"])
    np.testing.assert_array_equal(
        gap, -metrics.tpr_gap_per_class(*data, 1 - d["group"])
    )
    assert np.min(np.abs(gap)) > 0
