"""The GPU's script keeps what its parts have printed, however they end."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks" / "gpu"
PART = """
import os, sys
print('{"known": 1}', flush=True)
print('{"half": ', end="", flush=True)
if sys.argv[1] == "killed":
    os._exit(9)  # says nothing, as where memory is out
if sys.argv[1] == "raises":
    raise ValueError("why")
"""


@pytest.fixture
def run(monkeypatch, tmp_path):
    if not (FOLDER / "run_all.py").exists():
        pytest.skip("no benchmarks beside these tests")
    monkeypatch.syspath_prepend(str(FOLDER))
    module = import_module("run_all")
    monkeypatch.setattr(module, "HERE", tmp_path)
    (tmp_path / "parts.py").write_text(PART)
    return module.run


@pytest.mark.parametrize(
    ("name", "ended"),
    [("ends", "in time"), ("killed", "status 9"), ("raises", "ValueError: why")],
)
def test_what_was_known_is_kept(run, name, ended):
    found = run(name, 60, quick=True)
    assert found["known"] == 1
    assert ended in found["ended"]
