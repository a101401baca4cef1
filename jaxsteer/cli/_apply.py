"""``jaxsteer apply``: the fitted maps on new rows, without labels."""

from __future__ import annotations

import pathlib
from typing import Annotated

import numpy as np
import typer

from jaxsteer.cli._console import (
    collected_warnings,
    console,
    friendly,
    print_warnings,
)
from jaxsteer.cli._files import (
    check_ending,
    group_codes,
    load_fitted,
    with_columns,
    write_rows,
)
from jaxsteer.cli._fit import base_scores, fair_scores, steer_features, steered_names
from jaxsteer.datasets import read_table


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
) -> None:
    """Steer new rows without labels: features and fair score by the fitted maps."""
    check_ending(out)
    fitted = load_fitted(maps)
    frame = read_table(file)
    names = fitted.metadata
    group = group_codes(frame, names["group_columns"], names["group_names"])
    seed = int(names["seed"] if seed is None else seed)
    with collected_warnings() as notes:
        x = np.asarray(fitted.encoder.transform(frame))
        columns: dict[str, np.ndarray] = {}
        if fitted.steering is not None:
            steered = steer_features(fitted.steering, x, group, seed=seed)
            titles = steered_names(steered.shape[1], names["feature_names"])
            columns |= dict(zip(titles, steered.T, strict=True))
        if fitted.channel is not None:
            title = "fair_score_approximate" if deterministic else "fair_score"
            columns[title] = fair_scores(
                fitted.channel,
                base_scores(fitted.learner, x),
                group,
                seed=seed,
                deterministic=deterministic,
            )
    if not columns:
        raise ValueError(
            f"{maps} holds neither maps of features nor a fair score (sample weights "
            "need labels and cannot be applied to new rows)."
        )
    write_rows(out, with_columns(frame, columns))
    print_warnings(notes)
    console().print(
        f"{len(frame):,} rows and {len(columns)} new columns written to {out}",
        markup=False,
    )
    if deterministic and fitted.channel is not None:
        console().print(
            "fair_score_approximate is the expected score: only approximately fair."
        )
