"""Files that were cut off, and lines below a table, are no rows with missing fields."""

from __future__ import annotations

import pytest

from jaxsteer.datasets import read_table

ROWS = "age,sex,pay\n31,f,2\n47,m,3\n"


@pytest.mark.parametrize("end", ["22", "22\n", "22,f\n", "Total: 2 rows\r\n", "22\n\n"])
def test_a_last_line_that_is_too_short_is_refused(tmp_path, end):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS + end)
    with pytest.raises(
        ValueError, match=r"rows\.csv .* its last line has \d of 3 field"
    ):
        read_table(path)


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        ROWS + "22,f,\n",
        ROWS + ",,\n\n",
        ROWS.rstrip(),
        ROWS + '22,"a\nb",1\n',
        "age,sex,pay\n31,f,2\n47,m\n22,f\n",  # all rows are written so
        "age\n31\n47\n",
        "age,sex,pay\n31\n",
    ],
)
def test_others_are_read_as_before(tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    assert len(read_table(path)) >= 1


def test_two_bytes_a_letter_are_not_looked_at(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS, encoding="utf-16")
    with pytest.warns(UserWarning, match="utf-16"):
        assert len(read_table(path)) == 2
