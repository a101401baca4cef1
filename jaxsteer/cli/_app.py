"""The application: each command's options. What they do is loaded when one is run."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from jaxsteer.cli._errors import friendly
from jaxsteer.cli._signals import loading

#: The methods of ``steer``; a test holds them to those that exist.
METHODS = (
    "affirmative",
    "all_groups",
    "channel",
    "mean_match",
    "mimic",
    "leace",
    "meet",
    "reweigh",
)

Force = Annotated[
    bool, typer.Option("--force", help="Replace files that exist (never the input).")
]
Label = Annotated[str, typer.Option(help="Column of the label.")]
Group = Annotated[
    str, typer.Option(help="Sensitive column, or several joined by commas.")
]
Rows = Annotated[pathlib.Path, typer.Argument(help="Rows: CSV or Parquet.")]
Positive = Annotated[
    str | None, typer.Option(help="Favorable label; the last one if none.")
]
Encoding = Annotated[
    str, typer.Option(help="Encoding of a text file, such as latin-1 or utf-16.")
]
Separator = Annotated[
    str | None, typer.Option(help="What parts the fields; found in the header if none.")
]
Missing = Annotated[
    list[str] | None,
    typer.Option(
        help="Text that means no value; repeatable, and takes the place of the usual "
        "ones (empty, NA, NaN, null, None, ?, ...)."
    ),
]

app = typer.Typer(
    name="jaxsteer",
    help="The nearest exactly-fair population, and the maps that steer data there.",
    epilog="Exit codes: 1 the machine (disk, memory, a missing package), 2 the command "
    "line, 3 the files, 4 no answer found, 5 a gate of audit, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
@friendly
def demo(
    out: Annotated[
        pathlib.Path, typer.Option(help="Folder of the page and the table.")
    ] = pathlib.Path("jaxsteer-demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="A small part of the rows, in seconds.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """Compare ways to be fair on census income (sex, income over 50,000 dollars)."""
    with loading():
        from jaxsteer.cli import _demo

    _demo.demo(out, quick=quick, seed=seed)


@app.command()
@friendly
def steer(
    file: Rows,
    label: Label,
    group: Group,
    out: Annotated[
        pathlib.Path, typer.Option(help="Where to write the rows (CSV or Parquet).")
    ],
    positive: Positive = None,
    reference: Annotated[
        str | None, typer.Option(help="Group that stays; the largest if none.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="One of " + ", ".join(METHODS) + ".")
    ] = "affirmative",
    learner: Annotated[
        str, typer.Option(help="Base learner of the fair score: logistic or boosted.")
    ] = "boosted",
    features: Annotated[
        bool, typer.Option("--features", help="Write steered features only.")
    ] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Write sample weights only.")
    ] = False,
    score: Annotated[
        bool, typer.Option("--score", help="Write the fair score only.")
    ] = False,
    drop: Annotated[
        list[str] | None, typer.Option(help="Column that is no feature; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    report: Annotated[
        pathlib.Path | None,
        typer.Option(help="Where to write the page; beside OUT if none."),
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Measure on held-out rows, for the page.")
    ] = True,
    force: Force = False,
    encoding: Encoding = "utf-8",
    separator: Separator = None,
    missing: Missing = None,
) -> None:
    """Write a file's rows with steered features, sample weights and a fair score."""
    with loading():
        from jaxsteer.cli import _steer
        from jaxsteer.cli._files import Reading

    _steer.steer(
        file,
        label=label,
        group=group,
        out=out,
        positive=positive,
        reference=reference,
        method=method,
        learner=learner,
        features=features,
        weights=weights,
        score=score,
        drop=drop or (),
        seed=seed,
        report=report,
        check=check,
        force=force,
        reading=Reading(encoding=encoding, separator=separator, missing=missing),
    )


@app.command()
@friendly
def apply(
    maps: Annotated[
        pathlib.Path, typer.Argument(help="The folder that jaxsteer steer wrote.")
    ],
    file: Annotated[pathlib.Path, typer.Argument(help="New rows: CSV or Parquet.")],
    out: Annotated[pathlib.Path, typer.Option(help="Where to write the rows.")],
    seed: Annotated[
        int | None, typer.Option(help="Seed of the randomness; that of steer if none.")
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            help="Write the expected fair score: repeatable, only approximately fair."
        ),
    ] = False,
    force: Force = False,
    encoding: Encoding = "utf-8",
    separator: Separator = None,
    missing: Missing = None,
) -> None:
    """Steer new rows without labels: features and fair score by the fitted maps."""
    with loading():
        from jaxsteer.cli import _apply
        from jaxsteer.cli._files import Reading

    _apply.apply(
        maps,
        file,
        out=out,
        seed=seed,
        deterministic=deterministic,
        force=force,
        reading=Reading(encoding=encoding, separator=separator, missing=missing),
    )


@app.command()
@friendly
def audit(
    file: Rows,
    group: Group,
    label: Annotated[
        str | None,
        typer.Option(help="Column of the true label; none for acceptance rates alone."),
    ] = None,
    prediction: Annotated[
        str | None, typer.Option(help="Column of predicted labels.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(help="Column of scores of the favorable label.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="Scores of at least this are accepted.")
    ] = 0.5,
    positive: Positive = None,
    n_boot: Annotated[int, typer.Option(help="Bootstrap resamples.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Write .json or .html too.")
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with code 5 if this holds, as 'sup_tpr_gap > .1'; repeatable."
        ),
    ] = None,
    force: Force = False,
    encoding: Encoding = "utf-8",
    separator: Separator = None,
    missing: Missing = None,
) -> None:
    """Measure accuracy and gaps between groups, with intervals."""
    with loading():
        from jaxsteer.cli import _audit
        from jaxsteer.cli._files import Reading

    _audit.audit(
        file,
        label=label,
        group=group,
        prediction=prediction,
        score=score,
        threshold=threshold,
        positive=positive,
        n_boot=n_boot,
        seed=seed,
        out=out,
        fail_if=fail_if or (),
        force=force,
        reading=Reading(encoding=encoding, separator=separator, missing=missing),
    )


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
