"""The command line: files in, files out, and one clear line when it cannot be."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("typer", reason="typer is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("skops", reason="skops is not installed")
from typer.testing import CliRunner

from jaxsteer.cli import _steer
from jaxsteer.cli._app import app
from jaxsteer.datasets import load_german
from tests.programs import run_fresh

COMMON = ["--learner", "logistic", "--no-check"]


def rows(n: int = 400) -> pd.DataFrame:
    """German credit with names for label and group, and some missing values."""
    table = load_german()
    picked = np.random.default_rng(0).permutation(len(table))[:n]
    columns = ["age", "duration", "credit_amount", "housing", "savings"]
    known = [c for c in columns if c in table.features] or list(table.features)[:5]
    frame = table.features[known].copy()
    frame["risk"] = np.array(table.label_names)[table.label]
    frame["sex"] = np.array(table.group_names)[table.group]
    frame = frame.iloc[np.sort(picked)].reset_index(drop=True)
    frame.loc[[3, 50, 70], known[0]] = np.nan
    frame.loc[[4, 90], known[-1]] = None
    return frame


def run(*args: object, code: int = 0):
    """Run a command, and show what it said if its exit code is another one."""
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return rows()


@pytest.fixture(scope="module")
def source(frame, tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("in") / "rows.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def steered(source, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("out") / "steered.csv"
    run("steer", source, "--label", "risk", "--group", "sex", "--out", out, *COMMON)
    return out


def steered_columns(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame if name.startswith("steered_")]


def test_steer_keeps_rows_and_columns_and_adds_its_own(frame, steered):
    found = pd.read_csv(steered)
    pd.testing.assert_frame_equal(
        found[frame.columns],
        pd.read_csv(steered.with_name("steered.csv"))[frame.columns],
    )
    np.testing.assert_array_equal(found["risk"], frame["risk"])
    np.testing.assert_array_equal(found["sex"], frame["sex"])
    assert len(steered_columns(found)) >= 5
    assert found[steered_columns(found)].notna().all().all()
    assert found["fair_score"].between(0, 1).all()


def test_sample_weights_make_label_and_group_independent(steered):
    found = pd.read_csv(steered)
    share = found.pivot_table(
        index="sex", columns="risk", values="sample_weight", aggfunc="sum"
    )
    share = share.div(share.sum(axis=1), axis=0).to_numpy()
    np.testing.assert_allclose(share[0], share[1], rtol=1e-5)


def test_the_fair_score_has_one_law_given_the_label(steered):
    found = pd.read_csv(steered)
    # In sample the law is equal in expectation over the key: a mean test, by class.
    for _, part in found.groupby("risk"):
        means = part.groupby("sex")["fair_score"].agg(["mean", "sem"])
        gap = abs(means["mean"].diff().iloc[1])
        assert gap < 4 * np.hypot(*means["sem"])


def test_the_page_and_the_maps_are_beside_the_rows(steered):
    page = steered.with_name("steered.report.html").read_text()
    assert "What is promised" in page and "randomization" in page
    files = {path.name for path in steered.with_name("steered.maps").iterdir()}
    names = {"maps.safetensors", "encoder.skops", "learner.skops", "manifest.json"}
    assert files == names


def test_the_maps_are_verified_and_the_page_says_so(source, steered, tmp_path):
    page = steered.with_name("steered.report.html").read_text()
    assert "verified anew, in NumPy float64</th><td>yes" in page
    assert "no nearer answer nearby" in page and "do NOT keep" not in page
    options = ["--label", "risk", "--group", "sex", "--features", *COMMON]
    result = run("steer", source, "--out", tmp_path / "a.csv", *options, "--json")
    told = json.loads(result.stdout)["verified"]
    assert told["ok"] and all(check["holds"] for check in told["checks"])
    plain = run("steer", source, "--out", tmp_path / "b.csv", *options)
    assert "Steering: verified in NumPy float64; status CONVERGED" in plain.output
    weights = [*options[:4], "--method", "reweigh", "--no-check"]
    none = run("steer", source, "--out", tmp_path / "c.csv", *weights, "--json")
    assert json.loads(none.stdout)["verified"] is None


def test_maps_that_break_their_promise_are_not_passed_over(
    source, tmp_path, monkeypatch
):
    def spoiled(*args, **options):
        found = fit(*args, **options)
        maps = found.group_maps
        maps = dataclasses.replace(maps, weight=maps.weight * 1.1)
        return dataclasses.replace(found, group_maps=maps)

    fit = _steer.fit_features
    monkeypatch.setattr(_steer, "fit_features", spoiled)
    options = ["--label", "risk", "--group", "sex", "--features", *COMMON]
    out = tmp_path / "out.csv"
    result = run("steer", source, "--out", out, *options)
    assert "NOT VERIFIED" in result.output and "do NOT keep" in result.output
    page = out.with_name("out.report.html").read_text()
    assert "groups alike once steered: DOES NOT HOLD" in page
    assert "do NOT keep what they promise" in page


def test_apply_on_the_training_rows_gives_the_same_features(source, steered, tmp_path):
    unlabeled = tmp_path / "new.csv"
    pd.read_csv(source).drop(columns="risk").to_csv(unlabeled, index=False)
    out = tmp_path / "applied.csv"
    run("apply", steered.with_name("steered.maps"), unlabeled, "--out", out)
    first, second = pd.read_csv(steered), pd.read_csv(out)
    names = steered_columns(first)
    assert steered_columns(second) == names
    pd.testing.assert_frame_equal(first[names], second[names])
    assert second["fair_score"].between(0, 1).all()
    assert "sample_weight" not in second


def test_apply_is_reproducible_by_seed_and_has_a_deterministic_score(
    source, steered, tmp_path
):
    maps = steered.with_name("steered.maps")
    outs = {}
    for name, options in {
        "a": ["--seed", "5"],
        "b": ["--seed", "5"],
        "c": ["--seed", "6"],
    }.items():
        run("apply", maps, source, "--out", tmp_path / f"{name}.csv", *options)
        outs[name] = (tmp_path / f"{name}.csv").read_bytes()
    assert outs["a"] == outs["b"] != outs["c"]
    out = tmp_path / "d.csv"
    result = run("apply", maps, source, "--out", out, "--deterministic")
    assert "approximately fair" in result.output
    assert "fair_score_approximate" in pd.read_csv(out)


def test_the_same_seed_gives_the_same_bytes(source, steered, tmp_path):
    out = tmp_path / "steered.csv"
    run("steer", source, "--label", "risk", "--group", "sex", "--out", out, *COMMON)
    assert out.read_bytes() == steered.read_bytes()
    maps = "steered.maps/maps.safetensors"
    assert (tmp_path / maps).read_bytes() == (steered.parent / maps).read_bytes()
    page = "steered.report.html"
    assert (tmp_path / page).read_bytes() == (steered.parent / page).read_bytes()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--features"], {"features"}),
        (["--sample-weights"], {"sample_weight"}),
        (["--score"], {"fair_score"}),
        (["--method", "reweigh"], {"sample_weight"}),
        (["--method", "roc_channel"], {"fair_score"}),
        (["--method", "meet"], {"fair_score"}),
        (["--method", "gaussian_channel", "--features"], {"features"}),
        (["--method", "all_groups", "--features"], {"features"}),
        (["--method", "mimic", "--features"], {"features"}),
        (["--method", "mean_match", "--features"], {"features"}),
        (
            ["--method", "leace", "--features", "--sample-weights"],
            {"features", "sample_weight"},
        ),
    ],
)
def test_methods_and_parts(frame, source, tmp_path, options, expected):
    out = tmp_path / "out.csv"
    run(
        *("steer", source, "--label", "risk", "--group", "sex", "--out", out),
        *(*COMMON, *options),
    )
    new = [name for name in pd.read_csv(out) if name not in frame]
    assert {"features" if n.startswith("steered_") else n for n in new} == expected


@pytest.mark.slow
def test_parquet_in_and_out_and_a_held_out_check(frame, tmp_path):
    source, out = tmp_path / "rows.parquet", tmp_path / "steered.parquet"
    frame.to_parquet(source, index=False)
    page = tmp_path / "page.html"
    run(
        *("steer", source, "--label", "risk", "--group", "sex", "--out", out),
        *("--learner", "logistic", "--positive", "bad", "--reference", "Female"),
        *("--report", page),
    )
    found = pd.read_parquet(out)
    pd.testing.assert_frame_equal(found[frame.columns], frame)
    text = page.read_text()
    assert "Measured on held-out rows" in text
    assert "bad is the favorable one" in text
    assert text.count("data:image/png") >= 4


def test_three_groups_and_three_classes_have_no_fair_score(frame, tmp_path):
    source, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    changed = frame.assign(
        level=np.arange(len(frame)) % 3 * 10,
        team=np.array(list("xyz"))[np.arange(400) // 7 % 3],
    ).drop(columns=["risk", "sex"])
    changed.to_csv(source, index=False)
    arguments = ["steer", source, "--label", "level", "--group", "team", "--out", out]
    result = run(*arguments, *COMMON)
    assert "3 classes: no fair_score" in result.output
    found = pd.read_csv(out)
    assert "fair_score" not in found and "sample_weight" in found
    result = run(*arguments, "--score", "--force", code=2)
    assert "a fair score needs two" in result.output
    # With one class named, the label is binary, and any number of groups will do.
    run(*arguments, "--positive", "20", "--score", "--force", *COMMON)
    assert "fair_score" in pd.read_csv(out)


@pytest.mark.parametrize(
    ("code", "change", "options", "message"),
    [
        (3, {}, ["--label", "risc"], "did you mean 'risk'"),
        (3, {}, ["--group", "gender"], "there is no column 'gender'"),
        (3, {}, ["--positive", "great"], "positive='great' is no value"),
        (3, {}, ["--positive", "godo"], "; did you mean 'good'?"),
        (
            2,
            {},
            ["--reference", "X"],
            "--reference 'X' is no group; the groups are Female",
        ),
        (2, {}, ["--method", "magic"], "--method='magic' is not known"),
        (2, {}, ["--learner", "magic"], "learner='magic' is not known"),
        (2, {}, ["--out", "rows.xlsx"], "the ending must be one of"),
        (2, {}, ["--method", "reweigh", "--features"], "steers no features"),
        (3, {"risk": [None, "good"] * 200}, [], "has 200 missing values"),
        (3, {"sex": ["Female"] * 400}, [], "only the value 'Female'"),
        (3, {"sample_weight": 1.0}, [], "already has the column 'sample_weight'"),
        (3, {}, ["--encoding", "klingon"], "encoding='klingon' is not known"),
    ],
)
def test_bad_input_is_one_line(frame, tmp_path, code, change, options, message):
    source = tmp_path / "rows.csv"
    frame.assign(**change).to_csv(source, index=False)
    defaults = ["--label", "risk", "--group", "sex", "--out", tmp_path / "out.csv"]
    arguments = [*defaults, *COMMON, "--sample-weights", *options]
    result = run("steer", source, *arguments, code=code)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    lines = [line for line in result.output.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and message in lines[0], result.output
    assert "Traceback" not in result.output


def test_a_missing_file_and_a_folder_that_is_no_maps(tmp_path, source):
    result = run(
        "audit", "no.csv", "--label", "a", "--group", "b", "--score", "c", code=3
    )
    assert "no.csv does not exist" in result.output
    result = run("apply", tmp_path, source, "--out", tmp_path / "o.csv", code=3)
    assert "no folder of fitted maps" in result.output


def test_an_unknown_group_and_a_missing_column_at_apply(frame, steered, tmp_path):
    new = tmp_path / "new.csv"
    maps = steered.with_name("steered.maps")
    frame.assign(sex=["Other"] + ["Male"] * 399).to_csv(new, index=False)
    result = run("apply", maps, new, "--out", tmp_path / "o.csv", "--strict", code=3)
    assert "not known: 'Other'" in result.output
    assert "the first in row 0" in result.output
    result = run("apply", maps, new, "--out", tmp_path / "o.csv")
    assert "1 rows belong to no group" in result.output
    found = pd.read_csv(tmp_path / "o.csv")
    assert found["fair_score"].isna().tolist() == [True] + [False] * 399
    aside = pd.read_csv(tmp_path / "o.quarantine.csv")
    assert aside["row"].tolist() == [0] and aside["sex"].tolist() == ["Other"]
    frame.assign(sex="Other").to_csv(new, index=False)
    result = run("apply", maps, new, "--out", tmp_path / "p.csv", code=3)
    assert "No row belongs to a group" in result.output
    frame.drop(columns=frame.columns[0]).to_csv(new, index=False)
    result = run("apply", maps, new, "--out", tmp_path / "q.csv", code=3)
    assert repr(frame.columns[0]) in result.output


def test_audit_prints_flags_and_writes(frame, tmp_path):
    rng = np.random.default_rng(0)
    good = (frame["risk"] == "good").to_numpy()
    score = np.clip(0.3 + 0.4 * good + rng.normal(0, 0.2, len(frame)), 0, 1)
    predicted = np.where(score >= 0.5, "good", "bad")
    few = frame.assign(
        score=score, predicted=predicted, sex=["Female"] * 40 + ["Male"] * 360
    )
    source, out = tmp_path / "rows.csv", tmp_path / "audit.json"
    few.to_csv(source, index=False)
    common = ["audit", source, "--label", "risk", "--group", "sex", "--n-boot", "20"]
    result = run(*common, "--score", "score", "--positive", "good", "--out", out)
    assert "few" in result.output and "AUC" in result.output
    found = json.loads(out.read_text())
    expected = (predicted == frame["risk"]).mean()
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(expected, abs=1e-6)
    assert found["counts"][1][0] == int(good[:40].sum())
    # The same decision handed over as predictions gives the same accuracy, no AUC.
    page = tmp_path / "audit.html"
    run(*common, "--prediction", "predicted", "--out", page, "--force")
    assert f"{expected:.3f}" in page.read_text() and "AUC" not in page.read_text()
    # Another threshold gives another decision.
    again = [*common, "--score", "score", "--threshold", "0.9", "--out", out]
    assert "exists already" in run(*again, code=2).output
    result = run(*again, "--force", "--fail-if", "accuracy >= .1", code=5)
    assert "and --fail-if says >= 0.1" in result.output
    accuracy = json.loads(out.read_text())["metrics"]["accuracy"]["value"]
    assert accuracy == pytest.approx(((score >= 0.9) == good).mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (2, [], "Give --prediction COLUMN or --score COLUMN"),
        (3, ["--prediction", "sex"], "is no value of the label"),
        (3, ["--score", "sex"], "must hold numbers"),
        (3, ["--score", "nothing"], "--score: there is no column 'nothing'"),
        (2, ["--score", "age", "--out", "a.txt"], "the ending must be .json or .html"),
        (2, ["--score", "age", "--fail-if", "gap > 1"], "a comparison and a number"),
        (2, ["--score", "age", "--n-boot", "0"], "at least one resample"),
    ],
)
def test_bad_audits(source, code, options, message):
    common = ["audit", source, "--label", "risk", "--group", "sex"]
    result = run(*common, *options, code=code)
    assert message in result.output


@pytest.mark.slow
def test_demo_quick(tmp_path, monkeypatch):
    from jaxsteer.cli import _demo

    monkeypatch.setattr(_demo, "_QUICK_ROWS", 1500)
    monkeypatch.setattr(
        _demo,
        "_QUICK_METHODS",
        ("balanced_quantiles", "raw", "steering", "roc_channel"),
    )
    result = run("demo", "--quick", "--out", tmp_path)
    assert "steering + reweighing" in result.output
    # First what the deterministic score reaches, then the exact one, and their cost.
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    assert lines[0].startswith("balanced quantiles (deterministic): largest gap")
    assert "of AUC" in result.output and "ROC channel (randomized)" in result.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.html",
        "table.md",
        "table.json",
    }
    assert "whose labels were read by" in (tmp_path / "report.html").read_text()


def test_version():
    import jaxsteer

    assert run("--version").output.strip() == f"jaxsteer {jaxsteer.__version__}"


def test_without_typer_it_says_what_to_install():
    code = (
        "import sys; sys.modules['typer'] = None\nfrom jaxsteer.cli import main\nmain()"
    )
    done = run_fresh(code)
    assert done.returncode == 1
    assert "pip install 'jaxsteer[cli]'" in done.stderr
    assert "Traceback" not in done.stderr
