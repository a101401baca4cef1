"""Steering against asking in words, and how equally either serves two genres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsteer.audit import steerability

if TYPE_CHECKING:
    from _joyfulness_report import Curve

GENRES = 2  # of a comparison


def against_asking(
    curve: Curve, asked: Curve, strengths: np.ndarray, usable: int
) -> dict[str, Any]:
    """One genre: as it is, asked in words, steered, and steered as far as asking goes.

    The strength at which steering is as joyful as asking, and the perplexity there, are
    read off the curve's straight pieces, in every resample; where a resample's curve does
    not get there within the strengths measured, at the last of them.
    """
    from _joyfulness_report import Resamples, with_interval

    seeds, _, n = curve.score.shape
    draw = Resamples(seeds, n)
    joy, nll = draw.mean(curve.joy), draw.mean(curve.surprise)
    wanted, cost = draw.mean(asked.joy), draw.mean(asked.surprise)
    rising = np.maximum.accumulate(joy, 1)
    found = np.array(
        [
            np.interp(w, row, strengths)
            for w, row in zip(wanted[:, 0], rising, strict=True)
        ]
    )
    there = np.array(
        [np.interp(s, strengths, row) for s, row in zip(found, nll, strict=True)]
    )
    return {
        "plain": {
            "joyfulness": with_interval(joy[:, 0]),
            "perplexity": with_interval(np.exp(nll[:, 0])),
        },
        "asked": {
            "joyfulness": with_interval(wanted[:, 0]),
            "perplexity": with_interval(np.exp(cost[:, 0])),
            "perplexity_of_its_own_request": with_interval(
                np.exp(draw.mean(asked.own_surprise)[:, 0])
            ),
        },
        "steered": {
            "strength": float(strengths[usable]),
            "joyfulness": with_interval(joy[:, usable]),
            "perplexity": with_interval(np.exp(nll[:, usable])),
        },
        "steered_as_far": {
            "strength": with_interval(found),
            "joyfulness": with_interval(np.minimum(wanted[:, 0], joy.max(1))),
            "perplexity": with_interval(np.exp(there)),
            "resamples_that_get_there": float(np.mean(wanted[:, 0] <= joy.max(1))),
        },
    }


def equal(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> dict[str, Any]:
    """Compare a second genre with a first: effects, wrong ways and costs ``[R, n]``."""
    effect, cost = (np.concatenate(pair, 1) for pair in zip(first, second, strict=True))
    group = np.repeat([0, 1], [first[0].shape[1], second[0].shape[1]])
    found = steerability(effect, cost, group, key=jax.random.key(0))

    def shown(name: str, place: int) -> list[float]:
        figure = getattr(found, name)
        return [
            float(getattr(figure, part)[place]) for part in ("value", "low", "high")
        ]

    return {
        name: {
            "groups": [shown(name, a) for a in range(GENRES)],
            "difference": shown(f"{name}_difference", 1),
        }
        for name in ("effect", "wrong", "cost")
    }


def moved(
    curve: Curve, place: int, start: Curve | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What a strength added to the joyfulness and to the surprise ``[R, n]``."""
    start = curve if start is None else start
    effect = curve.joy[:, place] - start.joy[:, 0]
    return effect, curve.surprise[:, place] - start.surprise[:, 0]


def asked_table(report: dict[str, Any]) -> str:
    """Steering against asking, as Markdown."""
    from _joyfulness_report import shown

    lines = [
        "",
        f'Against asking in words ("{report["manner"]}"). Perplexity: of the unsteered '
        "model after the plain request; of asking after its own request in parentheses. "
        "The last line of a genre is steering at the strength where it is as joyful as "
        "asking, between the strengths measured.",
        "",
        "| genre | way | strength | joyfulness | perplexity |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for genre, ways in report["asked"].items():
        own = shown(ways["asked"]["perplexity_of_its_own_request"], 2)
        reached = ways["steered_as_far"]["resamples_that_get_there"]
        rows = [
            ("as it is", "0", ways["plain"], ""),
            ("asked in words", "0", ways["asked"], f" ({own})"),
            ("steered", f"{ways['steered']['strength']:g}", ways["steered"], ""),
            (
                f"steered as far ({reached:.0%} of resamples get there)",
                shown(ways["steered_as_far"]["strength"]),
                ways["steered_as_far"],
                "",
            ),
        ]
        for way, strength, figures, note in rows:
            joy, cost = shown(figures["joyfulness"]), shown(figures["perplexity"], 2)
            lines.append(f"| {genre} | {way} | {strength} | {joy} | {cost}{note} |")
    return "\n".join(lines) + "\n"


def equal_table(report: dict[str, Any]) -> str:
    """Equal steerability, as Markdown."""
    from _joyfulness_report import shown

    stay, move = report["reference"], report["moved"]
    lines = [
        "",
        f"Equal steerability (`jaxsteer.audit.steerability`): {move} less {stay}, at "
        f"strength {report['strengths'][report['usable_strengths']]:g}. Effect: the rise "
        "of the joyfulness of a film's review; wrong: share of the reviews that it "
        "lowered; cost: the rise of the surprise, nats a token. Chance: the difference "
        "is 0 where the genres are served alike.",
        "",
        "| what is done | effect | of which wrong | cost |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, figures in report["equal"].items():
        cells = [shown(figures[k]["difference"]) for k in ("effect", "wrong", "cost")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
