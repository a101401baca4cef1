"""Odd files of rows: what may be meant is done and said, all else is refused by name."""

from __future__ import annotations

import os

import numpy as np
import pytest

from jaxsteer.streaming import apply_file, open_files, steer_file
from tests.streaming.rows import numbers, write

BATCH = 64


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = write(numbers(n=200), tmp_path_factory.mktemp("text") / "rows.csv")
    return path.read_text().replace('"', "")


def steered(folder, text, *, name="rows.csv", **options):
    path = folder / name
    path.write_text(text)
    given = {"label": "y", "group": "g", "out": folder / "out.csv"} | options
    return steer_file(path, batch_rows=BATCH, **given)


def test_blanks_around_fields_are_no_part_of_them(text, tmp_path):
    spaced = text.replace(",no,f\n", ",no , f\n", 20).replace(
        ",yes,m\n", ", yes,m \n", 9
    )
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    plain, found = steered(one, text), steered(other, spaced)
    assert found.group_names == ("f", "m") and found.label_names == ("no", "yes")
    assert found.left_out == plain.left_out
    lines = [(folder / "out.csv").read_text().splitlines() for folder in (one, other)]
    assert spaced.splitlines()[1:] == [line.rsplit(",", 3)[0] for line in lines[1][1:]]
    new = [[line.rsplit(",", 3)[1:] for line in part] for part in lines]
    assert new[0] == new[1]


def test_blanks_in_new_rows_are_no_part_of_them_either(text, tmp_path):
    steered(tmp_path, text, maps_file=tmp_path / "maps.safetensors")
    new = tmp_path / "new.csv"
    new.write_text(text.replace(",f\n", ", f \n", 20))
    maps, out = tmp_path / "maps.safetensors", tmp_path / "applied.csv"
    found = apply_file(maps, new, out=out, batch_rows=BATCH)
    assert found.left_out == {"group": 0, "features": 0}


def test_spellings_of_one_group_are_told(text, tmp_path):
    with pytest.warns(
        UserWarning, match="column 'g' has values that differ .* 'F' and"
    ):
        found = steered(tmp_path, text.replace(",f\n", ",F\n", 40))
    assert found.group_names == ("F", "f", "m")


def test_numbers_written_as_text_are_told(text, tmp_path):
    lines = text.splitlines()
    marked = [f'"1,{i % 90 + 100}",{line}' for i, line in enumerate(lines[1:])]
    with pytest.warns(UserWarning, match="taken as categories: 'income'"):
        steered(tmp_path, "\n".join([f"income,{lines[0]}", *marked]) + "\n")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text.replace("a,b", "a,a", 1), "more than one column named 'a'"),
        (lambda text: text.replace(",", ";"), "parted by ';': name it, separator=';'"),
        (lambda text: text.splitlines()[0] + "\n", "no rows below its header"),
        (lambda text: text.replace(",f\n", ",NA\n"), r"'g' has 1 values \(\d+ rows"),
    ],
)
def test_files_that_are_refused(text, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        steered(tmp_path, change(text))
    assert os.listdir(tmp_path) == ["rows.csv"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"label": "g"}, "must be different columns"),
        ({"weight": "y"}, "must be different columns"),
        ({"weight": "b", "label": "g", "group": "y"}, None),
        ({"drop": "a"}, None),
        ({"batch_rows": 0}, "batch_rows=0 must be a whole number above 0"),
        ({"batch_rows": "8"}, "batch_rows='8' must be a whole number above 0"),
        ({"separator": "::"}, "separator='::' must be one character"),
    ],
)
def test_options_that_do_not_fit(text, tmp_path, options, message):
    if message is None:
        assert steered(tmp_path, text, **options).rows == 200
        return
    path = tmp_path / "rows.csv"
    path.write_text(text)
    given = {"label": "y", "group": "g", "out": tmp_path / "out.csv"} | options
    with pytest.raises(ValueError, match=message):
        steer_file(path, **given)
    assert os.listdir(tmp_path) == ["rows.csv"]


def test_weights_of_no_use_are_named(text, tmp_path):
    lines = text.splitlines()
    for name, value, message in [
        ("text", "much", "weight='w' is a column of string"),
        ("negative", "-1", "left out for their: weight 200"),
    ]:
        rows = [f"{value},{line}" for line in lines[1:]]
        (tmp_path / name).mkdir()
        with pytest.raises(ValueError, match=message):
            steered(
                tmp_path / name, "\n".join([f"w,{lines[0]}", *rows]) + "\n", weight="w"
            )


def test_a_separator_may_be_named(text, tmp_path):
    parted = text.replace(",", "|")
    found = steered(tmp_path, parted, separator="|", drop="a", name="ROWS.CSV")
    assert found.columns == ("steered_b", "sample_weight")
    head = (tmp_path / "out.csv").read_text().splitlines()[0].replace('"', "")
    assert head.split(",") == ["a", "b", "y", "g", *found.columns]
    files = open_files(tmp_path / "ROWS.CSV", separator="|")
    assert np.array_equal(list(files.types), ["a", "b", "y", "g"])


def test_folders_and_files_are_read_together_and_each_once(text, tmp_path):
    (tmp_path / "parts").mkdir()
    lines = text.splitlines()
    for name, rows in [("b", lines[1:80]), ("a", lines[80:150])]:
        (tmp_path / "parts" / f"{name}.csv").write_text("\n".join([lines[0], *rows]))
    (tmp_path / "last.csv").write_text("\n".join([lines[0], *lines[150:]]))
    sources = [tmp_path / "last.csv", tmp_path / "parts"]
    found = open_files(sources)
    assert [path[-5:] for path in found.paths] == ["t.csv", "a.csv", "b.csv"]
    for again in (sources[0], tmp_path / "parts" / "a.csv"):
        with pytest.raises(ValueError, match="twice; its rows would count twice"):
            open_files([*sources, again])


def test_a_checkpoint_is_a_file_of_its_own(text, tmp_path):
    typer = pytest.importorskip("typer.testing", reason="typer is not installed")
    from jaxsteer.cli._app import app

    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    path.write_text(text)
    for place in (path, out):
        asked = ["stream", "steer", path, "--label", "y", "--group", "g", "--out", out]
        found = typer.CliRunner().invoke(
            app, [*map(str, asked), "--checkpoint", str(place)]
        )
        assert found.exit_code == 2
        assert "name a file of its own" in " ".join(found.output.split())
    assert os.listdir(tmp_path) == ["rows.csv"]
