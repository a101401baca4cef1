"""New columns behind those of a file: lines copied as they stand, some at a time."""

import csv
import io
import pathlib

import numpy as np
import pandas as pd
import pytest

from jaxsteer.cli import _use
from jaxsteer.cli._writing import write_with_columns
from jaxsteer.datasets import TextTable, read_text_table

pytestmark = pytest.mark.filterwarnings("ignore:Whole numbers|Read as missing")
ROWS = (
    'zip,region,note\n00123,NA,"a, b"\n4,,"say ""x"""\n05,None,1.50\n7,x,\n8,y,TRUE\n'
)
NEW = {
    "steered_zip": np.array([1.25, np.nan, 3.0, 1e-7, 2e20]),
    "odd, name": np.array(["2001-02-03", "a,b", 'c"d', "", "e\tf"], object),
}
TEXT = [
    ",1.25,2001-02-03",
    ',,"a,b"',
    ',3,"c""d"',
    ",1e-7,",
    ",2e+20,e\tf",
]


def rows(path):
    return list(csv.reader(io.StringIO(path.read_bytes().decode())))


@pytest.mark.parametrize("at_a_time", [1, 2, 3, 100])
@pytest.mark.parametrize("known", [None, [0, 1, 3], [1, 2, 4], [2], [3, 4], [0]])
def test_lines_are_copied_and_new_fields_follow(
    tmp_path, monkeypatch, at_a_time, known
):
    monkeypatch.setattr(_use, "AT_A_TIME", at_a_time)
    source = read_text_table(tmp_file(tmp_path))
    assert source.lines is not None
    places = None if known is None else np.array(known)
    mine = {n: v if places is None else v[places] for n, v in NEW.items()}
    asked = []

    def work(some):
        asked.append(some.stop - some.start)
        return {n: v[some] for n, v in mine.items()}

    out = tmp_path / "out.csv"
    assert write_with_columns(out, source, work, places) == list(NEW)
    kept = range(5) if known is None else known
    expected = [
        line + TEXT[i] if i in kept else line + ",,"
        for i, line in enumerate(ROWS.splitlines()[1:])
    ]
    header = 'zip,region,note,steered_zip,"odd, name"'
    assert out.read_text() == "\n".join([header, *expected, ""])
    # Equally many rows each time, so that nothing is compiled for the last ones.
    assert set(asked) == {min(at_a_time, len(kept))}
    # Fields written anew, where lines cannot be copied, are the same.
    anew = tmp_path / "anew.csv"
    other = TextTable(frame=source.frame, text=source.written)
    assert write_with_columns(anew, other, work, places) == list(NEW)
    assert rows(anew) == rows(out)


def tmp_file(folder: pathlib.Path, text: str = ROWS) -> pathlib.Path:
    path = folder / "rows.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["out.tsv", "out.csv.gz", "out.csv.xz", "out.parquet"])
def test_other_forms_hold_the_same_rows(tmp_path, name):
    source = read_text_table(tmp_file(tmp_path))
    out = tmp_path / name
    write_with_columns(out, source, lambda some: {n: v[some] for n, v in NEW.items()})
    read = (
        pd.read_parquet(out).astype(object)
        if name.endswith("parquet")
        else pd.read_csv(
            out, dtype=str, na_filter=False, sep="\t" if "tsv" in name else ","
        )
    )
    own = pd.read_csv(io.StringIO(ROWS), dtype=str, na_filter=False)
    assert list(read) == [*own, *NEW]
    np.testing.assert_array_equal(read[list(own)].to_numpy(str), own.to_numpy(str))
    values = pd.to_numeric(read["steered_zip"]).to_numpy(float)
    np.testing.assert_array_equal(values, NEW["steered_zip"])
    assert list(read["odd, name"]) == list(NEW["odd, name"])


@pytest.mark.parametrize("copied", [True, False])
def test_a_name_that_is_taken_is_refused_and_nothing_is_left(tmp_path, copied):
    source = read_text_table(tmp_file(tmp_path))
    if not copied:
        source = TextTable(frame=source.frame, text=source.written)
    out = tmp_path / "out.csv"
    with pytest.raises(ValueError, match="already has the column 'note'"):
        write_with_columns(out, source, lambda some: {"note": np.zeros(5)[some]})
    assert [p.name for p in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize("copied", [True, False])
def test_an_error_in_a_later_part_leaves_the_old_file(tmp_path, monkeypatch, copied):
    monkeypatch.setattr(_use, "AT_A_TIME", 2)
    source = read_text_table(tmp_file(tmp_path))
    if not copied:
        source = TextTable(frame=source.frame, text=source.written)
    out = tmp_path / "out.csv"
    out.write_text("old")

    def work(some):
        if some.stop == 5:
            raise ValueError("the last rows")
        return {"new": np.zeros(5)[some]}

    with pytest.raises(ValueError, match="the last rows"):
        write_with_columns(out, source, work)
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "rows.csv"]
