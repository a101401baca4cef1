"""The page: self-contained, escaped, and the same for the same input."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from jaxsteer import report as pages
from jaxsteer.compare import Split, compare

pytest.importorskip("jinja2", reason="jinja2 is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(3)
    label, group = rng.integers(0, 2, (2, 100)).astype(np.int32)
    x = rng.normal(size=(100, 2)) + label[:, None]
    split = Split(*(part[i::2] for i in (0, 1) for part in (x, label, group)))
    return compare(split, learners=["logistic"], methods=["raw", "mimic"], n_boot=5)


def full_report(found) -> pages.Report:
    from jaxsteer.plots import comparison_dots

    return pages.Report(
        title="A <script>alert(1)</script> title",
        asked=[("label", "income & more")],
        warnings=["Group <b>x</b> is small."],
        comparisons=[("Held out", found)],
        figures=[("A caption", comparison_dots(found))],
        metrics={"accuracy": found.rows[0].metrics["accuracy"]},
        counts=np.array([[40, 3], [25, 60]]),
        label_names=("no", "yes"),
        group_names=("f", "m"),
        encoding=[
            {
                "column": "age<40",
                "kind": "number",
                "encoding": "standardized",
                "missing": 7,
                "categories": 0,
            }
        ],
        files=[("rows.csv", "the rows")],
        seed=3,
    )


def test_the_page_needs_nothing_else_and_escapes(found):
    page = pages.render_report(full_report(found))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "Group &lt;b&gt;x&lt;/b&gt; is small." in page
    assert "age&lt;40" in page
    # Nothing is fetched: every source is inside the page, and there is no link.
    assert all(
        s.startswith("data:image/png;base64,") for s in re.findall('src="(.*?)"', page)
    )
    assert "href=" not in page and "url(" not in page


def test_the_page_shows_the_figures_of_the_table(found):
    page = pages.render_report(full_report(found))
    for row in found.rows:
        for interval in row.metrics.values():
            assert f"{float(interval.value):.3f}" in page
    assert page.count('<span class="flag">small</span>') == 2
    assert "fewer than 30 rows" in page
    assert "seed 3" in page
    for name, version in pages.versions():
        assert f"{name} {version}" in page


def test_the_same_input_gives_the_same_bytes(found, tmp_path):
    first = pages.write_report(tmp_path / "deep" / "a.html", full_report(found))
    second = pages.write_report(tmp_path / "b.html", full_report(found))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("counts", "hidden"),
    [
        ([[40, 3], [25, 60]], [[0, 1], [1, 0]]),  # the second by the total
        ([[40, 3], [9, 60]], [[0, 1], [1, 0]]),
        ([[40, 30], [25, 60]], [[0, 0], [0, 0]]),
        ([[0, 12], [11, 13]], [[1, 0], [1, 0]]),
        ([[3]], [[1]]),
    ],
)
def test_which_cells_are_hidden(counts, hidden):
    found = pages.hidden_cells(np.array(counts), 10)
    np.testing.assert_array_equal(found, np.array(hidden, bool))
    assert not pages.hidden_cells(np.array(counts), 0).any()


def test_small_cells_are_not_on_the_page(found):
    report = full_report(found)
    least = 1 + max(
        int(i.smallest_cell) for row in found.rows for i in row.metrics.values()
    )
    page = pages.render_report(dataclasses.replace(report, suppress=10))
    table = page[page.index("Rows by class and group") :]
    assert table.count(">hidden<") == 2 + 2  # two cells, and the shares of their groups
    assert "fewer than 10 rows" in table.replace("\n", " ")
    assert ">25<" not in table and ">3<" not in table and ">40<" in table
    # No figure that rests on so few rows, in no table.
    page = pages.render_report(dataclasses.replace(report, suppress=least))
    for row in found.rows:
        for interval in row.metrics.values():
            assert f"{float(interval.value):.3f}<span" not in page
    assert f"under {least}" in page


def test_empty_parts_are_left_out():
    page = pages.render_report(pages.Report(title="Bare"))
    for heading in ("Pictures", "Metrics", "Files", "Read this first", "The solve"):
        assert f"<h2>{heading}</h2>" not in page
    assert "What is promised" in page
