from __future__ import annotations

import lzma

import numpy as np
import pandas as pd
import pytest

from jaxsteer.datasets import read_table

FRAME = pd.DataFrame({"age": [31, 47, 22], "job": ["a", "b", "a"]})


@pytest.mark.parametrize(
    "ending",
    ["csv", "csv.gz", "csv.xz", "csv.zip", "csv.bz2", "tsv", "tsv.gz", "parquet", "pq"],
)
def test_every_kind_of_file_gives_the_same_table(tmp_path, ending):
    path = tmp_path / f"table.{ending}"
    if ending in ("parquet", "pq"):
        FRAME.to_parquet(path)
    else:
        FRAME.to_csv(path, index=False, sep="\t" if ending[0] == "t" else ",")
    for source in (path, str(path)):
        table = read_table(source)
        assert list(table) == ["age", "job"]
        assert table["age"].tolist() == [31, 47, 22]
        assert table["job"].tolist() == ["a", "b", "a"]


def test_polars_pyarrow_and_pandas_tables_are_taken():
    polars = pytest.importorskip("polars", reason="polars is not installed")
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    data = FRAME.to_dict("list")
    for source in (FRAME, polars.DataFrame(data), pyarrow.table(data)):
        table = read_table(source)
        assert isinstance(table, pd.DataFrame)
        assert table["age"].tolist() == [31, 47, 22]
    assert read_table(FRAME) is FRAME


def test_lazy_frames_and_series_are_refused():
    polars = pytest.importorskip("polars", reason="polars is not installed")
    with pytest.raises(ValueError, match=r"lazy frame; call .collect\(\)"):
        read_table(polars.LazyFrame({"age": [1]}))
    with pytest.raises(ValueError, match=r"pyarrow table, got pandas\.Series"):
        read_table(FRAME["age"])
    with pytest.raises(
        ValueError, match="pandas, polars or pyarrow table, got builtins"
    ):
        read_table([[1, 2]])


def test_missing_marks_become_missing_and_can_be_chosen(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("age, job\n31, ?\n-9, b\n")
    table = read_table(path)
    assert list(table) == ["age", "job"]
    assert table["job"].isna().tolist() == [True, False]
    table = read_table(path, missing=["-9"])
    assert table["job"].tolist() == ["?", "b"]
    assert table["age"].isna().tolist() == [False, True]


def test_semicolons_and_a_byte_order_mark_are_understood(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffage;job\n31;a\n".encode())
    table = read_table(path)
    assert list(table) == ["age", "job"]
    assert table["age"].tolist() == [31]


def test_integer_column_names_become_text():
    assert list(read_table(pd.DataFrame(np.eye(2)))) == ["0", "1"]


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing.csv does not exist"):
        read_table(tmp_path / "nothing.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_table(tmp_path / "folder.csv")


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.gz", "t.parquet.gz"])
def test_unknown_endings_list_the_known_ones(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end in .csv, .tsv.*.parquet or .pq"):
        read_table(tmp_path / name)


def test_no_rows_no_content_no_columns(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n")
    with pytest.raises(ValueError, match="no rows below its header"):
        read_table(path)
    path.write_text("")
    with pytest.raises(ValueError, match="is empty"):
        read_table(path)
    with pytest.raises(ValueError, match="source has no columns"):
        read_table(pd.DataFrame(index=[0, 1]))


def test_repeated_column_names_are_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(ValueError, match="more than one column named 'a'"):
        read_table(path)
    with pytest.raises(ValueError, match="source has more than one column named 'a'"):
        read_table(pd.DataFrame([[1, 2]], columns=["a", "a"]))


@pytest.mark.parametrize("text", ["a,b\n1,2,3\n", "a,b\n1,2\n1,2,3\n"])
def test_rows_longer_than_the_header(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match="as many fields as the header"):
        read_table(path)


def test_text_that_is_not_utf8(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n1,\xe9t\xe9\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_table(path)


@pytest.mark.parametrize("ending", ["csv.xz", "csv.gz", "csv.zip", "parquet"])
def test_damaged_files(tmp_path, ending):
    path = tmp_path / f"t.{ending}"
    path.write_bytes(b"not what the ending says")
    with pytest.raises(ValueError, match=rf"t\.{ending} cannot be read as \.\w+: "):
        read_table(path)


def test_cut_archive(tmp_path):
    path = tmp_path / "t.csv.xz"
    rng = np.random.default_rng(0)
    text = "a\n" + "\n".join(map(str, rng.normal(size=2000)))
    path.write_bytes(lzma.compress(text.encode())[:-2000])
    with pytest.raises(ValueError, match=r"cannot be read as \.csv"):
        read_table(path)


@pytest.mark.parametrize("separator", ["", "::", "\n", '"'])
def test_a_separator_is_one_character(tmp_path, separator):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="must be one character"):
        read_table(path, separator=separator)


def test_a_tab_may_be_spelled_as_a_shell_hands_it_over(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a\tb\n1\t2\n")
    assert read_table(path, separator="\\t").to_dict("list") == {"a": [1], "b": [2]}


def test_one_text_for_missing_values_is_not_its_letters(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\nXY,X\nY,Y\n")
    found = read_table(path, missing="XY")
    assert found["a"].isna().tolist() == [True, False]
    assert found["b"].tolist() == ["X", "Y"]


@pytest.mark.parametrize("first", ["sep=;", "sep=,", "SEP=\t"])
def test_a_note_for_excel_is_no_header(tmp_path, first):
    path = tmp_path / "rows.csv"
    mark = first[-1]
    path.write_text(f"{first}\na{mark}b\n1{mark}2\n3{mark}4\n")
    with pytest.raises(ValueError, match="is a note for Excel and names no columns"):
        read_table(path)
