"""The application: one function a command, each in a file of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from jaxsteer.cli._apply import apply
from jaxsteer.cli._audit import audit
from jaxsteer.cli._demo import demo
from jaxsteer.cli._steer import steer

app = typer.Typer(
    name="jaxsteer",
    help="The nearest exactly-fair population, and the maps that steer data there.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, steer, apply, audit):
    app.command(name=command.__name__)(command)


def _version(wanted: bool) -> None:
    if wanted:
        import jaxsteer

        typer.echo(f"jaxsteer {jaxsteer.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """The nearest exactly-fair population, and the maps that steer data there."""
