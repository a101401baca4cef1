from __future__ import annotations

import datetime
import decimal
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from jaxsteer.datasets import load_adult, load_german
from jaxsteer.estimators import TabularEncoder


def frame(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "real": rng.normal(10.0, 3.0, n),
            "count": rng.integers(0, 40, n),
            "job": rng.choice(["cook", "clerk", "pilot"], n, p=[0.5, 0.3, 0.2]),
            "flag": rng.random(n) < 0.4,
        }
    )


def encode(table, **options):
    encoder = TabularEncoder(**options)
    matrix = encoder.fit_transform(table)
    return encoder, pd.DataFrame(matrix, columns=encoder.get_feature_names_out())


def test_numbers_are_standardized_and_categories_are_columns():
    table = frame()
    encoder, matrix = encode(table)
    assert list(matrix) == ["real", "count", "job=clerk", "job=pilot", "flag=True"]
    assert encoder.transform(table).dtype == np.float32
    np.testing.assert_allclose(matrix["real"].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(matrix["real"].std(ddof=0), 1, rtol=1e-5)
    expected = (table["real"] - table["real"].mean()) / table["real"].std(ddof=0)
    np.testing.assert_allclose(matrix["real"], expected, atol=1e-5)
    assert np.array_equal(matrix["job=clerk"], table["job"] == "clerk")
    assert np.array_equal(matrix["flag=True"], table["flag"])


def test_fit_transform_equals_fit_and_transform():
    table = frame()
    once = TabularEncoder().fit_transform(table)
    assert np.array_equal(once, TabularEncoder().fit(table).transform(table))


def test_rows_are_encoded_one_by_one():
    encoder, whole = encode(frame())
    part = encoder.transform(frame().iloc[[7, 3]])
    assert np.array_equal(part, whole.iloc[[7, 3]])


def test_some_rows_at_a_time_are_encoded_as_all_of_them():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": np.where(rng.random(50) < 0.2, np.nan, rng.normal(3, 2, 50)),
            "b": rng.choice(["x", "y", "z"], 50),
            "c": rng.gamma(2, 700, 50).astype(np.float32),
        }
    )
    encoder = TabularEncoder().fit(frame)
    whole = encoder.transform(frame)
    some = encoder.in_parts(frame)
    np.testing.assert_array_equal(some(slice(7, 31)), whole[7:31])
    assert some(slice(5, 5)).shape == (0, whole.shape[1])
    # As scikit-learn's own steps do it, to the last bit.
    numbers, flags = encoder.transformer_.transformers_[:2]
    values = frame[list(numbers[2])].astype(float)
    theirs = numbers[1].transform(values).astype(np.float32)
    np.testing.assert_array_equal(whole[:, :2], theirs)
    np.testing.assert_array_equal(whole[:, 2:3], flags[1].transform(values[["a"]]))


def test_missing_numbers_get_the_median_and_a_column():
    table = frame()
    table.loc[[1, 5], "real"] = np.nan
    encoder, matrix = encode(table)
    assert matrix["real=missing"].to_numpy().nonzero()[0].tolist() == [1, 5]
    median = table["real"].median()
    filled = table["real"].fillna(median)
    expected = (median - filled.mean()) / filled.std(ddof=0)
    np.testing.assert_allclose(matrix["real"][[1, 5]], expected, atol=1e-5)
    row = next(r for r in encoder.describe() if r["column"] == "real")
    assert row["missing"] == 2
    assert row["outputs"] == ["real", "real=missing"]
    assert "missing values get the median" in row["encoding"]


@pytest.mark.parametrize("empty", [None, np.nan, pd.NA])
def test_missing_text_is_a_value_of_its_own(empty):
    table = frame().astype({"job": object})
    table.loc[[0, 2], "job"] = empty
    _, matrix = encode(table, min_frequency=None)
    assert matrix["job=missing"].to_numpy().nonzero()[0].tolist() == [0, 2]


def test_missing_text_is_not_an_error_for_each_dtype():
    for dtype in ("category", "string", object):
        table = frame().astype({"job": dtype})
        table.loc[[0, 2], "job"] = None
        _, matrix = encode(table)
        assert matrix["job=missing"].sum() == 2


@pytest.mark.parametrize(
    ("min_frequency", "expected"),
    [
        (None, ["job=a", "job=b", "job=c"]),
        (3, ["job=b", "job=c", "job=rare"]),
        (0.1, ["job=c", "job=rare"]),
    ],
)
def test_rare_values_share_a_column(min_frequency, expected):
    job = ["z"] * 60 + ["c"] * 30 + ["b"] * 8 + ["a"] * 2
    encoder, matrix = encode(pd.DataFrame({"job": job}), min_frequency=min_frequency)
    assert list(matrix) == expected
    if "job=rare" in expected:
        rare = set(job) - {"z"} - {name[4:] for name in expected}
        assert np.array_equal(matrix["job=rare"], np.isin(job, sorted(rare)))
        assert f"{len(rare)} rare" in encoder.describe()[0]["encoding"]


