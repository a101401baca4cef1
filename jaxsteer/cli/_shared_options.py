"""Options that several commands have, each said once."""

from __future__ import annotations

from typing import Annotated

import typer

Force = Annotated[
    bool, typer.Option("--force", help="Replace files that exist (never the input).")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print what was done as JSON, and no words.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
