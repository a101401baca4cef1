"""What every command prints with: progress, notes, tables."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Generator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from jaxsteer.cli._errors import OutputClosed, OutputError, UsageError
from jaxsteer.cli._signals import check_interrupted

_PIPE_WIDTH = 120


class _Speech:
    """What is said where: nothing at all, or nothing on standard output."""

    quiet = False
    elsewhere = False


@contextlib.contextmanager
def speaking(*, quiet: bool, as_json: bool, rows_out: bool) -> Generator[None]:
    """Leave standard output to rows or JSON, and all of it to errors with --quiet."""
    if as_json and rows_out:
        raise UsageError(
            "--json and --out - both want standard output; name a file for the rows."
        )
    before = _Speech.quiet, _Speech.elsewhere
    _Speech.quiet, _Speech.elsewhere = quiet, as_json or rows_out
    try:
        yield
    finally:
        _Speech.quiet, _Speech.elsewhere = before


def print_json(content: Any) -> None:
    """Print an object on standard output, as one document."""
    _write(json.dumps(content, indent=1, default=str) + "\n")


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error
    except OSError as error:
        raise OutputError(
            f"standard output cannot be written ({error.strerror})."
        ) from error


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise OutputClosed


def console() -> Console:
    """Return a console on standard output; made at each call, for redirection."""
    plain = _Console(highlight=False, soft_wrap=True)
    # A pipe has no width of its own; rich would cut tables at 80 columns.
    return plain if plain.is_terminal else _Console(highlight=False, width=_PIPE_WIDTH)


def say(*things: Any, **options: Any) -> None:
    """Print on standard output, and tell a closed pipe from a full disk."""
    if _Speech.quiet:
        return
    if _Speech.elsewhere:
        Console(stderr=True, highlight=False, soft_wrap=True).print(*things, **options)
        return
    try:
        console().print(*things, **options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error
    except OSError as error:
        raise OutputError(
            f"standard output cannot be written ({error.strerror}); files that were "
            "asked for are written before anything is printed, and whole."
        ) from error


@contextlib.contextmanager
def collected_warnings() -> Generator[list[str]]:
    """Collect the library's warnings as sentences, each once."""
    messages: list[str] = []

    def note(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        text = " ".join(str(message).split())
        if issubclass(category, UserWarning) and text not in messages:
            messages.append(text)

    failed = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            # At once, so that the page made in here shows them; restored at the end.
            warnings.showwarning = note
            yield messages
            failed = False
    finally:
        # What was noted often says why the command then fails.
        if failed:
            print_warnings(messages)


def print_warnings(messages: list[str]) -> None:
    """Print warnings on standard error, where they do not mix with results."""
    if _Speech.quiet:
        return
    out = Console(stderr=True, highlight=False, soft_wrap=True)
    for message in messages:
        out.print(f"[yellow]note:[/] {escape(message)}")


@contextlib.contextmanager
def progress_of(title: str) -> Generator[Callable[[str, int, int], None]]:
    """Yield ``report(text, done, total)``: a bar on a terminal, else plain lines.

    On standard error, where it does not mix with results. Each report is also a place
    where a command that was told to stop does so.
    """
    out = Console(stderr=True, highlight=False, soft_wrap=True)
    if _Speech.quiet:
        yield lambda text, done, total: check_interrupted()
        return
    if not out.is_terminal:

        def line(text: str, done: int, total: int) -> None:
            check_interrupted()
            out.print(f"[{done}/{total}] {text}", markup=False)

        yield line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def update(text: str, done: int, total: int) -> None:
            check_interrupted()
            bar.update(task, description=escape(text), completed=done, total=total)

        yield update


def simple_table(title: str, headings: list[str], rows: list[list[str]]) -> Table:
    """Return a table whose first column is text and whose others are figures."""
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD
    )
    for i, heading in enumerate(headings):
        first = i == 0
        table.add_column(heading, justify="left" if first else "right", no_wrap=first)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table
