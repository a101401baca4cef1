"""Imports run only downwards: the layers of the design, held by reading the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import jaxsteer

ROOT = Path(jaxsteer.__file__).parent

LAYERS = {
    "_api": 8,
    "_types": 0,
    "_varying": 0,
    "_chunks": 0,
    "_compilation": 0,
    "_errors": 0,
    "_labels": 0,
    "_package_state": 1,
    "_program_keys": 1,
    "_pytrees": 0,
    "_repr": 0,
    "_single_row": 0,
    "_stages": 0,
    "_stored_programs": 1,
    "_row_draws": 0,
    "linalg": 0,
    "storage": 0,
    "maps": 1,
    "solvers": 1,
    "families": 2,
    "_host_laws": 3,
    "_stationarity": 3,
    "_verification": 3,
    "population": 3,
    "steering": 4,
    "baselines": 5,
    "channels": 5,
    "ideal": 5,
    "moments": 5,
    "audit": 6,
    "models": 6,
    "nn": 6,
    "latent": 7,
    "pareto": 7,
    "audit_report": 8,
    "compare": 8,
    "cli": 8,
    "datasets": 8,
    "estimators": 8,
    "examples": 8,
    "export": 8,
    "plots": 8,
    "report": 8,
    "streaming": 8,
    "_frames": 8,
    "_numerals": 8,
    "_spellings": 8,
}
HEAVY = {"matplotlib", "narwhals", "pandas", "sklearn", "skops", "typer", "rich"}
# Imported inside one function each, which says what to install.
ASKED_FOR = {"storage/_pipeline.py": {"skops"}}
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def _unit(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def _imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "jaxsteer":
                names += [f"jaxsteer.{alias.name}" for alias in node.names]
            else:
                names.append(node.module or "")
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downwards(path):
    own = _unit(path)
    for name in _imported(path):
        parts = name.split(".")
        if parts[0] != "jaxsteer" or len(parts) == 1:
            assert parts[0] != "jaxsteer" or LAYERS[own] == 8, (
                "only layer 8 sees the top"
            )
            continue
        other = parts[1]
        if other == "__version__":
            continue
        assert other in LAYERS, f"{path} imports {name}, which has no layer"
        within = other == own or other.startswith("_")
        below = LAYERS[other] < LAYERS[own]
        assert within or below or LAYERS[own] == LAYERS[other] == 8, (
            f"{own} (layer {LAYERS[own]}) imports {other} (layer {LAYERS[other]})"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_top_layer_needs_the_extras(path):
    if LAYERS[_unit(path)] < 8:
        allowed = ASKED_FOR.get(path.relative_to(ROOT).as_posix(), set())
        names = {name.split(".")[0] for name in _imported(path)}
        assert not (names & HEAVY) - allowed


def test_every_module_has_a_layer():
    assert {_unit(path) for path in FILES} <= set(LAYERS)


def test_files_stay_small():
    sizes = sorted(len(path.read_text().splitlines()) for path in FILES)
    assert sizes[-1] <= 500
    assert sizes[len(sizes) // 2] < 200


def test_the_programs_can_be_read():
    sizes = [
        len(path.read_text().splitlines()) for path in (ROOT / "ideal").glob("*.py")
    ]
    assert len(sizes) <= 16 and sum(sizes) <= 3000
