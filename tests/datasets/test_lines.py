"""Files whose rows are their lines, told from others by the places of marks."""

import numpy as np
import pandas as pd
import pytest

from jaxsteer.cli._rows import canonical_order
from jaxsteer.datasets import TextTable, read_text_table
from jaxsteer.datasets import _lines as module
from jaxsteer.datasets._lines import read_lines

#: Header, rows, and whether each row can be copied as the line that it is.
FILES = {
    "plain": ("a,b,c\n1,x,2\n3,y,\n", True),
    "without a last end": ("a,b,c\n1,x,2\n3,y,4", True),
    "ends of Windows": ("a,b,c\r\n1,x,2\r\n3,y,4\r\n", True),
    "byte order mark": ("\ufeffa,b,c\n1,x,2\n3,y,4\n", True),
    "letters": ("a,b,c\n1,é漢,2\n3,ü,4\n", True),
    "separator in quotes": ('a,b,c\n1,"x, y",2\n3,y,"4"\n', True),
    "doubled quotes": ('a,b,c\n1,"""x"", y",2\n"",y,4\n', True),
    "quoted header": ('"a","b, b",c\n1,x,2\n3,y,4\n', True),
    "blank in a field": ("a,b,c\n1,x y,2 \n3,y,4\n", True),
    "a field over two lines": ('a,b,c\n1,"x\ny",2\n3,y,4\n', False),
    "two odd quotes": ('a,b,c\n1,5",2\n3,6",4\n', False),
    "a quote inside": ('a,b,c\n1,5"x",2\n3,y,4\n', False),
    "a quote that goes on": ('a,b,c\n1,"5"x,2\n3,y,4\n', False),
    "a separator between inches": ('a,b,c\n1,5",6",2\n3,y,4\n', False),
    "blank line": ("a,b,c\n1,x,2\n\n3,y,4\n", False),
    "a short row": ("a,b,c\n1,x,2\n3,y\n", False),
    "a short and a long row": ("a,b,c\n1,x,2,5\n3,y\n", False),
    "a field begins with a blank": ("a,b,c\n1, x,2\n3,y,4\n", False),
    "a row begins with a blank": ("a,b,c\n1,x,2\n 3,y,4\n", False),
    "old ends": ("a,b,c\r1,x,2\r3,y,4\r", False),
    "one column": ("a\n1\n3\n", False),
    "no rows": ("a,b,c\n", False),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("at_a_time", [1 << 20, 7])
def test_lines_are_rows_or_refused(tmp_path, monkeypatch, name, at_a_time):
    text, expected = FILES[name]
    monkeypatch.setattr(module, "_AT_A_TIME", at_a_time)
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode())
    header = pd.read_csv(path, nrows=0, encoding="utf-8-sig").columns
    lines = read_lines(path, ",", list(header))
    assert (lines is not None) == expected
    if lines is None:
        return
    own = text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n")
    first, *rest = own.encode().split(b"\n")
    assert lines.header() == first and len(lines) == len(rest)
    assert lines.some(0, len(rest)).to_pylist() == [b"\n" + row for row in rest]
    assert lines.some(1, 2).to_pylist() == [b"\n" + rest[1]]


@pytest.mark.parametrize("name", [n for n in FILES if n not in ("no rows", "old ends")])
def test_text_is_what_pandas_reads(tmp_path, name):
    text, expected = FILES[name]
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode())
    try:
        source = read_text_table(path)
    except ValueError:
        # Rows that are longer than the header, or a quote that nothing ends.
        assert not expected
        return
    assert (source.lines is not None) == expected
    options = {"dtype": str, "na_filter": False, "skipinitialspace": True}
    whole = pd.read_csv(path, encoding="utf-8-sig", index_col=False, **options)
    pd.testing.assert_frame_equal(source.written, whole)
    for place in range(whole.shape[1]):
        pd.testing.assert_series_equal(source.column(place), whole.iloc[:, place])
    if source.lines is not None:
        source.lines.forget()
        pd.testing.assert_frame_equal(source.written, whole)


def test_the_order_of_rows_is_that_of_their_content():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": rng.integers(0, 9, 200),
            "b": rng.choice(["x", "y", ""], 200),
            "c": rng.normal(size=200),
            "d": [1, "1"] * 100,
        }
    )
    source = TextTable(frame=frame, text=frame)
    # What was fitted by earlier versions had the order of pandas' hashes.
    plain = frame.assign(d=frame["d"].astype(str))
    expected = np.argsort(pd.util.hash_pandas_object(plain, index=False), kind="stable")
    np.testing.assert_array_equal(canonical_order(source), expected)
    known = np.arange(3, 200, 2)
    some = pd.util.hash_pandas_object(plain.iloc[known], index=False)
    np.testing.assert_array_equal(
        canonical_order(source, known), np.argsort(some, kind="stable")
    )