def test_max_categories_limits_the_columns():
    job = ["z"] * 60 + ["c"] * 30 + ["b"] * 8 + ["a"] * 7
    _, matrix = encode(pd.DataFrame({"job": job}), max_categories=3)
    assert list(matrix) == ["job=c", "job=rare"]
    with pytest.raises(ValueError, match="max_categories must be at least 2"):
        encode(frame(), max_categories=1)


def test_drop_decides_on_collinearity():
    _, with_all = encode(frame(), drop=None)
    assert {"job=cook", "flag=False"} <= set(with_all)
    centered = with_all - with_all.mean()
    assert np.linalg.matrix_rank(centered) == with_all.shape[1] - 2
    _, fewer = encode(frame())
    centered = fewer - fewer.mean()
    assert np.linalg.matrix_rank(centered) == fewer.shape[1]
    with pytest.raises(ValueError, match="drop='first' is not known; choose one of"):
        encode(frame(), drop="first")


def test_max_discrete_turns_numbers_into_categories():
    table = pd.DataFrame({"x": [1, 2, 3, 4] * 10, "y": [0.5, 7.0] * 20})
    assert list(encode(table)[1]) == ["x", "y=7"]
    names = list(encode(table, max_discrete=4)[1])
    assert names == ["x=2", "x=3", "x=4", "y=7"]
    assert list(encode(table, max_discrete=1)[1]) == ["x", "y"]


