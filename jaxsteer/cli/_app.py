"""The application: each command's options. What they do is loaded when one is run."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from jaxsteer.cli._errors import friendly
from jaxsteer.cli._shared_options import Force, Json, Quiet
from jaxsteer.cli._signals import loading
from jaxsteer.cli._stream import app as stream

#: The methods of ``steer``; a test holds them to those that exist.
METHODS = (
    "affirmative",
    "all_groups",
    "gaussian_channel",
    "mean_match",
    "mimic",
    "leace",
    "roc_channel",
    "reweigh",
)

#: The base learners of ``steer``; a test holds them to those that exist.
LEARNERS = ("logistic", "boosted")

#: The profiles of ``audit``; a test holds them to those that exist.
PROFILES = ("ll144", "four-fifths", "bias-profile")

Label = Annotated[str, typer.Option(help="Column of the label.")]
Group = Annotated[
    str, typer.Option(help="Sensitive column, or several joined by commas.")
]
Rows = Annotated[pathlib.Path, typer.Argument(help="Rows: CSV or Parquet; - is input.")]
Positive = Annotated[
    str | None, typer.Option(help="Favorable label; the last one if none.")
]
Encoding = Annotated[
    str | None,
    typer.Option(help="Encoding of a text file, such as latin-1; found if none."),
]
Decimal = Annotated[
    str | None,
    typer.Option(help="Decimal mark, . or , ; found in the numbers if none."),
]
Id = Annotated[
    str | None,
    typer.Option("--id", help="Column that names a person: it draws what is random."),
]
Weights = Annotated[
    str | None, typer.Option(help="Column of sampling weights, which is no feature.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse rows whose group is unknown.")
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
    pretty_exceptions_enable=False,
)
app.add_typer(stream)


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
        pathlib.Path,
        typer.Option(help="Where to write the rows (CSV or Parquet); - is output."),
    ],
    positive: Positive = None,
    reference: Annotated[
        str | None, typer.Option(help="Group that stays; the largest if none.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="One of " + ", ".join(METHODS) + ".", autocompletion=lambda: METHODS
        ),
    ] = "affirmative",
    learner: Annotated[
        str,
        typer.Option(
            help="Base learner of the fair score: logistic or boosted.",
            autocompletion=lambda: LEARNERS,
        ),
    ] = "boosted",
    features: Annotated[
        bool, typer.Option("--features", help="Write steered features only.")
    ] = False,
    sample_weights: Annotated[
        bool, typer.Option("--sample-weights", help="Write sample weights only.")
    ] = False,
    score: Annotated[
        bool, typer.Option("--score", help="Write the fair score only.")
    ] = False,
    drop: Annotated[
        list[str] | None, typer.Option(help="Column that is no feature; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    row_id: Id = None,
    weights: Weights = None,
    maps: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder of what was fitted; beside OUT if none."),
    ] = None,
    report: Annotated[
        pathlib.Path | None,
        typer.Option(help="Where to write the page; beside OUT if none."),
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Measure on held-out rows, for the page.")
    ] = True,
    suppress: Annotated[
        int,
        typer.Option(help="Hide cells of fewer rows (such as 10) on the page."),
    ] = 0,
    force: Force = False,
    strict: Strict = False,
    encoding: Encoding = None,
    separator: Separator = None,
    decimal: Decimal = None,
    missing: Missing = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a file's rows with steered features, sample weights and a fair score."""
    with loading():
        from jaxsteer.cli import _steer
        from jaxsteer.cli._console import print_json, speaking
        from jaxsteer.cli._rows import STREAM, Reading

    with speaking(quiet=quiet, as_json=as_json, rows_out=out == STREAM):
        done = _steer.steer(
            file,
            label=label,
            group=group,
            out=out,
            positive=positive,
            reference=reference,
            method=method,
            learner=learner,
            features=features,
            sample_weights=sample_weights,
            score=score,
            drop=drop or (),
            row_id=row_id,
            weights=weights,
            seed=seed,
            maps=maps,
            report=report,
            check=check,
            suppress=suppress,
            force=force,
            strict=strict,
            reading=Reading(
                encoding=encoding,
                separator=separator,
                decimal=decimal,
                missing=missing,
            ),
        )
    if as_json:
        print_json(done)


@app.command()
@friendly
def apply(
    maps: Annotated[
        pathlib.Path, typer.Argument(help="The folder that jaxsteer steer wrote.")
    ],
    file: Rows,
    out: Annotated[
        pathlib.Path, typer.Option(help="Where to write the rows; - is output.")
    ],
    row_id: Id = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the randomness; that of steer if none.")
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            help="Write the score that nothing random enters: only approximately fair."
        ),
    ] = False,
    force: Force = False,
    strict: Strict = False,
    encoding: Encoding = None,
    separator: Separator = None,
    decimal: Decimal = None,
    missing: Missing = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Steer new rows without labels: features and fair score by the fitted maps."""
    with loading():
        from jaxsteer.cli import _apply
        from jaxsteer.cli._console import print_json, speaking
        from jaxsteer.cli._rows import STREAM, Reading

    with speaking(quiet=quiet, as_json=as_json, rows_out=out == STREAM):
        done = _apply.apply(
            maps,
            file,
            out=out,
            row_id=row_id,
            seed=seed,
            deterministic=deterministic,
            force=force,
            strict=strict,
            reading=Reading(
                encoding=encoding,
                separator=separator,
                decimal=decimal,
                missing=missing,
            ),
        )
    if as_json:
        print_json(done)


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
    weights: Weights = None,
    cut: Annotated[
        list[str] | None,
        typer.Option(
            "--bin", help="Cut a group of numbers: age=18,40,65 or age=4; repeatable."
        ),
    ] = None,
    unknown: Annotated[
        list[str] | None,
        typer.Option(help="Text that means an unknown group; repeatable."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="One of " + ", ".join(PROFILES) + ".", autocompletion=lambda: PROFILES
        ),
    ] = None,
    suppress: Annotated[
        int,
        typer.Option(help="Leave out intersections with fewer rows (such as 10)."),
    ] = 0,
    leave_out_small: Annotated[
        bool,
        typer.Option(
            "--leave-out-small", help="No ratio for categories below 2% of the rows."
        ),
    ] = False,
    n_boot: Annotated[int, typer.Option(help="Bootstrap draws of the metrics.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Write .json or .html, with counts and recompute.py beside."),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with code 5 if this holds, as 'sup_tpr_gap > .1'; repeatable."
        ),
    ] = None,
    force: Force = False,
    strict: Strict = False,
    encoding: Encoding = None,
    separator: Separator = None,
    decimal: Decimal = None,
    missing: Missing = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure who is accepted and who is decided rightly, by group, with intervals."""
    with loading():
        from jaxsteer.cli import _audit
        from jaxsteer.cli._console import print_json, speaking
        from jaxsteer.cli._rows import Reading

    question = _audit.Question(
        label=label,
        group=group,
        prediction=prediction,
        score=score,
        threshold=threshold,
        positive=positive,
        weights=weights,
        bins=cut or (),
        unknown=unknown or (),
        suppress=suppress,
        leave_out_small=leave_out_small,
        n_boot=n_boot,
        seed=seed,
        profile=profile,
    )
    with speaking(quiet=quiet, as_json=as_json, rows_out=False):
        document = _audit.audit(
            file,
            question,
            out=out,
            fail_if=fail_if or (),
            force=force,
            strict=strict,
            reading=Reading(
                encoding=encoding,
                separator=separator,
                decimal=decimal,
                missing=missing,
            ),
        )
    if as_json:
        print_json(document)


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
