"""The pages in a browser: nothing cut on a phone, nothing wider than paper, colors."""

from __future__ import annotations

import html
import json
import pathlib
import re
import shutil
import subprocess
import warnings

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("typer", reason="typer is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")
from typer.testing import CliRunner

from jaxsteer.cli._app import app
from jaxsteer.report import Report, page_style, render_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

# What a script in the page finds: how far anything reaches beyond the window that does
# not stand in a box that scrolls, and which headings and cells are without words.
PROBE = """
<script>
window.addEventListener("load", () => {
  const wide = document.documentElement.clientWidth;
  const loose = [...document.querySelectorAll("body *")].filter(
    e => !e.closest(".scroll") && e.getBoundingClientRect().right > wide + 1);
  const boxes = [...document.querySelectorAll(".scroll")];
  // A table with a row of headings repeats it on paper, and its names stay in sight.
  const tables = boxes.map(b => b.querySelector("table")).filter(
    t => t.rows[0].querySelectorAll("th").length > 1);
  const gone = tables.filter(t => {
    const box = t.parentElement;
    box.scrollLeft = 9999;
    const names = [...t.rows].map(r => r.cells[0].getBoundingClientRect().left);
    return box.scrollLeft > 0 && Math.min(...names) < box.getBoundingClientRect().left - 1;
  });
  const found = {
    headless: tables.filter(t => !t.tHead).length, tables: tables.length,
    gone: gone.map(t => t.textContent.trim().slice(0, 40)),
    width: wide, page: document.documentElement.scrollWidth,
    loose: loose.map(e => e.tagName + ":" + e.textContent.trim().slice(0, 40)),
    unnamed: boxes.filter(e => !e.getAttribute("aria-label") || e.tabIndex < 0).length,
    scripts: document.scripts.length,
    images: [...document.images].filter(i => !i.alt || !i.naturalWidth).length,
  };
  const out = document.createElement("pre");
  out.id = "found"; out.textContent = JSON.stringify(found);
  document.body.append(out);
});
</script>
"""


def colors(dark: bool) -> dict[str, str]:
    """The custom properties of the light or the dark page."""
    text = str(page_style())
    light, _, rest = text.partition("@media (prefers-color-scheme: dark)")
    block = rest.partition("* {")[0] if dark else light
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    return colors(False) | found if dark else found


def contrast(first: str, second: str) -> float:
    """WCAG's ratio of two colors."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
        ]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_what_is_behind_them(dark):
    found = colors(dark)
    for ink in ("ink", "soft", "flag"):
        for behind in ("paper", "box", "warn"):
            assert contrast(found[ink], found[behind]) >= 4.5, (ink, behind)
    # Lines that carry meaning.
    assert contrast(found["edge"], found["paper"]) >= 3
    assert contrast(found["warn-edge"], found["paper"]) >= 3


def test_the_first_paragraph_comes_before_everything():
    page = render_report(
        Report(title="T", summary=["What was done."], asked=[("a", "b")])
    )
    assert page.index("What was done.") < page.index("What was asked")
    assert "<script" not in page and "prefers-color-scheme" in page


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    n = 400
    label = rng.integers(0, 2, n)
    frame = pd.DataFrame(
        {
            "a_column_with_a_rather_long_name_for_a_phone": rng.normal(size=n),
            "sex": rng.choice(["Female", "Male"], n),
            "race_or_ethnicity": rng.choice(
                ["Native Hawaiian or Pacific Islander (Not Hispanic)", "White"], n
            ),
            "approved": np.where(label, "yes", "no"),
            "score": rng.normal(size=n) + label,
        }
    )
    frame.to_csv(folder / "rows.csv", index=False)
    common = [str(folder / "rows.csv"), "--label", "approved"]
    commands = [
        ["audit", *common, "--group", "sex,race_or_ethnicity", "--score", "score"],
        ["steer", *common, "--group", "sex", "--method", "reweigh", "--no-check"],
    ]
    commands[0] += ["--out", str(folder / "audit.html"), "--profile", "bias-profile"]
    commands[1] += ["--out", str(folder / "out.csv")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for command in commands:
            result = CliRunner().invoke(app, command)
            assert result.exit_code == 0, (result.output, result.exception)
    return [folder / "audit.html", folder / "out.report.html"]


@in_a_browser
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_cut(pages, width, which, tmp_path):
    page = tmp_path / "page.html"
    text = pages[which].read_text()
    # A frame of the wanted width: a browser's own window is never that narrow.
    inner = tmp_path / "inner.html"
    inner.write_text(text.replace("</body>", PROBE + "</body>"))
    page.write_text(
        f'<iframe src="inner.html" style="width:{width}px;height:900px;border:0">'
        '</iframe><script>addEventListener("load", () => setTimeout(() => {'
        "const d = document.querySelector('iframe').contentDocument;"
        "const p = document.createElement('pre');"
        "p.textContent = d.getElementById('found').textContent;"
        "document.body.append(p);}, 200));</script>"
    )
    command = [
        *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu"),
        *("--allow-file-access-from-files", "--virtual-time-budget=3000"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000"),
        *("--enable-logging=stderr", "--v=0", "--dump-dom", page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r"<pre>(\{.*?\})</pre>", done.stdout, re.S)
    assert found, (done.stdout[-500:], done.stderr[-500:])
    probe = json.loads(html.unescape(found[1]))
    assert probe["loose"] == [] and probe["page"] <= probe["width"]
    assert probe["unnamed"] == 0 and probe["images"] == 0
    assert probe["tables"] > 0 and probe["headless"] == 0 and probe["gone"] == []
    # The probe's own is the only script.
    assert probe["scripts"] == 1
    assert "CONSOLE" not in done.stderr, done.stderr


AUDIT = """
<script>
addEventListener("load", () => axe.run(document).then(found => {
  const out = document.createElement("pre");
  out.id = "axe";
  out.textContent = JSON.stringify({
    passes: found.passes.length,
    violations: found.violations.map(v => [v.id, v.nodes.map(n => n.html)]),
  });
  document.body.append(out);
}));
</script>
"""


@in_a_browser
@pytest.mark.parametrize("which", [0, 1])
def test_axe_finds_no_barrier(pages, which, tmp_path):
    axe = pytest.importorskip(
        "axe_core_python", reason="axe-core (axe-core-python) is not installed"
    )
    script = (pathlib.Path(axe.__path__[0]) / "axe.min.js").read_text()
    page = tmp_path / "page.html"
    text = pages[which].read_text()
    page.write_text(text.replace("</body>", f"<script>{script}</script>{AUDIT}</body>"))
    command = [
        *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000"),
        *("--window-size=1280,1000", "--dump-dom", page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="axe">(\{.*?\})</pre>', done.stdout, re.S)
    assert found, (done.stdout[-500:], done.stderr[-500:])
    told = json.loads(html.unescape(found[1]))
    assert told["passes"] > 10
    assert told["violations"] == []


@in_a_browser
def test_it_prints(pages, tmp_path):
    out = tmp_path / "page.pdf"
    command = [
        *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--no-pdf-header-footer"),
        *(f"--print-to-pdf={out}", pages[0].as_uri()),
    ]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert out.read_bytes().startswith(b"%PDF") and out.stat().st_size > 10_000
