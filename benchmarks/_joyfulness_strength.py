"""The affirmative program on what comes out: how strongly to steer the other genre.

Here the population is one of outcomes: log odds of joyfulness as the feature, strength as
the class, genre as the group, measured on films that are not tested. The program moves
the less joyful genre to the other's shape, and its ideal class means say how far
each strength should carry it. With responses that grow about evenly with strength, one
factor on the strength brings them there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import jaxsteer as js

LARGEST = 4.0  # a response that is lost in noise would ask for any strength


def strength_factor(
    scores: list[np.ndarray], strengths: np.ndarray, reference: int
) -> tuple[float, dict[str, Any]]:
    """Return the factor on the moved genre's strength, and what led to it.

    Args:
        scores: Log odds ``[S, n]`` of each genre.
        strengths: ``[S]``, the first 0.
        reference: The genre that stays.
    """
    moved = 1 - reference
    s, n = scores[0].shape
    population = js.fit_population(
        np.concatenate([values.ravel() for values in scores]),
        np.tile(np.repeat(np.arange(s), n), 2),
        np.repeat([0, 1], s * n),
    )
    steering = js.nearest_ideal(
        population, reference=reference, differentiate="none"
    ).require()
    measured = np.asarray(population.conditionals.loc)
    ideal = np.asarray(steering.target.conditionals.loc)
    wanted, found = (slope(means[:, moved], strengths) for means in (ideal, measured))
    factor = float(np.clip(wanted / found, 0, LARGEST))
    return factor, {
        "kl": float(steering.kl),
        "scale_of_the_map": float(np.asarray(steering.group_maps.scale)[moved]),
        "slopes_measured": [slope(measured[:, a], strengths) for a in (0, 1)],
        "slope_wanted": wanted,
        "factor": factor,
    }


def slope(means: np.ndarray, strengths: np.ndarray) -> float:
    """Least-squares slope of the gain over strength 0, through the origin."""
    gain = means - means[0]
    return float(gain @ strengths / (strengths @ strengths))
