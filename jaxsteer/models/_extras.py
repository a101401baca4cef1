"""Packages of the extra ``llm``, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def need(name: str) -> Any:
    """Import a package, or say which extra brings it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = name.split(".")[0]
        if error.name != package:
            raise
        raise ImportError(
            f"This file needs the package {package!r}: pip install 'jaxsteer[llm]'."
        ) from error
