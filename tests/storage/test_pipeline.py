from __future__ import annotations

import builtins
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from jaxsteer.estimators import IdealSteering, Reweighing, TabularEncoder
from jaxsteer.storage import load_pipeline, save_pipeline

pytest.importorskip("skops.io", reason="skops is not installed")


def frame(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": rng.normal(size=n),
            "size": rng.integers(0, 30, n).astype(float),
            "job": rng.choice(["a", "b", "c"], n),
            "flag": rng.random(n) < 0.5,
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.random(n), "D"),
        }
    )
    table.loc[::7, "age"] = np.nan
    table.loc[::5, "job"] = None
    return table


LEARNERS = {
    "logistic": lambda: LogisticRegression(max_iter=500),
    "boosted": lambda: HistGradientBoostingClassifier(max_iter=10),
    "stopped": lambda: HistGradientBoostingClassifier(max_iter=10, early_stopping=True),
}


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("names", [(0, 1), ("no", "yes")])
def test_encoder_and_learner_come_back(tmp_path, learner, names):
    table = frame()
    label = np.array(names)[(table["age"] > 0).to_numpy().astype(int)]
    pipeline = make_pipeline(TabularEncoder(), LEARNERS[learner]()).fit(table, label)
    save_pipeline(tmp_path / "p.skops", pipeline)
    again = load_pipeline(tmp_path / "p.skops")
    assert np.array_equal(again.predict_proba(table), pipeline.predict_proba(table))
    assert again.predict(table).tolist() == pipeline.predict(table).tolist()
    assert again[0].describe() == pipeline[0].describe()
    assert again[0].near_discrete_ == pipeline[0].near_discrete_
    assert again[0].get_params() == pipeline[0].get_params()
    assert list(again[0].get_feature_names_out()) == list(
        pipeline[0].get_feature_names_out()
    )


def test_boosted_trees_with_own_categories_come_back(tmp_path):
    table = frame()[["age", "job"]].astype({"job": "category"})
    label = (frame()["size"] > 15).to_numpy()
    model = HistGradientBoostingClassifier(
        max_iter=5, categorical_features="from_dtype"
    ).fit(table, label)
    try:
        save_pipeline(tmp_path / "p", model)
        again = load_pipeline(tmp_path / "p")
    except ValueError as error:
        # Some versions of scikit-learn keep a function for the categories.
        names = str(error).split("not trusted: ")[1].split(". If")[0].split(", ")
        assert all(name.startswith(("functools.", "sklearn.")) for name in names)
        save_pipeline(tmp_path / "p", model, trusted=names)
        again = load_pipeline(tmp_path / "p", trusted=names)
    assert np.array_equal(again.predict_proba(table), model.predict_proba(table))


def test_a_loaded_encoder_still_warns_of_new_values(tmp_path):
    save_pipeline(tmp_path / "p", TabularEncoder().fit(frame()))
    again = load_pipeline(tmp_path / "p")
    table = frame()
    table.loc[3, "job"] = "z"
    with pytest.warns(UserWarning, match=r"'job' in 1 rows \(z\)"):
        again.transform(table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.transform(frame())


def test_further_types_can_be_trusted(tmp_path):
    label = (frame()["size"] > 15).to_numpy()
    model = make_pipeline(TabularEncoder(), RandomForestClassifier(n_estimators=3))
    model.fit(frame(), label)
    trees = ["sklearn.tree._tree.Tree"]
    save_pipeline(tmp_path / "p", model, trusted=trees)
    again = load_pipeline(tmp_path / "p", trusted=trees)
    assert np.array_equal(again.predict_proba(frame()), model.predict_proba(frame()))


class Stranger(PCA):
    pass


def test_unknown_types_are_not_saved_and_not_loaded(tmp_path):
    import skops.io

    fitted = Stranger(1).fit(np.eye(3))
    with pytest.raises(ValueError, match=r"The Stranger holds types.*Stranger"):
        save_pipeline(tmp_path / "p", fitted)
    assert not (tmp_path / "p").exists()
    skops.io.dump(fitted, tmp_path / "p")
    with pytest.raises(ValueError, match=r"not trusted: .*\.Stranger"):
        load_pipeline(tmp_path / "p")
    name = f"{Stranger.__module__}.Stranger"
    assert isinstance(load_pipeline(tmp_path / "p", trusted=[name]), Stranger)


def test_reweighing_comes_back(tmp_path):
    label = (frame()["size"] > 15).to_numpy()
    groups = np.where(np.arange(400) % 2, "m", "f")
    base = make_pipeline(TabularEncoder(), LogisticRegression())
    model = Reweighing(base).fit(frame(), label, sensitive_features=groups)
    save_pipeline(tmp_path / "p", model)
    again = load_pipeline(tmp_path / "p")
    assert np.array_equal(again.predict_proba(frame()), model.predict_proba(frame()))
    assert again.groups_.tolist() == ["f", "m"]


def test_results_inside_an_estimator_come_back(tmp_path):
    rng = np.random.default_rng(0)
    groups, label = np.arange(400) % 2, rng.integers(0, 2, 400)
    rows = rng.normal(size=(400, 2))
    steering = IdealSteering().fit(rows, label, sensitive_features=groups)
    save_pipeline(tmp_path / "p", steering)
    again = load_pipeline(tmp_path / "p")
    assert type(again.steering_) is type(steering.steering_)
    np.testing.assert_array_equal(
        again.transform(rows, sensitive_features=groups),
        steering.transform(rows, sensitive_features=groups),
    )


def test_results_alone_are_pointed_to_save(tmp_path):
    with pytest.raises(ValueError, match=r"not trusted.*by jaxsteer\.storage\.save"):
        save_pipeline(tmp_path / "p", make_pipeline(Stranger(1).fit(np.eye(3))))


def test_functions_are_refused(tmp_path):
    fitted = FunctionTransformer(frame).fit(np.eye(3))
    with pytest.raises(ValueError, match="types that are not trusted"):
        save_pipeline(tmp_path / "p", fitted)


def test_damaged_absent_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="p does not exist"):
        load_pipeline(tmp_path / "p")
    with pytest.raises(FileNotFoundError, match=r"The folder .*nowhere"):
        save_pipeline(tmp_path / "nowhere" / "p", LogisticRegression())
    save_pipeline(tmp_path / "p", LogisticRegression())
    data = (tmp_path / "p").read_bytes()
    for broken in (b"", b"text", data[: len(data) // 2]):
        (tmp_path / "p").write_bytes(broken)
        with pytest.raises(ValueError, match="is damaged or was not written by"):
            load_pipeline(tmp_path / "p")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("skops"):
            raise ModuleNotFoundError(name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'jaxsteer\[sklearn\]'"):
        save_pipeline(tmp_path / "p", LogisticRegression())
