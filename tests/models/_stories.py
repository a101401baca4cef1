"""The small real model that the tests steer, and where the larger ones may be."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path

import pytest

from jaxsteer.models import load_decoder, load_tokenizer

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "stories260K"
needs_stories = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason="stories260K is not in ../shared/data beside this project",
)


@cache
def stories_tokenizer():
    return load_tokenizer(FOLDER / "tok512.bin")


def stories(**options):
    """A fresh copy: tests change it."""
    return load_decoder(FOLDER / "stories260K.bin", **options)


def packaged(package, variable, *parts):
    """Path of a model that an environment variable, or else a package, brings."""
    if variable in os.environ:
        return Path(os.environ[variable])
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed, and {variable} names no file")
    return Path(spec.submodule_search_locations[0], *parts)
