"""Predictions are compared with the label as it is written, never taken for a no."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("typer", reason="typer is not installed")
from typer.testing import CliRunner

from jaxsteer.cli._app import app

TRUTH = ["yes", "yes", "no", "no", "yes", "yes", "no", "no"]
SAID = ["no", "no", "no", "no", "yes", "yes", "no", "no"]
SEX = list("FFFFMMMM")


def audit(folder, frame, *options, code=0, label=("--label", "repaid")):
    source, out = folder / "rows.csv", folder / "audit.json"
    frame.to_csv(source, index=False)
    arguments = ["audit", source, *label, "--group", "sex", "--out", out]
    if "--score" not in options:
        arguments += ["--prediction", "pred"]
    arguments += ["--n-boot", "5", "--force", *options]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    if code:
        return result.output
    found = json.loads(out.read_text())["metrics"]
    return {name: round(interval["value"], 6) for name, interval in found.items()}


def rows(truth, said):
    return pd.DataFrame({"sex": SEX, "repaid": truth, "pred": said})


def spelled(values, yes, no):
    return [yes if value == "yes" else no for value in values]


@pytest.mark.parametrize("positive", [[], ["--positive", "yes"]])
@pytest.mark.parametrize("yes", ["yes", "Yes", "yes.", " yes", "YES "])
def test_the_tiny_table_in_every_spelling(tmp_path, positive, yes):
    found = audit(tmp_path, rows(TRUTH, spelled(SAID, yes, "no")), *positive)
    assert found["accuracy"] == 0.75
    assert found["demographic_parity"] == 0.5
    assert found["equal_opportunity"] == 1.0


@pytest.mark.parametrize(
    ("truth", "said"), [((True, False), (1, 0)), ((1, 0), (True, False))]
)
def test_booleans_and_ones_are_the_same(tmp_path, truth, said):
    frame = rows(spelled(TRUTH, *truth), spelled(SAID, *said))
    assert audit(tmp_path, frame, "--positive", "1")["accuracy"] == 0.75


@pytest.mark.parametrize("positive", [[], ["--positive", "yes"]])
@pytest.mark.parametrize("said", [(1, 0), ("ja", "nein"), (0.9, 0.2)])
def test_other_values_are_refused(tmp_path, positive, said):
    output = audit(tmp_path, rows(TRUTH, spelled(SAID, *said)), *positive, code=3)
    assert "is no value of the label 'repaid'" in output
    assert "For scores use --score" in output


def test_each_value_behind_one_against_the_rest_is_compared_itself(tmp_path):
    truth = [*TRUTH[:-1], "late"]
    said = [*SAID[:-1], "no"]
    found = audit(tmp_path, rows(truth, said), "--positive", "yes")
    # "late" and "no" are both not yes.
    assert found["accuracy"] == 0.75


def test_it_is_what_numpy_says(tmp_path):
    rng = np.random.default_rng(0)
    n = 2000
    sex = rng.choice(["F", "M"], n)
    truth = rng.random(n) < 0.5
    said = rng.random(n) < np.where(sex == "M", 0.7, 0.3) + 0.2 * truth
    frame = pd.DataFrame(
        {
            "sex": sex,
            "repaid": np.where(truth, ">50K.", "<=50K."),
            "pred": np.where(said, ">50K", "<=50K"),
        }
    )
    found = audit(tmp_path, frame, "--positive", ">50K")
    rates = [said[(sex == s) & truth].mean() for s in "FM"]
    assert found["equal_opportunity"] == pytest.approx(abs(np.diff(rates)[0]), abs=1e-5)
    rates = [said[sex == s].mean() for s in "FM"]
    assert found["demographic_parity"] == pytest.approx(
        abs(np.diff(rates)[0]), abs=1e-5
    )


def test_decisions_alone_need_no_label(tmp_path):
    frame = rows(TRUTH, SAID).drop(columns="repaid")
    found = audit(tmp_path, frame, "--positive", "yes", label=())
    assert found == {"demographic_parity": 0.5}
    frame["decision"] = np.where(frame.pop("pred") == "yes", 0.9, 0.1)
    found = audit(tmp_path, frame, "--score", "decision", label=())
    assert found == {"demographic_parity": 0.5, "sup_dp_gap": 0.5}
