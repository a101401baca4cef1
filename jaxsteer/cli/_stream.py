"""``jaxsteer stream``: files larger than memory, steered a batch at a time."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import typer

from jaxsteer.cli._errors import UsageError, friendly
from jaxsteer.cli._shared_options import Force, Json, Quiet
from jaxsteer.cli._signals import loading

app = typer.Typer(
    name="stream",
    help="Steer files of any size in constant memory, a batch of rows at a time.",
    no_args_is_help=True,
)

Files = Annotated[
    list[pathlib.Path],
    typer.Argument(help="Files or folders of one kind: Parquet, or CSV."),
]
Out = Annotated[
    pathlib.Path, typer.Option(help="Where to write the rows (.parquet, .csv, .tsv).")
]
Encoding = Annotated[
    str, typer.Option(help="How CSV spells its text: utf8, latin-1, cp1252, ...")
]
Separator = Annotated[
    str | None, typer.Option(help="What parts the fields of CSV; a comma if none.")
]
BatchRows = Annotated[int, typer.Option(min=1, help="Rows held at a time.")]


@app.command()
@friendly
def steer(
    files: Files,
    label: Annotated[str, typer.Option(help="Column of the label.")],
    group: Annotated[str, typer.Option(help="Column of the group.")],
    out: Out,
    maps: Annotated[
        pathlib.Path | None,
        typer.Option(help="Where to keep the maps for stream apply (.safetensors)."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Group that stays; the largest if none.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Column of sampling weights, which is no feature."),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="Column that is no feature; repeatable.")
    ] = None,
    checkpoint: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="File that keeps how far the moments have come: the same command, "
            "started again, goes on from there."
        ),
    ] = None,
    encoding: Encoding = "utf8",
    separator: Separator = None,
    batch_rows: BatchRows = 65_536,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write rows with steered features and sample weights beside them."""
    with loading():
        from jaxsteer.streaming import steer_file

    outputs = [path for path in (out, maps) if path is not None]
    others = {path.resolve() for path in (*files, *outputs)}
    if checkpoint is not None and checkpoint.resolve() in others:
        raise UsageError(f"--checkpoint {checkpoint}: name a file of its own.")
    with _checked(files, outputs, force=force, quiet=quiet, as_json=as_json):
        done = steer_file(
            files if len(files) > 1 else files[0],
            label=label,
            group=group,
            out=out,
            maps_file=maps,
            reference=reference,
            weight=weights,
            drop=drop or (),
            encoding=encoding,
            separator=_tab(separator),
            batch_rows=batch_rows,
            checkpoint=checkpoint,
            progress=_progress(quiet or as_json),
        )
        _tell(done, out, as_json, None if as_json else done.steering.verify())


@app.command()
@friendly
def apply(
    maps: Annotated[
        pathlib.Path, typer.Argument(help="The file that stream steer --maps wrote.")
    ],
    files: Files,
    out: Out,
    encoding: Encoding = "utf8",
    separator: Separator = None,
    batch_rows: BatchRows = 65_536,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Steer new rows, without labels, by maps that were kept."""
    with loading():
        from jaxsteer.streaming import apply_file

    with _checked([maps, *files], [out], force=force, quiet=quiet, as_json=as_json):
        done = apply_file(
            maps,
            files if len(files) > 1 else files[0],
            out=out,
            encoding=encoding,
            separator=_tab(separator),
            batch_rows=batch_rows,
            progress=_progress(quiet or as_json),
        )
        _tell(done, out, as_json)


def _checked(
    inputs: list[pathlib.Path], outputs: list[pathlib.Path], *, force: bool, **how: bool
) -> Any:
    from jaxsteer.cli._console import speaking
    from jaxsteer.cli._outputs import check_outputs

    check_outputs(outputs, inputs, force=force)
    return speaking(rows_out=False, **how)


def _tab(separator: str | None) -> str | None:
    # A shell hands over the backslash and the letter.
    return "\t" if separator == "\\t" else separator


def _progress(silent: bool) -> Any:
    from jaxsteer.streaming import print_progress

    return None if silent else print_progress


def _tell(done: Any, out: pathlib.Path, as_json: bool, checks: Any = None) -> None:
    from jaxsteer.cli._console import print_json, say

    if as_json:
        print_json(
            {
                "out": str(out),
                "rows": done.rows,
                "left_out": done.left_out,
                "columns": list(done.columns),
                "groups": list(done.group_names),
                "kl_nats": float(done.steering.kl),
            }
        )
        return
    say(f"{out}: {done.rows:,} rows, new columns {', '.join(done.columns)}.")
    missing = {reason: count for reason, count in done.left_out.items() if count}
    for reason, count in missing.items():
        say(f"{count:,} rows could not be steered or did not count: their {reason}.")
    if checks is not None:
        say(str(checks))
