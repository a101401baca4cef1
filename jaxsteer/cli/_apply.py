"""``jaxsteer apply``: the fitted maps on new rows, without labels."""

from __future__ import annotations

import pathlib

import numpy as np

from jaxsteer.cli._console import collected_warnings, print_warnings, say
from jaxsteer.cli._files import (
    Reading,
    check_ending,
    check_outputs,
    fitted_paths,
    group_codes,
    load_fitted,
    with_columns,
    write_rows,
)
from jaxsteer.cli._fit import base_scores, fair_scores, steer_features, steered_names


def apply(
    maps: pathlib.Path,
    file: pathlib.Path,
    *,
    out: pathlib.Path,
    seed: int | None,
    deterministic: bool,
    force: bool,
    reading: Reading,
) -> None:
    """Run ``jaxsteer apply``."""
    check_ending(out)
    check_outputs([out], [file, *fitted_paths(maps)], force=force)
    fitted = load_fitted(maps)
    names = fitted.metadata
    seed = int(names["seed"] if seed is None else seed)
    with collected_warnings() as notes:
        source = reading.read(file)
        frame = source.frame
        group = group_codes(frame, names["group_columns"], names["group_names"])
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
    write_rows(out, with_columns(source.written, columns))
    print_warnings(notes)
    say(
        f"{len(frame):,} rows and {len(columns)} new columns written to {out}",
        markup=False,
    )
    if deterministic and fitted.channel is not None:
        say("fair_score_approximate is the expected score: only approximately fair.")