def test_whole_numbers_keep_their_name_when_some_are_missing():
    encoder = TabularEncoder().fit(pd.DataFrame({"x": [1, 2, 2, 1, 2]}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = encoder.transform(pd.DataFrame({"x": [1.0, 2.0]}))
    assert out.tolist() == [[1.0], [0.0]]
    with pytest.warns(UserWarning, match=r"'x' in 1 rows \(inf\)"):
        encoder.transform(pd.DataFrame({"x": [1.0, np.inf]}))
    assert encoder.get_feature_names_out().tolist() == ["x=1"]


DAYS = ["2020-01-01", "2020-01-02", "2020-01-05", "2020-01-09"]


@pytest.mark.parametrize(
    "column",
    [
        pd.to_datetime(DAYS),
        pd.to_datetime(DAYS).tz_localize("UTC"),
        pd.PeriodIndex(DAYS, freq="D"),
        [datetime.date.fromisoformat(day) for day in DAYS],
        DAYS,
        [f"{day}T00:00:00Z" for day in DAYS],
        pd.to_timedelta([0, 1, 4, 8], "D"),
    ],
)
def test_dates_and_durations_are_days(column):
    encoder, matrix = encode(pd.DataFrame({"day": column}))
    days = np.array([0, 1, 4, 8])
    expected = (days - days.mean()) / days.std()
    np.testing.assert_allclose(matrix["day"], expected, rtol=1e-5)
    assert encoder.describe()[0]["kind"] in ("date", "duration")
    assert "in days" in encoder.describe()[0]["encoding"]


def test_missing_dates():
    table = pd.DataFrame({"day": pd.to_datetime([*DAYS, None])})
    assert list(encode(table)[1]) == ["day", "day=missing"]


@pytest.mark.parametrize(
    "column",
    [
        [decimal.Decimal("1.5"), decimal.Decimal(2), decimal.Decimal(4), None],
        pd.array([1.5, 2.0, 4.0, None], dtype="Float64"),
        pd.Series([1.5, 2, 4, None], dtype=object),
    ],
)
def test_numbers_of_other_types(column):
    encoder, matrix = encode(pd.DataFrame({"x": column}))
    assert encoder.describe()[0]["kind"] == "number"
    filled = np.array([1.5, 2, 4, 2])
    np.testing.assert_allclose(
        matrix["x"], (filled - filled.mean()) / filled.std(), rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["polars", "pyarrow"])
def test_other_tables_give_the_same_matrix(kind):
    module = pytest.importorskip(kind, reason=f"{kind} is not installed")
    table = frame().assign(day=pd.Timestamp("2020-01-01"))
    table["day"] += pd.to_timedelta(np.arange(200), "D")
    table["job"] = table["job"].astype(object).where(table.index % 9 > 0, None)
    data = {name: table[name].tolist() for name in table}
    other = module.DataFrame(data) if kind == "polars" else module.table(data)
    left, right = TabularEncoder().fit(table), TabularEncoder().fit(other)
    assert left.describe() == right.describe()
    assert np.array_equal(left.transform(table), right.transform(other))
    assert np.array_equal(left.transform(other), right.transform(table))


def test_arrays_are_taken():
    array = np.random.default_rng(0).normal(size=(50, 2))
    encoder = TabularEncoder().fit(array)
    assert encoder.get_feature_names_out().tolist() == ["x0", "x1"]
    assert not hasattr(encoder, "feature_names_in_")
    with pytest.raises(ValueError, match=r"X has 3 features, .* expecting 2 features"):
        encoder.transform(np.ones((4, 3)))
    mixed = np.array([["a", 1.5], ["b", 2.5], ["a", 3.5]], object)
    assert list(encode(mixed)[1]) == ["x1", "x0=b"]


def test_columns_without_information_are_left_out_and_named():
    table = frame().assign(
        one=1, same="x", nothing=None, name=[f"id{i}" for i in range(200)]
    )
    with pytest.warns(UserWarning) as caught:
        encoder, matrix = encode(table)
    texts = " ".join(str(w.message) for w in caught)
    assert "one value in every row): 'one', 'same'" in texts
    assert "no value at all): 'nothing'" in texts
    assert "differs in nearly every row" in texts and "'name'" in texts
    assert list(matrix) == list(encode(frame())[1])
    rows = {row["column"]: row for row in encoder.describe()}
    for name in ("one", "same", "nothing", "name"):
        assert rows[name]["kind"] == "dropped"
        assert rows[name]["encoding"].startswith("left out: ")
        assert rows[name]["outputs"] == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(encoder.transform(frame()), matrix)


def test_text_without_a_frequent_value_is_left_out():
    table = frame().assign(code=[f"c{i // 2}" for i in range(200)])
    with pytest.warns(UserWarning, match=r"no value reaches min_frequency\): 'code'"):
        encode(table, min_frequency=5)


def test_a_constant_with_gaps_keeps_its_gaps():
    table = frame().assign(x=1.0, when=pd.Timestamp("2020-01-01"))
    table.loc[:3, ["x", "when"]] = None
    _, matrix = encode(table)
    assert matrix["x=missing"].sum() == matrix["when=missing"].sum() == 4


def test_few_distinct_texts_of_few_rows_are_no_identifier():
    assert list(encode(pd.DataFrame({"x": ["a", "b", "c"]}))[1]) == ["x=b", "x=c"]


def test_new_values_are_counted():
    table = frame()
    encoder = TabularEncoder().fit(table)
    table.loc[:2, "job"] = ["king", "queen", "king"]
    table.loc[4, "real"] = np.nan
    with pytest.warns(UserWarning) as caught:
        matrix = encoder.transform(table)
    assert len(caught) == 1
    text = str(caught[0].message)
    assert "'job' in 3 rows (king, queen)" in text
    assert "'real' in 1 rows (nan)" in text
    # As the most frequent value: no column of its own.
    assert not matrix[:3, 2:4].any()
    assert np.isfinite(matrix).all()


def test_new_values_count_as_rare_where_there_are_rare_ones():
    job = ["z"] * 60 + ["c"] * 38 + ["b", "a"]
    encoder = TabularEncoder(min_frequency=5).fit(pd.DataFrame({"job": job}))
    with pytest.warns(UserWarning, match="'job' in 1 rows"):
        out = encoder.transform(pd.DataFrame({"job": ["new", "b", "z"]}))
    assert out.tolist() == [[0, 1], [0, 1], [0, 0]]


def test_missing_columns_are_named_with_near_names():
    encoder = TabularEncoder().fit(frame())
    with pytest.raises(ValueError, match=r"no column 'count'; did you mean 'counts'\?"):
        encoder.transform(frame().rename(columns={"count": "counts"}))
    reordered = frame()[["flag", "job", "count", "real"]].assign(more=1)
    assert np.array_equal(encoder.transform(reordered), encoder.transform(frame()))


def test_infinite_values_are_named():
    table = frame()
    table.loc[7, "real"] = np.inf
    with pytest.raises(ValueError, match=r"'real' has 1 infinite values, .* row 7"):
        TabularEncoder().fit(table)
    encoder = TabularEncoder().fit(frame())
    with pytest.raises(ValueError, match="'real' has 1 infinite values"):
        encoder.transform(table)


def test_values_of_another_kind_are_named():
    encoder = TabularEncoder().fit(
        frame().assign(day=pd.date_range("2020", periods=200))
    )
    table = frame().assign(day="x")
    with pytest.raises(ValueError, match="'day' must hold dates, as it did at fit"):
        encoder.transform(table)
    table = frame().assign(real="x", day="2020-01-01")
    with pytest.raises(ValueError, match="'real' must hold numbers, as it did at fit"):
        encoder.transform(table)
    # Numbers written as text are still numbers.
    table = frame().assign(day="2020-01-01")
    text = encoder.transform(table.assign(real=table["real"].astype(str)))
    np.testing.assert_allclose(text, encoder.transform(table), atol=1e-6)


@pytest.mark.parametrize("value", [[1, 2], b"x", {"a": 1}, 1j])
def test_values_that_are_no_feature(value):
    table = pd.DataFrame({"x": pd.Series([value, value, value], dtype=object)})
    with pytest.raises(ValueError, match=r"'x' holds values of type .* cannot be"):
        TabularEncoder().fit(table)


def test_unusable_tables():
    with pytest.raises(ValueError, match="X has no rows"):
        TabularEncoder().fit(frame().iloc[:0])
    with (
        pytest.warns(UserWarning, match="Columns left out"),
        pytest.raises(ValueError, match="no column left to encode"),
    ):
        TabularEncoder().fit(pd.DataFrame({"x": [1, 1]}))
    with pytest.raises(ValueError, match="X is sparse"):
        TabularEncoder().fit(sparse.eye(3))
    with pytest.raises(ValueError, match=r"X must have shape \[n, m\], got \(3,\)"):
        TabularEncoder().fit(np.ones(3))
    with pytest.raises(ValueError, match="pandas, polars or pyarrow table"):
        TabularEncoder().fit("table.csv")
    with pytest.raises(ValueError, match="more than one column named 'a'"):
        TabularEncoder().fit(pd.DataFrame([[1, 2], [2, 1]], columns=["a", "a"]))


def test_near_discrete_columns_are_named():
    rng = np.random.default_rng(0)
    table = frame(1000).assign(
        spike=np.where(rng.random(1000) < 0.3, 0.0, rng.normal(size=1000)),
        lattice=rng.integers(0, 90, 1000),
    )
    encoder = TabularEncoder().fit(table)
    expected = {"count", "job=clerk", "job=pilot", "flag=True", "spike", "lattice"}
    assert set(encoder.near_discrete_) == expected


def test_names_are_distinct_even_for_odd_columns():
    table = pd.DataFrame({"a": ["b=c", "x", "x"], "a=b": ["c", "y", "y"]})
    encoder, matrix = encode(table)
    assert list(matrix) == ["a=b=c", "a=b=c#2"]
    assert [row["outputs"] for row in encoder.describe()] == [["a=b=c"], ["a=b=c#2"]]


def test_sklearn_conventions():
    table = frame()
    encoder = TabularEncoder(min_frequency=7, drop=None)
    assert clone(encoder).get_params() == encoder.get_params()
    assert encoder.fit(table).feature_names_in_.tolist() == list(table)
    assert encoder.n_features_in_ == 4
    framed = TabularEncoder().set_output(transform="pandas").fit_transform(table)
    assert isinstance(framed, pd.DataFrame)
    assert framed.index.equals(table.index)
    assert list(framed) == list(encode(table)[1])
    label = (table["real"] > 10).to_numpy()
    pipeline = make_pipeline(TabularEncoder(), LogisticRegression()).fit(table, label)
    assert pipeline.score(table, label) > 0.9
    assert pipeline[:-1].get_feature_names_out().tolist() == list(framed)


@pytest.mark.parametrize(("load", "size"), [(load_adult, 59), (load_german, 45)])
def test_the_shipped_tables_are_encoded(load, size):
    table = load()
    train, test = table.take(table.train), table.take(~table.train)
    encoder = TabularEncoder().fit(train.features)
    matrix = encoder.transform(test.features)
    assert matrix.shape == (len(test), size)
    assert np.isfinite(matrix).all()
    rows = encoder.describe()
    assert [row["column"] for row in rows] == list(table.features)
    assert sum(len(row["outputs"]) for row in rows) == size


def test_values_whose_squares_no_number_holds_are_refused():
    rows = np.arange(12.0).reshape(6, 2)
    with pytest.raises(ValueError, match=r"'x1' has 6 values beyond 1e\+150"):
        TabularEncoder().fit(rows * [1.0, 1e300] + [0, 1e299])
    encoder = TabularEncoder().fit(rows)
    with pytest.raises(ValueError, match=r"row 2 that is too far .* in 'x0'"):
        encoder.transform(np.where(rows == 4, 1e100, rows))
    assert np.isfinite(encoder.transform(rows * 1e30)).all()
