"""Public docstrings have what a reader looks for: arguments, result, errors, example."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re

import pytest

from jaxsteer.audit.metrics import Metric
from tests.test_public_api import PACKAGES


def lacking(thing) -> list[str]:
    """Name the sections that the docstring of a public class or function lacks."""
    text = inspect.getdoc(thing) or ""
    found = [] if has(text, "Example") else ["Example"]
    if inspect.isclass(thing):
        fields = dataclasses.is_dataclass(thing) and dataclasses.fields(thing)
        said = has(text, "Attributes") or has(text, "Args")
        return [*found, "Attributes"] if fields and not said else found
    function = inspect.unwrap(thing)
    names = list(inspect.signature(function).parameters)
    after = re.split(r"^Args:", text, maxsplit=1, flags=re.M)[-1]
    found += [f"Args: {n}" for n in names if not re.search(rf"\b{n}:", after)]
    body = inspect.getsource(function).split('"""')[-1]
    result = inspect.signature(function).return_annotation
    says = has(text, "Returns") or has(text, "Yields") or text.startswith("Return")
    if result not in (None, "None") and not says:
        found.append("Returns")
    if re.search(r"\braise |\bcheck_", body) and not has(text, "Raises"):
        found.append("Raises")
    return found


def has(text: str, section: str) -> bool:
    """Whether a docstring has a section."""
    return bool(re.search(rf"^{section}s?:", text, re.M))


@pytest.mark.parametrize("package", PACKAGES)
def test_public_docstrings_have_their_sections(package):
    module = importlib.import_module(package)
    found = {}
    for public in module.__all__:
        thing = getattr(module, public)
        # Metrics are objects, whose seven arguments their class describes once.
        described = callable(thing) and not isinstance(thing, Metric)
        if described and (sections := lacking(thing)):
            found[public] = sections
    assert not found


def test_a_lacking_section_is_seen():
    def bare(x, y):
        """Return something.

        Args:
            x: One.
        """
        if x:
            raise ValueError(y)

    assert lacking(bare) == ["Example", "Args: y", "Raises"]
