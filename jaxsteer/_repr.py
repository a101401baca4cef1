"""Short texts of results: one line and a small table, figures and shapes, no arrays."""

from __future__ import annotations

import dataclasses
import html
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

#: Names and values that are listed in full; more are counted.
_FEW = 8
_LONGEST = 60


def one_line(value: Any, *, depth: int = 2) -> str:
    """Return a value as one line of text.

    Arrays are a type and a shape, single numbers four digits, a status its name, and
    what is nested deeper than `depth` is a class name.

    Args:
        value: A dataclass, an array, or anything else.
        depth: Levels of dataclasses whose fields are told.

    Example:
        >>> one_line(np.zeros((2, 3), np.float32)), one_line(0.123456)
        ('f32[2, 3]', '0.1235')
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__
        if depth == 0:
            return f"{name}(...)"
        return (
            f"{name}({', '.join(f'{n}={t}' for n, t in fields_of(value, depth - 1))})"
        )
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _array(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return f"{{{', '.join(map(str, list(value)[:_FEW]))}{_more(value)}}}"
    if isinstance(value, list | tuple | set | frozenset):
        items = [one_line(v, depth=max(depth - 1, 0)) for v in list(value)[:_FEW]]
        return f"({', '.join(items)}{_more(value)})"
    text = repr(value) if isinstance(value, str) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def fields_of(value: Any, depth: int = 1) -> list[tuple[str, str]]:
    """Return names and short texts of the fields of a dataclass, empty ones left out."""
    found = []
    for field in dataclasses.fields(value):
        content = getattr(value, field.name, None)
        if content is None or not field.repr:
            continue
        text = one_line(content, depth=depth)
        if field.name == "status":
            text = status_name(content)
        found.append((field.name, text))
    return found


def status_name(status: Any) -> str:
    """Return the name of a status, or how many there are of each."""
    kinds = importlib.import_module("jaxsteer.solvers").Status
    try:
        codes = np.asarray(status).astype(int)
        if codes.ndim == 0:
            return kinds(int(codes)).name
        values, counts = np.unique(codes, return_counts=True)
        return ", ".join(
            f"{count} {kinds(int(code)).name}"
            for code, count in zip(values, counts, strict=True)
        )
    except Exception:  # traced or a placeholder: there is no name yet
        return one_line(status)


def text_table(rows: Sequence[Sequence[str]], headings: Sequence[str] = ()) -> str:
    """Return rows of text in columns, each as wide as it must be.

    Example:
        >>> print(text_table([("kl", "0.12"), ("status", "CONVERGED")]))
        kl      0.12
        status  CONVERGED
    """
    lines = [headings, *rows] if headings else list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def html_table(
    rows: Sequence[Sequence[str]], headings: Sequence[str] = (), *, caption: str = ""
) -> str:
    """Return rows of text as an HTML table for notebooks, everything escaped."""

    def line(cells: Sequence[str], tag: str) -> str:
        inner = "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells)
        return f"<tr>{inner}</tr>"

    head = f"<thead>{line(headings, 'th')}</thead>" if headings else ""
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    body = "".join(line(cells, "td") for cells in rows)
    return f"<table>{title}{head}<tbody>{body}</tbody></table>"


def dataclass_html(value: Any) -> str:
    """Return the fields of a dataclass as an HTML table."""
    return html_table(fields_of(value), caption=type(value).__name__)


def _array(array: Any) -> str:
    shape = tuple(array.shape)
    if shape == ():
        try:
            number = np.asarray(array).item()
        except Exception:  # traced, or a random key
            return f"{array.dtype}[]"
        return f"{number:.4g}" if isinstance(number, float) else str(number)
    dtype = np.dtype(array.dtype) if str(array.dtype)[:3] != "key" else array.dtype
    kind = getattr(dtype, "kind", "?")
    if kind in "OUS" and array.ndim == 1 and array.size <= _FEW:
        return ", ".join(map(str, array.tolist()))
    short = {"f": "f", "i": "i", "u": "u"}.get(kind)
    name = f"{short}{dtype.itemsize * 8}" if short else str(dtype)
    return f"{name}[{', '.join(map(str, shape))}]"


def _more(value: Any) -> str:
    return f", ... {len(value)} in all" if len(value) > _FEW else ""
