"""The notebooks run from top to bottom and show what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
if not NOTEBOOKS.is_dir():
    pytest.skip("no notebooks beside these tests", allow_module_level=True)


def run(name: str) -> dict:
    """Run a notebook's code cells in one fresh namespace, and return it."""
    cells = json.loads((NOTEBOOKS / name).read_text())["cells"]
    space = {"__name__": name}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), space)
    return space


@pytest.mark.slow
def test_census_income():
    space = run("01_census_income.ipynb")
    gaps = space["gaps"]
    for name in ("sup_tpr_gap", "sup_fpr_gap"):
        assert gaps["drawn"][name] < gaps["even"][name] < 0.6 * gaps["raw"][name]
    aucs = [gaps[name]["auc"] for name in ("raw", "even", "drawn")]
    assert aucs == sorted(aucs, reverse=True) and aucs[-1] > 0.87
    assert gaps["steered"]["sup_tpr_gap"] > gaps["raw"]["sup_tpr_gap"]
    assert space["alone"][0] == space["batch"][2]
    assert (space["again"] == space["batch"]).all()


@pytest.mark.slow
def test_training_with_fairness():
    space = run("04_training_with_fairness.ipynb")
    assert space["fair_gaps"][-1] < 0.2 * space["plain_gaps"][-1]
    results = space["results"]
    raw_accuracy, raw_gap = results["plain", "as it is"]
    _, regularized_gap = results["regularized", "steered"]
    accuracy, gap = results["trained through", "steered"]
    assert regularized_gap < 0.25 * raw_gap
    assert gap < 0.5 * raw_gap
    assert accuracy > raw_accuracy - 0.02


@pytest.mark.slow
def test_synthetic_study():
    space = run("02_synthetic_study.ipynb")
    for rows in (space["table"], space["logs"]):
        worst = {row["intervention"]: row["worst_gap"] for row in rows}
        assert max(worst["affirmative"], worst["all groups"]) < 1e-4
        assert min(worst["original"], worst["mean matching"], worst["reweighing"]) > 0.1
    assert (space["curve"].price >= -1e-6).all()
    assert space["ranking"].best == "normal"
    found, truth = space["found"], space["truth"]
    # The interval of this sample holds the truth; three of its widths always should.
    width = found.high["kl"] - found.low["kl"]
    assert abs(found.estimate["kl"] - truth.kl) < 1.5 * width


@pytest.fixture
def stories(monkeypatch):
    """Tell the notebooks where the small language model is, or skip, saying so."""
    folder = NOTEBOOKS.parent.parent / "shared" / "data" / "stories260K"
    if not folder.is_dir():
        pytest.skip("stories260K is not in ../shared/data beside this project")
    monkeypatch.setenv("JAXSTEER_STORIES260K", str(folder))


@pytest.mark.slow
def test_train_inside_a_language_model(stories):
    space = run("07_train_inside_a_language_model.ipynb")
    before, after = space["before"], space["after"]
    assert after["trained"][0] < 0.01 * before["trained"][0]
    assert after["new"][0] < 0.8 * before["new"][0]
    assert before["new"][1] == 0 < after["new"][1] < 0.01


@pytest.mark.slow
def test_steer_a_language_model(stories):
    space = run("03_steer_a_language_model.ipynb")
    assert "a little girl named Lily" in space["opening"]
    assert space["stayed"] and space["unchanged"]
    assert space["gap_after"] < 0.1 * space["gap_before"]
    assert space["gap_soft"] < 0.3 * space["gap_before"]
    assert space["gaps"] == sorted(space["gaps"], reverse=True)
    assert space["after"][1] == space["before"][1]
    assert space["after"][0] != space["before"][0]


@pytest.mark.slow
def test_latent_groups():
    space = run("05_latent_groups.ipynb")
    assert space["errors"].max() < 0.1 < space["pooled_errors"].min()
    assert space["right_group"] > 0.95
    assert space["selection"].best.n_groups == 4
    assert space["worst"]["mixture"] < space["worst"]["pooled"]
    gaps = space["gaps"]
    assert gaps["steered by latent groups"] < 0.3 * gaps["as it is"]


@pytest.mark.slow
def test_pareto():
    space = run("06_pareto.ipynb")
    fair, rivals = space["fair"], space["rivals"]
    assert all(float(fair.value) <= float(r.value) + 1e-6 for r in rivals.values())
    # A model better in both groups than the penalty's, none than the fairest efficient.
    assert space["margins"][-1] < -0.01
    assert abs(space["own_margin"]) < 1e-3
    results = space["results"]
    assert results["steered, BADR"][1] < results["raw, all rows alike"][1]
    assert float(space["walked"].value) <= float(space["walked"].start_value)


def test_every_notebook_has_a_test():
    here = Path(__file__).read_text()
    for path in NOTEBOOKS.glob("*.ipynb"):
        assert f'run("{path.name}")' in here
