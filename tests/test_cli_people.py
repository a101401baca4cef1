"""Rows stay people: the same answer whoever asks, in their own units and their own text."""

from __future__ import annotations

import io
import json
import warnings

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("typer", reason="typer is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("skops", reason="skops is not installed")
from typer.testing import CliRunner

from jaxsteer.cli._app import app
from jaxsteer.cli._rows import canonical_order
from jaxsteer.cli._use import significant
from jaxsteer.compare import get_learner
from jaxsteer.datasets import read_text_table, table_from_frame
from jaxsteer.estimators import FairScore, TabularEncoder

N = 400
STEER = ["--label", "paid", "--group", "sex", "--id", "id", "--learner", "logistic"]


def run(*args: object, code: int = 0, **options):
    result = CliRunner().invoke(app, [str(a) for a in args], **options)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def text(path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    sex = rng.choice(["F", "M"], N, p=[0.4, 0.6])
    paid = rng.random(N) < np.where(sex == "M", 0.6, 0.4)
    return pd.DataFrame(
        {
            "id": [f"{i:05d}" for i in range(N)],
            "zip": [f"{i % 7:05d}" for i in range(N)],
            "region": rng.choice(["NA", "EU"], N),
            "kids": rng.choice(["", "0", "1", "4"], N),
            "income": (rng.normal(30 + 8 * paid, 6, N) * 1000).round().astype(int),
            "since": [f"20{10 + i % 9}-0{1 + i % 9}-15" for i in range(N)],
            "sex": sex,
            "paid": np.where(paid, "yes", "no"),
            "weight": rng.integers(1, 4, N),
        }
    )


@pytest.fixture(scope="module")
def folder(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    people.to_csv(folder / "rows.csv", index=False)
    run(
        *("steer", folder / "rows.csv", *STEER, "--no-check"),
        *("--drop", "weight", "--missing", "", "--out", folder / "steered.csv"),
    )
    return folder


def test_steer_apply_and_the_estimator_agree(people, folder):
    """Training rows asked again, alone or in another order, get the same answers."""
    maps = folder / "steered.maps"
    run("apply", maps, folder / "rows.csv", "--out", folder / "again.csv")
    first, again = text(folder / "steered.csv"), text(folder / "again.csv")
    new = [name for name in first if name not in people]
    assert "fair_score" in new and "steered_income" in new
    for name in again.columns:
        assert again[name].tolist() == first[name].tolist(), name
    people.iloc[[7]].to_csv(folder / "one.csv", index=False)
    run("apply", maps, folder / "one.csv", "--out", folder / "one_out.csv")
    one = text(folder / "one_out.csv")
    assert one.iloc[0].tolist() == again.iloc[7].tolist()
    # The estimator itself, on the encoded rows in the order of their content.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = read_text_table(folder / "rows.csv", missing=(), usual_missing=False)
        order = canonical_order(source)
        table = table_from_frame(
            source.frame, label="paid", group="sex", drop=["id", "weight"]
        ).take(order)
        x = TabularEncoder().fit_transform(table.features)
        assert not any(name == "steered_zip" for name in first)  # a code
        ids = source.written["id"].to_numpy(str)[order]
        model = FairScore(get_learner("logistic").build(), random_state=0).fit(
            x, table.label, sensitive_features=table.group, row_ids=ids
        )
    held_out = significant(model.fair_training_score_)
    assert held_out.tolist() == first["fair_score"].astype(float).iloc[order].tolist()
    asked = model.predict_proba(x, sensitive_features=table.group, row_ids=ids)[:, 1]
    assert significant(asked).tolist() == held_out.tolist()


def test_the_order_of_the_file_changes_no_answer(people, folder):
    people.iloc[::-1].to_csv(folder / "reversed.csv", index=False)
    run(
        *("steer", folder / "reversed.csv", *STEER, "--no-check"),
        *("--drop", "weight", "--missing", "", "--out", folder / "reversed_out.csv"),
    )
    first, other = text(folder / "steered.csv"), text(folder / "reversed_out.csv")
    assert other.iloc[::-1].to_numpy().tolist() == first.to_numpy().tolist()


def test_columns_are_as_they_were_and_steered_ones_in_their_units(people, folder):
    first = text(folder / "steered.csv")
    for name in people:
        assert first[name].tolist() == people[name].astype(str).tolist()
    stays = (people["sex"] == "M").to_numpy()
    income = first["steered_income"].astype(float).to_numpy()
    # The group that stays keeps its values to the last digit.
    assert income[stays].tolist() == people["income"][stays].tolist()
    assert abs(income[~stays].mean() / people["income"][~stays].mean() - 1) < 0.5
    assert not np.array_equal(income[~stays], people["income"][~stays])
    since = first["steered_since"]
    assert since[stays].tolist() == people["since"][stays].tolist()
    assert since.str.fullmatch(r"\d{4}-\d\d-\d\d").all()


def test_an_id_draws_what_is_random(people, folder):
    """With new ids the same people get other draws; other columns change nothing."""
    maps = folder / "steered.maps"
    renamed = people.assign(id=[f"x{i}" for i in range(N)], zip="00001")
    renamed.to_csv(folder / "renamed.csv", index=False)
    run("apply", maps, folder / "renamed.csv", "--out", folder / "renamed_out.csv")
    same = people.assign(note="x")
    same.to_csv(folder / "same.csv", index=False)
    run("apply", maps, folder / "same.csv", "--out", folder / "same_out.csv")
    scores = {
        name: text(folder / f"{name}_out.csv")["fair_score"].tolist()
        for name in ("renamed", "same")
    }
    assert scores["same"] == text(folder / "steered.csv")["fair_score"].tolist()
    assert scores["renamed"] != scores["same"]
    people.assign(id="").to_csv(folder / "none.csv", index=False)
    result = run(
        "apply", maps, folder / "none.csv", "--out", folder / "none_out.csv", code=3
    )
    assert "400 rows have no id" in result.output


def test_sampling_weights_count_as_copies(people, folder, tmp_path):
    """Weights of whole numbers give the sample weights of rows that stand there twice."""
    options = ["--label", "paid", "--group", "sex", "--sample-weights", "--no-check"]
    run(
        *("steer", folder / "rows.csv", *options),
        *("--weights", "weight", "--out", tmp_path / "a.csv"),
    )
    found = pd.read_csv(tmp_path / "a.csv")
    mass = found.pivot_table(
        index="sex", columns="paid", values="sample_weight", aggfunc="sum"
    ).to_numpy()
    copies = people.loc[people.index.repeat(people["weight"])]
    counts = pd.crosstab(copies["sex"], copies["paid"]).to_numpy()
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
    np.testing.assert_allclose(mass, expected, rtol=1e-4)
    result = run(
        *("steer", folder / "rows.csv", *options, "--weights", "region"),
        *("--out", tmp_path / "c.csv"),
        code=3,
    )
    assert "'region' has" in result.output


def test_streams_json_and_quiet(people, folder):
    maps, rows = folder / "steered.maps", (folder / "rows.csv").read_bytes()
    piped = run("apply", maps, "-", "--out", "-", input=rows)
    found = pd.read_csv(io.StringIO(piped.stdout), dtype=str, keep_default_na=False)
    first = text(folder / "steered.csv")
    assert found["fair_score"].tolist() == first["fair_score"].tolist()
    out = folder / "json.csv"
    done = json.loads(
        run("apply", maps, "-", "--out", out, "--json", input=rows).stdout
    )
    assert done["rows"] == N and "fair_score" in done["columns"]
    result = run("apply", maps, "-", "--out", out, "--force", "--quiet", input=rows)
    assert result.output == ""
    result = run("apply", maps, "-", "--out", "-", "--json", input=rows, code=2)
    assert "both want standard output" in result.output
    with_unknown = people.assign(sex=["?"] * 3 + ["F"] * (N - 3))
    with_unknown.to_csv(folder / "unknown.csv", index=False)
    done = json.loads(
        run(
            *("apply", maps, folder / "unknown.csv", "--out", folder / "u.csv"),
            "--json",
        ).stdout
    )
    assert done["rows_without_a_known_group"] == 3
    assert "not known: '?'" in " ".join(done["notes"])
    assert text(folder / "u.csv")["fair_score"].tolist()[:3] == [""] * 3


def test_steer_keeps_rows_without_a_group(people, tmp_path):
    some = people.assign(sex=["", "", *people["sex"].tolist()[2:]])
    some.to_csv(tmp_path / "rows.csv", index=False)
    arguments = ["steer", tmp_path / "rows.csv", "--label", "paid", "--group", "sex"]
    arguments += ["--sample-weights", "--no-check", "--out", tmp_path / "out.csv"]
    result = run(*arguments, "--strict", code=3)
    assert "2 missing values" in result.output
    result = run(*arguments)
    assert "2 rows have no group" in result.output
    found = text(tmp_path / "out.csv")
    assert found["sample_weight"].tolist()[:2] == ["", ""]
    assert found["zip"].tolist() == people["zip"].tolist()


def test_people_of_one_id_are_told_when_maps_are_applied_too(people, folder):
    people.head(40).to_csv(folder / "some.csv", index=False)
    asked = ("apply", folder / "steered.maps", folder / "some.csv", "--force")
    out = folder / "some_out.csv"
    found = run(*asked, "--out", out, "--id", "zip")
    assert "33 rows have an id that an earlier row has" in " ".join(
        found.output.split()
    )
    assert "an earlier row has" not in run(*asked, "--out", out).output
