from __future__ import annotations

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import jaxsteer as js
from jaxsteer.estimators import GaussianChannel

from .helpers import make_frame, make_rows, mean_gap

X, Y, GROUPS = make_rows()


def fit(**options):
    return GaussianChannel(**{"random_state": 0, **options}).fit(
        X, Y, sensitive_features=GROUPS
    )


def test_rows_are_those_of_the_library():
    channel = fit(deterministic=True)
    label, group = (Y == "yes").astype(int), (GROUPS == "m").astype(int)
    found = js.gaussian_channel(js.fit_population(X, label, group), reference=1)
    expected = np.asarray(found.transport(X, group, deterministic=True))
    steered = channel.transform(X, sensitive_features=GROUPS)
    np.testing.assert_allclose(steered, expected, rtol=0, atol=1e-4)
    weights = np.asarray(found.cell_weights)[label, group]
    np.testing.assert_allclose(channel.sample_weight_, weights, rtol=1e-5)
    assert np.array_equal(channel.sample_weight(Y, GROUPS), channel.sample_weight_)
    assert channel.reference_ == "m"


def test_noise_makes_the_groups_alike():
    rows, y, groups = make_rows(20_000)
    channel = GaussianChannel(random_state=0).fit(rows, y, sensitive_features=groups)
    steered = channel.transform(rows, sensitive_features=groups)
    assert steered.shape == (20_000, 1)
    assert mean_gap(steered, y, groups) < 0.05
    spreads = [
        steered[(y == c) & (groups == g)].std() for c in ("no", "yes") for g in "fm"
    ]
    np.testing.assert_allclose(spreads, 1, atol=0.05)
    silent = GaussianChannel(deterministic=True).fit(rows, y, sensitive_features=groups)
    quiet = silent.transform(rows, sensitive_features=groups)
    assert quiet[(y == "no") & (groups == "m")].std() < 0.9


def test_three_groups_become_alike():
    rows, y, groups = make_rows(20_000)
    rows = np.where(np.arange(20_000)[:, None] % 3 == 0, 0.5 * rows + 1, rows)
    groups = np.where(np.arange(20_000) % 3 == 0, "x" + groups, groups)
    channel = GaussianChannel(random_state=0).fit(rows, y, sensitive_features=groups)
    assert list(channel.groups_) == ["f", "m", "xf", "xm"]
    steered = channel.transform(rows, sensitive_features=groups)
    means = np.array(
        [[steered[(y == c) & (groups == g)].mean() for g in channel.groups_]
         for c in ("no", "yes")]
    )  # fmt: skip
    assert np.ptp(means, axis=1).max() < 0.1
    assert means[1].min() - means[0].max() > 0.5


def test_random_state_decides_on_the_noise():
    def steer(channel):
        return channel.transform(X, sensitive_features=GROUPS)

    channel = fit()
    assert np.array_equal(steer(channel), steer(channel))
    assert np.array_equal(steer(channel), steer(fit()))
    assert not np.array_equal(steer(channel), steer(fit(random_state=1)))
    fresh = fit(random_state=None)
    assert not np.array_equal(steer(fresh), steer(fresh))
    both = GaussianChannel(random_state=0).fit_transform(
        X, Y, sensitive_features=GROUPS
    )
    assert np.array_equal(both, steer(channel))


def test_options_change_the_result():
    plain = fit(subspace="all", deterministic=True)
    other = fit(subspace="all", deterministic=True, reference="f")
    shrunk = fit(subspace="all", deterministic=True, shrinkage=0.5)
    rows = [c.transform(X, sensitive_features=GROUPS) for c in (plain, other, shrunk)]
    assert rows[0].shape == X.shape
    assert np.abs(rows[0] - rows[1]).max() > 0.1
    assert np.abs(rows[0] - rows[2]).max() > 0.01
    with pytest.raises(ValueError, match="subspace='x' is not known"):
        fit(subspace="x")
    with pytest.raises(ValueError, match=r"reference='x' is no group"):
        fit(reference="x")


def test_names_of_the_output():
    table = make_frame()
    channel = GaussianChannel(random_state=0).set_output(transform="pandas")
    framed = channel.fit_transform(table, Y, sensitive_features=GROUPS)
    assert list(framed) == ["discriminant0"]
    whole = GaussianChannel(subspace="all").fit(table, Y, sensitive_features=GROUPS)
    assert whole.get_feature_names_out().tolist() == ["a", "b", "c"]
    assert fit(subspace="all").get_feature_names_out().tolist() == ["x0", "x1", "x2"]


def test_pipelines_route_the_groups():
    channel = GaussianChannel(random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        channel.set_fit_request(sensitive_features=True, sample_weight=False)
        channel.set_transform_request(sensitive_features=True)
        pipeline = make_pipeline(channel, LogisticRegression())
        pipeline.fit(X, Y, sensitive_features=GROUPS)
        score = pipeline.predict_proba(X, sensitive_features=GROUPS)
    steered = fit().transform(X, sensitive_features=GROUPS)
    direct = LogisticRegression().fit(steered, Y).predict_proba(steered)
    np.testing.assert_allclose(score, direct, atol=1e-6)


def test_sample_weights_enter():
    given = np.where(Y == "yes", 3.0, 1.0)
    channel = GaussianChannel().fit(
        X, Y, sensitive_features=GROUPS, sample_weight=given
    )
    cells = channel.sample_weight(Y, GROUPS)
    np.testing.assert_allclose(channel.sample_weight_, cells * given)
    assert not np.allclose(cells, fit().sample_weight_)


def test_conventions_and_messages():
    channel = GaussianChannel(subspace="all", random_state=3)
    assert clone(channel).get_params() == channel.get_params()
    with pytest.raises(sklearn.exceptions.NotFittedError):
        channel.transform(X, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="sensitive_features is missing"):
        channel.fit(X, Y)
    with pytest.raises(ValueError, match=r"sensitive_features has values .* time: 'x'"):
        fit().transform(X[:1], sensitive_features=["x"])
    with pytest.raises(ValueError, match=r"X has 2 features, .* expecting 3"):
        fit().transform(X[:, :2], sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="TabularEncoder"):
        GaussianChannel().fit(np.full_like(X, np.nan), Y, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="class yes in group m"):
        y = np.where(GROUPS == "m", "no", Y)
        GaussianChannel().fit(X, y, sensitive_features=GROUPS)
    with pytest.raises(ValueError, match="only the group 'f'; at least two"):
        GaussianChannel().fit(X, Y, sensitive_features=np.full(len(Y), "f"))
