"""Thin faces over the baselines: the same maps, with names, precision and a way back."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxsteer import baselines
from jaxsteer.estimators import INLP, LEACE, MeanMatching, MiMiC

from .helpers import make_rows

X, Y, GROUPS = make_rows()
GROUP = (GROUPS == "m").astype(int)
WEIGHT = np.where(Y == "yes", 3.0, 1.0)
OF = {"sensitive_features": GROUPS}

CASES = {
    "mean matching": (
        MeanMatching(reference="m"),
        lambda **o: baselines.fit_mean_match(X, GROUP, reference=1, **o),
    ),
    "mimic": (
        MiMiC(reference="m", ridge=1e-3),
        lambda **o: baselines.fit_mimic(X, GROUP, reference=1, ridge=1e-3, **o),
    ),
    "oracle": (
        LEACE(kind="oracle"),
        lambda **o: baselines.fit_oracle_leace(X, GROUP, **o).maps(),
    ),
    "quadratic": (
        LEACE(kind="quadratic", ridge=1e-3),
        lambda **o: baselines.fit_quadratic_leace(X, GROUP, ridge=1e-3, **o),
    ),
}


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["even", "weighted"])
def test_each_group_goes_through_its_own_map(name, weight):
    model, fit = CASES[name]
    maps = fit(weights=weight)
    steered = model.fit(X, **OF, sample_weight=weight).transform(X, **OF)
    for code, group in enumerate("fm"):
        rows = group == GROUPS
        weights, bias = np.asarray(maps.weight[code]), np.asarray(maps.bias[code])
        expected = X[rows] @ weights.astype(float).T + bias
        np.testing.assert_allclose(steered[rows], expected, atol=1e-12)
    back = model.inverse_transform(steered, **OF)
    np.testing.assert_allclose(back, X, atol=1e-10)
    with pytest.raises(ValueError, match="sensitive_features is missing"):
        model.transform(X)


def test_one_map_for_all_rows_needs_no_group():
    for model, fitted in (
        (LEACE(), baselines.fit_leace(X, GROUP)),
        (LEACE(shrinkage=0.5), baselines.fit_leace(X, GROUP, shrinkage=0.5)),
        (INLP(n_steps=2), baselines.fit_inlp(X, GROUP, n_steps=2)),
    ):
        found = model.fit(X, **OF).transform(X)
        expected = X @ np.asarray(fitted.weight, float).T + np.asarray(fitted.bias)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert not hasattr(model, "inverse_transform")
        np.testing.assert_array_equal(model.fit_transform(X, **OF), found)


def test_no_linear_probe_finds_an_erased_group():
    rows = X + np.array([2.0, 0.0, 0.0]) * GROUP[:, None]
    chance = max(GROUP.mean(), 1 - GROUP.mean())
    assert LogisticRegression().fit(rows, GROUP).score(rows, GROUP) > chance + 0.1
    for model in (LEACE(), LEACE(kind="oracle"), LEACE(kind="quadratic"), INLP()):
        erased = model.fit_transform(rows, **OF)
        probe = LogisticRegression().fit(erased, GROUP)
        assert probe.score(erased, GROUP) < chance + 0.02


def test_options_and_references():
    assert MeanMatching().fit(X, **OF).reference_ == "m"
    assert MiMiC(reference="f").fit(X, **OF).reference_ == "f"
    with pytest.raises(ValueError, match="kind='x' is not known"):
        LEACE(kind="x").fit(X, **OF)
    with pytest.raises(ValueError, match="reference='x' is no group"):
        MiMiC(reference="x").fit(X, **OF)
    with pytest.raises(ValueError, match="n_steps=0 must be a whole number"):
        INLP(n_steps=0).fit(X, **OF)
    # Labels are not read, whatever they are.
    left = MeanMatching().fit_transform(X, **OF)
    np.testing.assert_array_equal(left, MeanMatching().fit_transform(X, [None], **OF))
    for options in ({"min_gain": 0.9}, {"l2": 100.0}, {"standardize": True}):
        plain, other = INLP(n_steps=2), INLP(n_steps=2, **options)
        moved = [m.fit_transform(X, **OF) for m in (plain, other)]
        assert np.abs(moved[0] - moved[1]).max() > 1e-4


def test_fitted_estimators_are_a_line_and_a_table():
    model = MeanMatching(reference="m")
    assert str(model) == "MeanMatching(reference='m')"
    lines = str(model.fit(X, **OF)).splitlines()
    assert lines[0] == "MeanMatching(reference='m')"
    table = dict(line.split(maxsplit=1) for line in lines[1:])
    assert table["groups_"] == "f, m" and table["n_features_in_"] == "3"
    assert table["maps_"].startswith("AffineMap(weight=f")
