"""Public signatures say what they take: no type checker is left to guess."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.test_public_api import PACKAGES

# Options that are handed on whole, and JSON documents, whose values are of many types.
HANDED_ON = inspect.Parameter.VAR_KEYWORD
DOCUMENTS = re.compile(r"(list\[)?(Mapping|dict)\[str, Any\]\]?( \| None)?")
# What these return is known when they run: the class that was saved, the metric made.
KNOWN_LATER = {"load_estimator", "load_pipeline", "metric"}


def functions(thing: Any) -> Iterator[tuple[str, Any]]:
    """The public functions of a class, or the function itself."""
    if not inspect.isclass(thing):
        yield "", thing
        return
    for name, value in vars(thing).items():
        if name.startswith("_") and name not in ("__init__", "__call__"):
            continue
        value = value.fget if isinstance(value, property) else value
        value = getattr(value, "__func__", value)
        own = inspect.isfunction(value) and value.__module__.startswith("jaxsteer")
        if own and value.__name__ != "<lambda>":
            yield f".{name}", value


def untyped(function: Any) -> list[str]:
    """Names of the parameters (or "return") that a checker must guess."""
    function = inspect.unwrap(function)
    notes = getattr(function, "__annotations__", {})
    kinds = {p.name: p.kind for p in inspect.signature(function).parameters.values()}
    found = []
    for name, note in notes.items():
        free = re.search(r"\bAny\b", str(note)) and not DOCUMENTS.fullmatch(str(note))
        later = name == "return" and function.__name__ in KNOWN_LATER
        if free and kinds.get(name) != HANDED_ON and not later:
            found.append(name)
    first = next(iter(kinds), None)
    for name, kind in kinds.items():
        itself = name == first and name in ("self", "cls")
        if name not in notes and not itself and kind != HANDED_ON:
            found.append(name)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_public_signatures_are_typed(package):
    module = importlib.import_module(package)
    found = {}
    for public in module.__all__:
        thing = getattr(module, public)
        if inspect.isclass(thing) or inspect.isfunction(inspect.unwrap(thing)):
            for name, function in functions(thing):
                if names := untyped(function):
                    found[public + name] = names
    assert not found


def test_what_is_left_to_guess_is_seen():
    def badly(x, y: Any, *, z: int, **options: Any) -> dict[str, Any]:
        return {}

    assert untyped(badly) == ["y", "x"]
