from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxsteer.estimators import (
    LEACE,
    GaussianChannel,
    IdealSteering,
    LatentGroups,
    MiMiC,
    SteeredClassifier,
    TabularEncoder,
)

from .helpers import make_frame, make_rows

X, Y, GROUPS = make_rows()
OF = {"sensitive_features": GROUPS}


def test_it_is_the_three_steps():
    steering = IdealSteering().fit(X, Y, **OF)
    rows = steering.transform(X, **OF)
    by_hand = LogisticRegression(max_iter=1000)
    by_hand.fit(rows, Y, sample_weight=steering.sample_weight_)
    model = SteeredClassifier().fit(X, Y, **OF)
    expected = by_hand.predict_proba(rows)
    np.testing.assert_array_equal(model.predict_proba(X, **OF), expected)
    assert model.predict(X, **OF).tolist() == by_hand.predict(rows).tolist()
    bare = SteeredClassifier(use_weights=False).fit(X, Y, **OF)
    assert np.abs(bare.predict_proba(X, **OF) - expected).max() > 0.01
    assert bare.sample_weight_ is None


@pytest.mark.parametrize(
    "steering", [GaussianChannel(random_state=0), MiMiC(), LEACE(kind="oracle")]
)
def test_any_steering_and_any_learner(steering):
    learner = make_pipeline(StandardScaler(), LogisticRegression())
    model = SteeredClassifier(learner, steering=steering).fit(X, Y, **OF)
    rows = clone(steering).fit(X, Y, **OF).transform(X, **OF)
    np.testing.assert_array_equal(model.steering_.transform(X, **OF), rows)
    assert model.score(X, Y, **OF) > 0.6
    weighed = SteeredClassifier(learner, steering=steering)
    weighed.fit(X, Y, **OF, sample_weight=np.where(Y == "yes", 9.0, 1.0))
    assert np.mean(weighed.predict(X, **OF) == "yes") > np.mean(
        model.predict(X, **OF) == "yes"
    )


def test_a_steering_that_needs_no_group_later():
    model = SteeredClassifier(steering=LEACE()).fit(X, Y, **OF)
    assert model.predict_proba(X).shape == (1200, 2)
    np.testing.assert_array_equal(model.predict(X), model.predict(X, **OF))


def test_text_needs_an_encoder():
    table = make_frame().assign(sex=GROUPS, job="cook")
    table.loc[::3, "job"] = None
    with pytest.raises(ValueError, match=r"no numbers.*TabularEncoder"):
        SteeredClassifier(sensitive_columns="sex").fit(table, Y)
    model = SteeredClassifier(encoder=TabularEncoder(), sensitive_columns="sex")
    model.fit(table, Y)
    assert model.encoder_.get_feature_names_out().tolist() == [
        "a",
        "b",
        "c",
        "job=missing",
    ]
    with pytest.raises(ValueError, match="RidgeClassifier has no predict_proba"):
        SteeredClassifier(RidgeClassifier()).fit(X, Y, **OF).predict_proba(X, **OF)


def test_groups_that_nobody_recorded():
    rng = np.random.default_rng(0)
    s, rows = rng.normal(size=(1200, 1)), rng.normal(size=(1200, 3))
    side = np.where(s[:, 0] > 0, 3.0, -3.0)
    y = side * rows[:, 0] > rng.normal(size=1200)
    latent = LatentGroups(restarts=4, max_steps=60).fit(rows, y, sensitive_features=s)
    right = np.mean(latent.responsibilities_.argmax(1) == (side > 0))
    assert max(right, 1 - right) > 0.75
    shares = latent.group_probabilities(s)
    found = latent.transform(rows, sensitive_features=s)
    maps = latent.steering_.group_maps
    images = rows @ np.swapaxes(maps.weight, 1, 2).astype(float) + maps.bias[:, None]
    expected = np.einsum("na,and->nd", shares, images)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # Kept on average: weights move mass between cells.
    assert latent.sample_weight_.mean() == pytest.approx(1, abs=1e-3)
    assert latent.sample_weight_.min() > 0
