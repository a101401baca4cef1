"""Where a command may write: asked before the work."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from jaxsteer.cli._errors import UsageError
from jaxsteer.cli._rows import ENDINGS, STREAM


def check_ending(path: pathlib.Path) -> None:
    """Raise unless rows can be written to a file of that ending, or to ``-``."""
    if path != STREAM and not path.name.endswith(ENDINGS):
        raise UsageError(
            f"--out {path}: the ending must be one of {', '.join(ENDINGS)}, or - for "
            "standard output."
        )


def stem(path: pathlib.Path) -> str:
    """Return the name without the endings that `check_ending` knows."""
    ending = max((e for e in ENDINGS if path.name.endswith(e)), key=len, default="")
    return path.name[: len(path.name) - len(ending)]


def check_outputs(
    outputs: Sequence[pathlib.Path], inputs: Sequence[pathlib.Path], *, force: bool
) -> None:
    """Raise if an output is an input, exists already, or is named twice.

    Asked before the work, so that nobody waits for a refusal.
    """
    if sum(path == STREAM for path in outputs) > 1:
        raise UsageError("- is named for two outputs; name a file for one of them.")
    inputs = [path for path in inputs if path != STREAM]
    known = {path.resolve(): path for path in inputs}
    seen: set[pathlib.Path] = set()
    for path in outputs:
        if path == STREAM:
            continue
        place = path.resolve()
        same = known.get(place) or next(
            (i for i in inputs if path.exists() and i.exists() and path.samefile(i)),
            None,
        )
        if same is not None:
            raise UsageError(
                f"{path} is the input {same}, which is never overwritten; name another "
                "file."
            )
        if place in seen:
            raise UsageError(f"{path} is named for two outputs; name two files.")
        seen.add(place)
        above = next((p for p in place.parents if p.exists()), place)
        if not above.is_dir():
            raise UsageError(f"{path}: {above.name} is a file, no folder to write in.")
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name a file.")
        if path.exists() and not force:
            raise UsageError(
                f"{path} exists already; name another file, or give --force to replace "
                "it."
            )
