"""Numbers in the ways that people write them are numbers, and it is said how."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from jaxsteer._numerals import find_numerals, read_numerals
from jaxsteer.datasets import read_table, read_text_table
from jaxsteer.estimators import TabularEncoder

N = 2000
RNG = np.random.default_rng(0)
AGE = RNG.integers(18, 80, N)
RATIO = RNG.normal(30, 5, N).round(1)
GAIN = RNG.integers(0, 3000, N)
ROWS = list(zip(RATIO, GAIN, strict=True))


def kinds(frame):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encoder = TabularEncoder().fit(frame)
    said = " ".join(str(w.message) for w in caught)
    columns = encoder.describe()
    return {c["column"]: (c["kind"], len(c["outputs"])) for c in columns}, encoder, said


def test_the_three_columns_of_the_case():
    age = AGE.astype(str).astype(object)
    age[0] = "90+"
    frame = pd.DataFrame(
        {
            "age": age,
            "dti": [f"{v:.1f}".replace(".", ",") for v in RATIO],
            "gain": [f"{v:,}" for v in GAIN],
        }
    )
    found, encoder, said = kinds(frame)
    assert found == {"age": ("number", 2), "dti": ("number", 1), "gain": ("number", 1)}
    assert "'90+' in 1 row" in said and "decimal comma" in said and "thousands" in said
    matrix = encoder.transform(frame)
    np.testing.assert_allclose(
        matrix[:, list(encoder.get_feature_names_out()).index("dti")],
        (RATIO - RATIO.mean()) / RATIO.std(),
        atol=1e-4,
    )
    # New rows, one at a time, are read as those at fit time were.
    np.testing.assert_array_equal(encoder.transform(frame.iloc[[7]]), matrix[[7]])


@pytest.mark.parametrize(
    ("write", "decimal"),
    [
        (lambda v: f"{v:.2f}", "."),
        (lambda v: f"${v:,.2f}", "."),
        (lambda v: f"{v:.1f}%", "."),
        (lambda v: f"{v:.2f}".replace(".", ","), ","),
        (lambda v: f"{v:,.2f}".translate(str.maketrans(",.", ".,")), ","),
        (lambda v: f"{v:,.2f} €".translate(str.maketrans(",.", " ,")), ","),
        (lambda v: f" {v:.3e} ", "."),
    ],
)
def test_ways_to_write_a_number(write, decimal):
    values = np.random.default_rng(1).normal(1500, 2000, 500)
    texts = pd.Series([write(v) for v in values])
    found = find_numerals(texts)
    assert found is not None and found.decimal == decimal and not found.odd
    read = read_numerals(texts, found.decimal)
    np.testing.assert_allclose(read, values, rtol=1e-3, atol=0.06)


def test_few_odd_values_are_missing_and_named():
    income = RATIO.astype(str).astype(object)
    income[[3, 5, 9]] = "unknown"
    found, encoder, said = kinds(pd.DataFrame({"income": income}))
    assert found == {"income": ("number", 2)}
    assert "'unknown' in 3 rows" in said
    assert encoder.describe()[0]["missing"] == 3
    new = encoder.transform(pd.DataFrame({"income": ["12.5", "who knows"]}))
    assert new[:, 1].tolist() == [0, 1]


@pytest.mark.parametrize(
    "texts",
    [
        [f"{i % 50:05d}" for i in range(500)],  # codes with leading zeros
        [str(i % 5) for i in range(500)],  # few whole numbers
        ["a", "b", "7"] * 100,
        [f"{i % 90}+" for i in range(500)],
        [f"2024-01-{i % 28 + 1:02d}x" for i in range(500)],
        ["1.2.3", "10.0.1", "4.5.6"] * 100,
    ],
)
def test_codes_and_words_stay_text(texts):
    assert find_numerals(texts) is None


def test_a_categorical_column_is_taken_at_its_word():
    frame = pd.DataFrame({"age": pd.Categorical(AGE.astype(str)), "x": RATIO})
    assert kinds(frame)[0]["age"][0] == "category"


def test_semicolons_bring_decimal_commas(tmp_path):
    lines = [f"{v:.1f}".replace(".", ",") + f";{g};a" for v, g in ROWS]
    (tmp_path / "a.csv").write_text("ratio;gain;name\n" + "\n".join(lines) + "\n")
    table = read_table(tmp_path / "a.csv")
    np.testing.assert_allclose(table["ratio"], RATIO)
    assert table["gain"].tolist() == GAIN.tolist()
    assert set(table["name"]) == {"a"}


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_separators_are_found_in_the_header(tmp_path, separator):
    text = f"age{separator}job\n31{separator}a, b\n"
    (tmp_path / "a.csv").write_text(text)
    assert read_table(tmp_path / "a.csv")["job"].tolist() == ["a, b"]
    named = read_table(tmp_path / "a.csv", separator=separator)
    assert list(named) == ["age", "job"]


def test_encodings_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("x,y\n1,é\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"not UTF-8 text .*name its encoding"):
        read_table(path)
    assert read_table(path, encoding="latin-1")["y"].tolist() == ["é"]
    path.write_bytes("x,y\n1,é\n".encode("utf-16"))
    assert read_table(path, encoding="utf-16")["y"].tolist() == ["é"]
    with pytest.raises(ValueError, match="encoding='none' is not known"):
        read_table(path, encoding="none")


def test_columns_that_stand_there_twice(tmp_path):
    """As in the published COMPAS file."""
    path = tmp_path / "a.csv"
    path.write_text("age,score,age\n31,4,31\nNA,2,NA\n")
    with (
        pytest.warns(UserWarning, match="the columns 'age' twice"),
        pytest.warns(UserWarning, match=r"'age': 'NA' \(1\)"),
    ):
        read = read_text_table(path)
    assert list(read.frame) == ["age", "score"]
    assert read.written.to_csv(index=False) == path.read_text()
    path.write_text("age,score,age\n31,4,31\n47,2,48\n")
    with pytest.raises(ValueError, match="more than one column named 'age', and they"):
        read_table(path)
    path.write_text(",score\n31,4\n")
    assert list(read_table(path)) == ["Unnamed: 0", "score"]


def test_codes_with_leading_zeros_stay_codes(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("zip,kids,x\n03833,0,0.5\n10001,2,01\n,1,2\n")
    with pytest.warns(UserWarning, match=r"leading zeros are codes.*: 'zip'\."):
        read = read_text_table(path)
    assert read.frame["zip"].tolist()[:2] == ["03833", "10001"]
    assert read.frame["zip"].isna().tolist() == [False, False, True]
    assert read.frame["kids"].tolist() == [0, 2, 1]
    assert read.frame["x"].tolist() == [0.5, 1, 2]


def test_the_decimal_mark_can_be_set(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('price,name\n"1.234,5",a\n"2,5",b\n')
    assert read_table(path, decimal=",")["price"].tolist() == [1234.5, 2.5]
    with pytest.raises(ValueError, match="decimal='x' is not known"):
        read_table(path, decimal="x")


def test_an_encoding_is_found_and_told(tmp_path):
    pytest.importorskip(
        "charset_normalizer", reason="charset-normalizer is not installed"
    )
    path = tmp_path / "a.csv"
    text = "name,city\n" + "Müller,Köln\nGarçon,Orléans\n" * 20
    path.write_bytes(text.encode("cp1252"))
    with pytest.warns(UserWarning, match="no UTF-8 text and was read as cp1252"):
        table = read_table(path)
    assert table.iloc[0].tolist() == ["Müller", "Köln"]
    for encoding in ("utf-16", "utf-8-sig"):
        path.write_bytes(text.encode(encoding))
        assert read_table(path).iloc[1].tolist() == ["Garçon", "Orléans"]
        assert list(read_table(path)) == ["name", "city"]


def test_new_rows_with_odd_numbers_are_read_like_the_first_ones():
    """A column of numbers at fit time in which text stands later."""
    encoder = TabularEncoder().fit(pd.DataFrame({"age": AGE, "x": RATIO}))
    new = pd.DataFrame({"age": ["90+", "31", "unknown", "40"], "x": 30.0})
    with pytest.warns(UserWarning, match=r"'age' in 2 rows \(90\+, unknown\)"):
        found = encoder.in_units(encoder.transform(new))
    np.testing.assert_allclose(found[:, 0], [np.median(AGE), 31, np.median(AGE), 40])
    with pytest.raises(ValueError, match="must hold numbers"):
        encoder.transform(new.assign(age="many"))


def test_placeholders_for_dates_are_named():
    days = ["2024-05-01", "2023-01-02", "1900-01-01"] * 20
    with pytest.warns(UserWarning, match="'since' has 1900-01-01 in 20 rows"):
        TabularEncoder().fit(pd.DataFrame({"since": days, "x": range(60)}))


def test_encoded_rows_go_back():
    frame = pd.DataFrame(
        {
            "age": [20.0, np.nan, 40.0, 31.5] * 20,
            "job": ["cook", "clerk", None, "cook"] * 20,
            "since": ["2024-05-01", "2023-01-02", "2020-02-29", "2021-03-04"] * 20,
        }
    )
    encoder = TabularEncoder()
    back = encoder.inverse_transform(encoder.fit_transform(frame))
    np.testing.assert_allclose(back["age"], frame["age"], rtol=1e-6)
    assert back["job"].tolist() == frame["job"].fillna("missing").tolist()
    days = pd.to_datetime(frame["since"]).map(lambda d: d.toordinal()) - 719163
    np.testing.assert_allclose(back["since"], days, rtol=1e-5)
    with pytest.raises(ValueError, match=r"encoded must have shape \[n, "):
        encoder.in_units(np.zeros((3, 1)))
