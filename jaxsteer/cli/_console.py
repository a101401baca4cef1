"""What every command prints with: errors in one line, progress, tables."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import typer
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

from jaxsteer.solvers import SolveError

_PIPE_WIDTH = 120

#: Exit code of a command that was asked for something impossible.
USAGE = 2

_EXPECTED = (ValueError, OSError, ImportError, NotImplementedError, SolveError)


def console() -> Console:
    """Return a console on standard output; made at each call, for redirection."""
    plain = Console(highlight=False, soft_wrap=True)
    # A pipe has no width of its own; rich would cut tables at 80 columns.
    return plain if plain.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def friendly(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the library's errors into one line and exit code 2, without a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except _EXPECTED as error:
            message = " ".join(str(error).split()) or type(error).__name__
            Console(stderr=True, highlight=False, soft_wrap=True).print(
                f"[bold red]error:[/] {escape(message)}"
            )
            raise typer.Exit(USAGE) from None

    return run


@contextlib.contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the library's warnings as sentences, each once."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield messages
        finally:
            for warning in caught:
                text = " ".join(str(warning.message).split())
                if issubclass(warning.category, UserWarning) and text not in messages:
                    messages.append(text)


def print_warnings(messages: list[str]) -> None:
    """Print warnings on standard error, where they do not mix with results."""
    out = Console(stderr=True, highlight=False, soft_wrap=True)
    for message in messages:
        out.print(f"[yellow]note:[/] {escape(message)}")


@contextlib.contextmanager
def progress_of(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yield ``report(text, done, total)``: a bar on a terminal, else plain lines."""
    out = console()
    if not out.is_terminal:
        yield lambda text, done, total: out.print(
            f"[{done}/{total}] {text}", markup=False
        )
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda text, done, total: bar.update(
            task, description=escape(text), completed=done, total=total
        )


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
