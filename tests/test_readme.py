"""The README runs, and shows what was measured."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_examples_run_and_say_what_they_promise(capsys):
    names: dict = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    shown = re.findall(r"```text\n(.*?)```", README, re.DOTALL)[0].splitlines()
    numbers = re.compile(r"\d+\.\d+")
    for line, said in zip(lines, shown, strict=True):
        assert numbers.sub("", line) == numbers.sub("", said)
        for found, number in zip(
            numbers.findall(line), numbers.findall(said), strict=True
        ):
            assert abs(float(found) - float(number)) < 0.005, (line, said)
    gaps = {line.split()[0]: float(line.split()[1]) for line in lines[1:4]}
    assert gaps["exact"] < 0.01 < gaps["even"] < gaps["raw"]
    assert float(lines[0].split()[1]) > 0


def test_the_library_example_is_short():
    assert len(BLOCKS[0].strip().splitlines()) <= 25


def test_it_can_be_read_in_one_sitting():
    assert len(README.splitlines()) <= 200
    notebooks = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert notebooks <= set(re.findall(r"notebooks/([a-z0-9_]+\.ipynb)", README))


def test_the_two_commands_are_there():
    assert 'python -m pip install -e ".[all]" && jaxsteer demo' in README
    assert 'python -m pip install -e ".[dev]" && pytest -n 2' in README


def test_tables_are_those_of_the_result_files(monkeypatch):
    results = ROOT / "benchmarks" / "results"
    if not results.exists():
        pytest.skip("no benchmarks beside this README")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sys.modules.pop("update_readme", None)
    import update_readme

    for page in update_readme.PAGES:
        text = page.read_text()
        assert update_readme.filled(text) == text
