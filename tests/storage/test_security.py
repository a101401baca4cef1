"""What is trusted is listed, and nothing in the package can run what a file holds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import jaxsteer
from jaxsteer.storage._pipeline import TRUSTED

ROOT = Path(jaxsteer.__file__).parent
PAGE = ROOT.parent / ".github" / "SECURITY.md"
FORBIDDEN = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
RUNS = {"eval", "exec", "compile", "__import__"}


def unsafe(source: str) -> list[str]:
    """What a module imports or calls that could run what a file holds."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(alias.name for alias in node.names)]
            found += [name for name in names if name.split(".")[0] in FORBIDDEN]
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in RUNS:
                found.append(node.func.id)
            for option in node.keywords:
                value = option.value
                off = isinstance(value, ast.Constant) and value.value is False
                if option.arg == "allow_pickle" and not off:
                    found.append("allow_pickle")
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
            found.append("torch.load")
    return found


def test_no_module_can_run_what_a_file_holds():
    paths = sorted(ROOT.rglob("*.py"))
    assert len(paths) > 200
    found = {str(path): unsafe(path.read_text()) for path in paths}
    # But for programs, which are code wherever they are kept, in the folder that the user
    # gave JAX for them.
    assert found.pop(str(ROOT / "_stored_programs.py")) == ["pickle"]
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "from joblib import load",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, allow_pickle=yes)",
        "eval(text)",
        "import torch\ntorch.load(path)",
    ],
)
def test_the_reader_of_sources_sees_them(source):
    assert unsafe(source)


def test_the_page_lists_what_is_trusted():
    if not PAGE.is_file():
        pytest.skip("installed without the repository")
    text = PAGE.read_text()
    listed = {line[3:-1] for line in text.splitlines() if line.startswith("- `")}
    assert listed == set(TRUSTED)
