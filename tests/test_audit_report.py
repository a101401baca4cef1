"""The audit: a published example digit for digit, and figures that others can recompute."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import warnings

import jax
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("typer", reason="typer is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")
from typer.testing import CliRunner

from jaxsteer.audit import metrics
from jaxsteer.audit_report import (
    PROFILES,
    audit_counts,
    audit_document,
    count_rows,
    cut_numbers,
    recompute_source,
    render_audit,
)
from jaxsteer.audit_report import recompute as recompute_module
from jaxsteer.cli import _app
from jaxsteer.datasets import load_adult, load_german

# The example of the rules of New York's Department of Consumer and Worker Protection,
# 6 RCNY 5-301 (b): people, selected, selection rate and impact ratio, as printed.
SEX = {"Male": (1390, 667, "48%", "1.00"), "Female": (1181, 555, "47%", "0.979")}
RACE = {
    "Hispanic or Latino": (408, 204, "50%", "0.97"),
    "White": (797, 412, "52%", "1.00"),
    "Black or African American": (390, 170, "44%", "0.84"),
    "Native Hawaiian or Pacific Islander": (119, 52, "44%", "0.85"),
    "Asian": (616, 302, "49%", "0.95"),
    "Native American or Alaska Native": (41, 18, "44%", "0.85"),
    "Two or More Races": (213, 96, "45%", "0.87"),
}
BOTH = {
    "Male & Hispanic or Latino": (205, 90, "43.9%", "0.841"),
    "Female & Hispanic or Latino": (190, 82, "43.2%", "0.827"),
    "Male & White": (412, 215, "52.2%", "1.000"),
    "Male & Black or African American": (226, 95, "42.0%", "0.806"),
    "Male & Native Hawaiian or Pacific Islander": (87, 37, "42.5%", "0.815"),
    "Male & Asian": (321, 167, "52.0%", "0.997"),
    "Male & Native American or Alaska Native": (24, 11, "45.8%", "0.878"),
    "Male & Two or More Races": (115, 52, "45.2%", "0.866"),
    "Female & White": (385, 197, "51.2%", "0.981"),
    "Female & Black or African American": (164, 75, "45.7%", "0.876"),
    "Female & Native Hawaiian or Pacific Islander": (32, 15, "46.9%", "0.898"),
    "Female & Asian": (295, 135, "45.8%", "0.877"),
    "Female & Native American or Alaska Native": (17, 7, "41.2%", "0.789"),
    "Female & Two or More Races": (98, 44, "44.9%", "0.860"),
}
# The example of 5-301 (c): scoring rates, from which the numbers above the median follow.
SCORED = {"Male": (92, 50, "54.3%", "1.00"), "Female": (76, 34, "44.7%", "0.82")}


def people(table, columns) -> pd.DataFrame:
    rows = []
    for name, (n, selected, *_) in table.items():
        values = name.split(" & ")
        for count, said in ((selected, "yes"), (n - selected, "no")):
            rows += [[*values, said]] * count
    return pd.DataFrame(rows, columns=[*columns, "selected"])


def run(*args: object, code: int = 0):
    result = CliRunner().invoke(_app.app, [str(a) for a in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def audited(folder, frame, *options, code=0):
    frame.to_csv(folder / "rows.csv", index=False)
    out = folder / "audit.html"
    result = run(
        "audit", folder / "rows.csv", "--out", out, "--force", *options, code=code
    )
    if code:
        return result.output
    return json.loads((folder / "audit.json").read_text())


def as_printed(row, like):
    rate, ratio = like
    digits = len(rate.partition(".")[2].rstrip("%"))
    places = len(ratio.partition(".")[2])
    return f"{100 * row['rate']:.{digits}f}%", f"{row['ratio']:.{places}f}"


def sets_of(document, measure="selection_rate"):
    return {tuple(s["columns"]): s for s in document["measures"][measure]["sets"]}


def test_the_citys_example_digit_for_digit(tmp_path):
    frame = people(BOTH, ["sex", "race"])
    unknown = pd.DataFrame(
        {"sex": "", "race": "White", "selected": ["yes", "no"] * 125}
    )
    options = ["--prediction", "selected", "--positive", "yes", "--profile", "ll144"]
    document = audited(
        tmp_path, pd.concat([frame, unknown]), *options, "--group", "sex,race"
    )
    found = sets_of(document)
    for columns, table in ((("sex",), SEX), (("sex", "race"), BOTH)):
        rows = {row["group"]: row for row in found[columns]["rows"]}
        assert set(rows) == set(table)
        for name, (n, selected, *printed) in table.items():
            assert (rows[name]["n"], rows[name]["hits"]) == (n, selected)
            assert as_printed(rows[name], printed) == tuple(printed), name
    # Its numbers of races are not the sums of its intersections: a table of their own.
    alone = audited(tmp_path, people(RACE, ["race"]), *options, "--group", "race")
    rows = {row["group"]: row for row in sets_of(alone)["race",]["rows"]}
    for name, (n, selected, *printed) in RACE.items():
        assert (rows[name]["n"], rows[name]["hits"]) == (n, selected)
        assert as_printed(rows[name], printed) == tuple(printed), name
    assert document["data"]["unknown"]["sex"] == 250
    assert document["data"]["rows_counted"] == 2571
    small = {one["group"] for one in document["under_2_percent"]}
    assert "Native American or Alaska Native" in small
    page = (tmp_path / "audit.html").read_text()
    assert "Local Law 144" in page and "date of the audit" in page


def test_scoring_rates_are_shares_above_the_median(tmp_path):
    frame = people(SCORED, ["sex"])
    # 84 of 168 lie above the median.
    frame["score"] = np.where(frame["selected"] == "yes", 2.0, 1.0)
    document = audited(tmp_path, frame, "--group", "sex", "--score", "score")
    rows = {r["group"]: r for r in sets_of(document, "scoring_rate")["sex",]["rows"]}
    for name, (n, above, *printed) in SCORED.items():
        assert (rows[name]["n"], rows[name]["hits"]) == (n, above)
        assert as_printed(rows[name], printed) == tuple(printed)
    assert set(document["metrics"]) == {"demographic_parity", "sup_dp_gap"}


def tables():
    """Three data sets: a label and a score with ties, many scores, three classes."""
    rng = np.random.default_rng(0)
    german, adult = load_german(), load_adult()
    pick = rng.permutation(len(adult))[:1500]
    frame = pd.DataFrame(
        {
            "sex": np.array(german.group_names)[german.group],
            "label": np.array(german.label_names)[german.label],
            "score": rng.integers(0, 20, len(german)) + 5 * german.label,
            "weight": rng.integers(1, 4, len(german)),
            "age": rng.integers(18, 80, len(german)),
        }
    )
    yield (
        frame.iloc[:600],
        ["--group", "sex,age", "--bin", "age=3", "--weights", "weight"],
        ["--score", "score", "--threshold", "12", "--label", "label"],
    )
    frame = pd.DataFrame(
        {
            "sex": np.array(adult.group_names)[adult.group[pick]],
            "race": adult.features["race"].iloc[pick].to_numpy(),
            "income": np.array(adult.label_names)[adult.label[pick]],
            "score": rng.normal(size=1500) + adult.label[pick],
        }
    )
    yield (
        frame,
        ["--group", "sex,race", "--suppress", "20", "--leave-out-small"],
        ["--score", "score", "--threshold", "1", "--label", "income"],
    )
    truth, said = rng.choice(list("abc"), (2, 400))
    frame = pd.DataFrame({"team": rng.choice(list("xy"), 400), "t": truth, "s": said})
    yield frame, ["--group", "team"], ["--label", "t", "--prediction", "s"]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_number_is_recomputed_by_the_standard_library(tmp_path, which, capsys):
    frame, *options = list(tables())[which]
    document = audited(tmp_path, frame, *options[0], *options[1], "--n-boot", "20")
    counts, source = (
        tmp_path / "audit.counts.csv",
        (tmp_path / "rows.csv").read_bytes(),
    )
    assert not recompute_module.main(tmp_path / "audit.json", counts)
    said = capsys.readouterr().out
    assert said.startswith("All ") and int(said.split()[1]) > 40
    assert document["data"]["sha256"] == hashlib.sha256(source).hexdigest()
    text = counts.read_bytes()
    assert document["data"]["counts_sha256"] == hashlib.sha256(text).hexdigest()
    # A number that was changed, in the audit or in the counts, is found.
    name = next(iter(document["measures"]))
    document["measures"][name]["sets"][0]["rows"][0]["rate"] += 1e-4
    (tmp_path / "changed.json").write_text(json.dumps(document))
    assert recompute_module.main(tmp_path / "changed.json", counts)
    assert "recomputed" in capsys.readouterr().out


def test_the_program_stands_beside_the_audit_and_needs_nothing(tmp_path):
    frame = people(SEX, ["sex"])
    audited(tmp_path, frame, "--group", "sex", "--prediction", "selected")
    assert {p.name for p in tmp_path.iterdir()} == {
        *("rows.csv", "audit.html", "audit.json", "audit.counts.csv", "recompute.py")
    }
    assert (tmp_path / "recompute.py").read_text() == recompute_source()
    command = [sys.executable, "-I", "-S", "recompute.py", "audit.json"]
    done = subprocess.run(
        [*command, "audit.counts.csv"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("All "), done


def test_the_metrics_are_those_of_the_library():
    rng = np.random.default_rng(1)
    n = 900
    group, label = rng.integers(0, 3, n), rng.integers(0, 2, n)
    score = np.round(rng.normal(size=n) + label, 1)
    said = (score > 0.5).astype(int)
    sex = ("g", group, ("a", "b", "c"))
    cells = count_rows(
        [sex], label=label, prediction=said, score=score, label_names=("no", "yes")
    )
    found = audit_counts(cells, draws=20, n_boot=10)["metrics"]
    for name in ("accuracy", "balanced_accuracy", "demographic_parity", "tpr_gap"):
        value = getattr(metrics, name)(label, said, group)
        assert found[name]["value"] == pytest.approx(float(value), abs=1e-6)
    for name in ("equal_opportunity", "equalized_odds"):
        value = getattr(metrics, name)(label, said, group)
        assert found[name]["value"] == pytest.approx(float(value), abs=1e-6)
    many = ("auc", "sup_tpr_gap", "sup_fpr_gap", "sup_dp_gap")
    theirs = metrics.bootstrap(
        many, label, None, group, score=score, key=jax.random.key(0), n_boot=2
    )
    for name in many:
        value = float(theirs[name].value)
        assert found[name]["value"] == pytest.approx(value, abs=1e-6)


def test_intervals_hold_their_value_and_hold_together():
    """Sixteen groups that are treated alike: rates and differences, all at one time."""
    rng = np.random.default_rng(2)
    held = 0
    for trial in range(60):
        rows = []
        for j in range(2):
            rows.append((f"c{j}", rng.integers(0, 4, 1500), list("abcd")))
        said = (rng.random(1500) < 0.3).astype(int)
        cells = count_rows(rows, prediction=said, label_names=("no", "yes"))
        found = audit_counts(cells, seed=trial, draws=200, n_boot=2)
        fine = True
        for one in found["measures"]["selection_rate"]["sets"]:
            for row in one["rows"]:
                assert row["low"] <= row["rate"] <= row["high"]
                fine &= row["low"] <= 0.3 <= row["high"]
                if not row["is_highest"]:
                    assert row["difference_low"] <= row["difference"]
                    assert row["difference"] <= row["difference_high"]
                    assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
                    fine &= row["difference_high"] >= 0 and row["ratio_high"] >= 1
        held += fine
        gap = found["metrics"]["demographic_parity"]
        assert gap["low"] <= gap["value"] <= gap["high"]
    # .95 of 60 less two standard deviations.
    assert held >= 53, held


def test_the_chance_level_is_what_shuffling_gives():
    rng = np.random.default_rng(3)
    group, said = rng.integers(0, 8, 800), (rng.random(800) < 0.4).astype(int)
    cells = count_rows(
        [("g", group, list("abcdefgh"))], prediction=said, label_names=("no", "yes")
    )
    found = audit_counts(cells, draws=1000, n_boot=400)
    gaps = []
    for _ in range(1000):
        rng.shuffle(group)
        rates = np.bincount(group, said) / np.bincount(group)
        gaps.append(rates.max() - rates.min())
    expected = np.mean(gaps)
    one = found["measures"]["selection_rate"]["sets"][0]
    assert one["range_by_chance"] == pytest.approx(expected, rel=0.1)
    assert one["range_by_chance_95"] == pytest.approx(np.quantile(gaps, 0.95), rel=0.1)
    chance = found["metrics"]["demographic_parity"]["by_chance"]
    assert chance == pytest.approx(expected, rel=0.1)


def test_what_is_said_in_words(tmp_path):
    frame = pd.DataFrame(
        {
            "sex": ["F"] * 500 + ["M"] * 500,
            "pred": (["yes"] * 100 + ["no"] * 400) + (["yes"] * 250 + ["no"] * 250),
        }
    )
    options = ["--group", "sex", "--prediction", "pred", "--positive", "yes"]
    document = audited(tmp_path, frame, *options, "--profile", "four-fifths")
    words = document["words"][0]
    assert "F are accepted least often, 20.0% of 500" in words
    assert "this is more than chance, and F are worse off here" in words
    row = sets_of(document)["sex",]["rows"][0]
    assert row["below_four_fifths"] and row["ratio"] == 0.4
    # The test of two proportions by hand.
    spread = math.sqrt(0.35 * 0.65 * 2 / 500)
    assert row["standard_deviations"] == pytest.approx(-0.3 / spread)
    page = (tmp_path / "audit.html").read_text()
    assert "none of it is a verdict of law" in page and "below 4/5" in page
    run(
        *("audit", tmp_path / "rows.csv", *options),
        *("--fail-if", "impact_ratio < .8"),
        code=5,
    )
    same = frame.assign(pred=(["yes"] * 200 + ["no"] * 300) * 2)
    document = audited(tmp_path, same, *options)
    assert document["words"] == []


def test_unknown_and_missing_rows_are_counted_not_guessed(tmp_path):
    frame = pd.DataFrame(
        {
            "sex": ["F", "M", "X", ""] * 50,
            "label": ["yes", "no"] * 99 + ["", ""],
            "pred": ["yes"] * 199 + [""],
        }
    )
    options = ["--group", "sex", "--label", "label", "--prediction", "pred"]
    document = audited(tmp_path, frame, *options, "--unknown", "X")
    assert document["data"]["unknown"] == {"sex": 100}
    assert document["data"]["excluded"] == {"a label": 0, "a prediction": 0}
    assert document["data"]["rows_counted"] == 100
    output = audited(tmp_path, frame, *options, "--strict", code=3)
    assert "50 rows have no group" in output or "rows have no group" in output


def test_numbers_are_cut_and_small_cells_hidden(tmp_path):
    assert cut_numbers(np.array([1.0, np.nan]), [5])[0].tolist() == [0, -1]
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {
            "sex": ["F"] * 100 + ["M"] * 105,
            "age": [*rng.integers(18, 60, 200), 90, 91, 92, 93, 94],
            "pred": rng.integers(0, 2, 205),
        }
    )
    options = ["--group", "sex,age", "--bin", "age=40,80", "--prediction", "pred"]
    document = audited(tmp_path, frame, *options)
    names = [row["group"] for row in sets_of(document)["age",]["rows"]]
    assert names == ["under 40", "40 to under 80", "80 and over"]
    document = audited(tmp_path, frame, *options, "--suppress", "10")
    assert document["suppressed_rows"] == 5
    assert "80 and over" not in (tmp_path / "audit.counts.csv").read_text()
    assert document["rows"] == 200
    # Neither the margins nor the page tell what was left out.
    assert sum(r["n"] for r in sets_of(document)["sex",]["rows"]) == 200
    assert "5 rows of 1 intersections" in " ".join(document["notes"])
    for bad in ("age", "age=", "age=5,1", "age=1", "income=3"):
        output = audited(
            tmp_path, frame, "--group", "sex,age", "--prediction", "pred",
            "--bin", bad, code=2,
        )  # fmt: skip
        assert "--bin" in output


def test_profiles_that_are_named_are_those_that_exist(tmp_path):
    assert tuple(PROFILES) == _app.PROFILES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in PROFILES:
            frame = people(SEX, ["sex"])
            options = ["--group", "sex", "--prediction", "selected"]
            audited(tmp_path, frame, *options, "--profile", name)
            page = (tmp_path / "audit.html").read_text()
            assert PROFILES[name]["title"].split("'")[0] in page


def test_rows_are_counted_under_names_and_lengths_that_fit():
    sex = ("sex", np.array([0, 1, 1]), ("f", "m"))
    assert count_rows([sex], label=np.array([0, 2, 1])).label_names == ("0", "1", "2")
    with pytest.raises(ValueError, match="code 2, which has no name"):
        count_rows([sex], label=np.array([0, 2, 1]), label_names=("no", "yes"))
    with pytest.raises(ValueError, match=r"groups\['sex'\] has 3, score has 2 rows"):
        count_rows([sex], score=np.array([0.1, 0.2]))


def test_any_document_has_a_page():
    cells = count_rows(
        [("sex", np.arange(80) % 2, ("f", "m"))], prediction=np.arange(80) % 3 % 2
    )
    data = {"file": "a.csv", "sha256": "", "rows": 80, "rows_counted": 80}
    document = audit_document(
        cells,
        data=data | {"unknown": {}, "excluded": {}},
        options={"seed": 0, "draws": 20, "n_boot": 10, "leave_out_small": False},
    )
    page = render_audit(document)
    assert "recompute.py audit.json counts.csv" in page
    assert "demographic_parity" in page


def one_sided(n=80):
    """Decisions on people of two groups, of whom one has no true yes."""
    i = np.arange(n)
    return pd.DataFrame(
        {
            "sex": np.where(i % 2, "m", "f"),
            "repaid": np.where((i % 4 == 1), "yes", "no"),
            "pred": np.where(i % 3, "yes", "no"),
            "score": i / n,
        }
    )


def test_what_no_two_groups_have_rows_for_is_unknown_not_equal(tmp_path):
    asked = ["--label", "repaid", "--group", "sex", "--n-boot", "4"]
    both = [*asked, "--prediction", "pred", "--score", "score"]
    document = audited(tmp_path, one_sided(), *both)
    assert sorted(document["metrics"]) == [
        *("accuracy", "auc", "balanced_accuracy", "demographic_parity"),
        *("sup_dp_gap", "sup_fpr_gap"),
    ]
    (note,) = [n for n in document["notes"] if n.startswith("Not measured")]
    assert "equal opportunity gap (TPR), largest TPR gap" in note
    gate = [*both, "--fail-if", "equal_opportunity > .1"]
    assert "is not measured here" in audited(tmp_path, one_sided(), *gate, code=2)
    counts = tmp_path / "audit.counts.csv"
    assert not recompute_module.main(tmp_path / "audit.json", counts)


def test_a_group_without_a_label_is_left_out_in_words(tmp_path):
    frame = one_sided(120)
    frame.loc[::5, "sex"] = "x"
    asked = ["--label", "repaid", "--group", "sex", "--n-boot", "4"]
    document = audited(tmp_path, frame, *asked, "--prediction", "pred")
    known = frame[frame["sex"] != "f"]
    right = known[known["repaid"] == "yes"]
    rates = (right["pred"] == "yes").groupby(right["sex"]).mean()
    found = document["metrics"]["equal_opportunity"]
    assert found["value"] == pytest.approx(rates.max() - rates.min())
    assert any("leaves out the groups without rows" in n for n in document["notes"])
    assert not any("rests on 0 rows" in n for n in document["notes"])


@pytest.mark.parametrize("threshold, word", [("2", "no row"), ("-1", "every row")])
def test_a_threshold_beyond_all_scores_is_told(tmp_path, threshold, word):
    asked = ["--group", "sex", "--score", "score", "--n-boot", "4"]
    document = audited(tmp_path, one_sided(), *asked, "--threshold", threshold)
    assert any(f"{word} is accepted" in note for note in document["notes"])


@pytest.mark.parametrize(
    "options, message",
    [
        (["--score", "score", "--threshold", "nan"], "--threshold nan: give a number"),
        (["--prediction", "pred", "--label", "pred"], "--prediction are the same"),
        (["--score", "score", "--label", "score"], "--score are the same column"),
    ],
)
def test_questions_that_answer_themselves(tmp_path, options, message):
    output = audited(tmp_path, one_sided(), "--group", "sex", *options, code=2)
    assert message in " ".join(output.split())


def test_an_unknown_text_that_is_nowhere_is_told(tmp_path):
    asked = ["--group", "sex", "--prediction", "pred", "--n-boot", "4"]
    document = audited(tmp_path, one_sided(), *asked, "--unknown", "none")
    assert any("--unknown 'none' stands in no" in note for note in document["notes"])
