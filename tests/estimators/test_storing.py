"""Every fitted estimator is NumPy inside, and comes back from pickle, joblib and skops."""

from __future__ import annotations

import io
import pickle

import jax
import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from jaxsteer import estimators as E
from jaxsteer.estimators import TabularEncoder, load_estimator
from jaxsteer.pareto import LoopOptions

from .helpers import make_frame, make_rows

_, Y, GROUPS = make_rows()
TABLE = make_frame().assign(sex=GROUPS)
NUMBERS = TABLE["a"].to_numpy() + (GROUPS == "m")

FOLDS = {"cv": 2, "repeats": 1, "bins": 6, "random_state": 0}
QUICK = {"restarts": 2, "max_steps": 20}
SMALL = {"hidden": 4, "gate_hidden": 4, "n_experts": 2, "epochs": 1}
LOOP = {
    "method": "gd",
    "metric": "group_loss_variance",
    "options": LoopOptions(max_steps=50, check_every=50),
}
BASE = make_pipeline(TabularEncoder(), LogisticRegression())

FAST = {
    "blind score": E.FairScore(method="blind", **{**FOLDS, "bins": (6, 3)}),
    "erased": E.LEACE(),
    "erased by steps": E.INLP(n_steps=2),
    "gaussian channel": E.GaussianChannel(random_state=0),
    "ideal": E.IdealSteering(),
    "matched": E.MeanMatching(),
    "mimic": E.MiMiC(),
    "multiclass score": E.MulticlassScore(**FOLDS),
    "quadratic": E.LEACE(kind="quadratic"),
    "reweighed": E.Reweighing(BASE),
    "score": E.FairScore(BASE, **FOLDS),
    "steered": E.SteeredClassifier(encoder=TabularEncoder()),
}
SLOW = {
    "experts": E.RomeMoEClassifier(**SMALL),
    "expert regressions": E.RomeMoERegressor(**SMALL),
    "latent groups": E.LatentGroups(**QUICK),
    "latent classes": E.RomeClassifier(ridge=1.0, **QUICK),
    "latent regressions": E.RomeRegressor(**QUICK),
    "pareto": E.ParetoFair(**LOOP),
    "pareto regression": E.ParetoFairRegressor(**LOOP),
}
NAMES = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def answers(model) -> np.ndarray:
    for method in ("transform", "predict_proba", "predict"):
        if hasattr(model, method):
            return getattr(model, method)(TABLE)
    raise AssertionError(model)


def jax_arrays(value, path: str = "") -> list[str]:
    """Places of JAX arrays in an object, whatever it is made of."""
    if isinstance(value, jax.Array):
        return [path]
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    else:
        parts = getattr(value, "__dict__", {}).items()
    return [p for name, part in parts for p in jax_arrays(part, f"{path}.{name}")]


@pytest.mark.parametrize("name", NAMES)
def test_every_estimator_comes_back(name, tmp_path):
    model = (FAST | SLOW)[name].set_params(sensitive_columns=["sex"])
    model.fit(TABLE, NUMBERS if "regression" in name else Y)
    expected = answers(model)
    assert expected.dtype == np.float64
    state = {n: v for n, v in vars(model).items() if n != "_built"}
    assert not jax_arrays(state)
    copies = [pickle.loads(pickle.dumps(model))]
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    copies.append(joblib.load(buffer))
    pytest.importorskip("skops.io", reason="skops is not installed")
    digest = model.save(tmp_path / "model.skops")
    copies.append(load_estimator(tmp_path / "model.skops", expect_hash=digest))
    for copy in copies:
        np.testing.assert_array_equal(answers(copy), expected)
        assert copy.get_params(deep=False).keys() == model.get_params(deep=False).keys()


def test_what_is_not_fitted_or_not_known_is_not_stored(tmp_path):
    pytest.importorskip("skops.io", reason="skops is not installed")
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        E.LEACE().save(tmp_path / "m")
    with pytest.raises(ValueError, match="not trusted"):
        bad = E.Reweighing(Stranger()).fit(TABLE[["a"]], Y, sensitive_features=GROUPS)
        bad.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


class Stranger(LogisticRegression):
    pass
