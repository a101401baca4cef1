"""Curves, intervals over pairs of films, the table and the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from _joyfulness_asked import asked_table, equal_table

from jaxsteer.plots import figure_bytes

RESAMPLES = 2000


class Curve:
    """An arm: what was measured, by seed of the tokens, strength and film.

    Args:
        points: ``points[r][s]`` is what was measured with a seed at a strength.
    """

    def __init__(self, points: list[list[Any]]):
        self.points = points

    def _stacked(self, name: str) -> np.ndarray:
        return np.array([[getattr(p, name) for p in row] for row in self.points])

    @property
    def score(self) -> np.ndarray:
        """Log odds of being joyful ``[R, S, n]``."""
        return self._stacked("score")

    @property
    def surprise(self) -> np.ndarray:
        """Negative log-likelihood a token after the plain request, without steering."""
        return self._stacked("surprise")

    @property
    def own_surprise(self) -> np.ndarray:
        """The same after the request that was made."""
        return self._stacked("own_surprise")

    @property
    def distinct(self) -> np.ndarray:
        """Share of distinct pairs of tokens."""
        return self._stacked("distinct")

    @property
    def joy(self) -> np.ndarray:
        """Probabilities of being joyful."""
        return 1 / (1 + np.exp(-self.score))

    def level(self, usable: int) -> float:
        """Mean joyfulness over the usable strengths after 0."""
        return float(self.joy[:, 1 : usable + 1].mean())


class Resamples:
    """Bootstrap samples of films and of seeds, each drawn by itself.

    Every film with all its seeds and every seed with all its films: what they share is
    not counted as news (the pigeonhole bootstrap, Owen 2007). The first is the sample
    itself. The genres share heroes, and the seeds their noise, so that one draw serves
    all arms.
    """

    def __init__(self, seeds: int, films: int, count: int = RESAMPLES):
        rng = np.random.default_rng(0)
        self._seeds, self._films = (
            np.concatenate([np.ones((1, n)), rng.multinomial(n, [1 / n] * n, count)])
            / n
            for n in (seeds, films)
        )

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Means ``[B, S]`` of ``[R, S, n]``."""
        by_seed = np.einsum("bn,rsn->brs", self._films, values)
        return np.einsum("br,brs->bs", self._seeds, by_seed)


def with_interval(values: np.ndarray) -> list[float]:
    """A figure and its 95% interval from the sample and its resamples."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return [float(values[0]), float(low), float(high)]


def summary(
    curves: dict[str, Curve],
    strengths: np.ndarray,
    usable: int,
    reference: str,
    moved: str,
) -> dict[str, Any]:
    """Figures of every arm with intervals, and its gaps to the reference.

    A gain is joyfulness less that of the same arm at strength 0, a response its mean
    over the usable strengths; gaps are the reference's figure less the arm's.
    """
    base = curves[reference]
    seeds, _, n = base.score.shape
    draw, used = Resamples(seeds, n), slice(1, usable + 1)

    def gain(values: np.ndarray) -> np.ndarray:
        mean = draw.mean(values)
        return mean - mean[:, :1]

    arms: dict[str, Any] = {}
    for name, curve in curves.items():
        measured = {
            "joyfulness": draw.mean(curve.joy),
            "gain": gain(curve.joy),
            "log_odds": draw.mean(curve.score),
            "perplexity": np.exp(draw.mean(curve.surprise)),
            "distinct_pairs": draw.mean(curve.distinct),
        }
        level = draw.mean(base.joy - curve.joy)
        gap = gain(base.joy) - gain(curve.joy)
        odds_gap = gain(base.score) - gain(curve.score)
        arms[name] = {
            "response": with_interval(gain(curve.joy)[:, used].mean(1)),
            "response_gap": with_interval(gap[:, used].mean(1)),
            "response_gap_in_log_odds": with_interval(odds_gap[:, used].mean(1)),
            "largest_response_gap": float(np.abs(gap[0, used]).max()),
            "level_gap_at_0": with_interval(level[:, 0]),
            "level_gap": with_interval(level[:, used].mean(1)),
            "points": [
                {"strength": float(s)}
                | {key: with_interval(v[:, j]) for key, v in measured.items()}
                for j, s in enumerate(strengths)
            ],
        }
    # How much of the gap between the genres' responses an arm closes.
    whole = gain(base.joy) - gain(curves[moved].joy)
    for name in arms:
        if name not in (reference, moved):
            closed = gain(curves[name].joy) - gain(curves[moved].joy)
            arms[name]["closed"] = with_interval(closed[:, used].mean(1))
    return {"arms": arms, "gap_before": with_interval(whole[:, used].mean(1))}


def shown(figure: list[float], digits: int = 3) -> str:
    """A figure with its interval, as text."""
    value, low, high = (f"{part:.{digits}f}" for part in figure)
    return f"{value} [{low}, {high}]"


def table(report: dict[str, Any]) -> str:
    """The figures as Markdown."""
    sizes, auc = report["sizes"], report["probe"]["auc"]
    lines = [
        f"{sizes['tested']} films of each genre, {sizes['steps']} tokens a review, "
        f"{sizes['seeds']} seeds of the tokens; the probe's AUC on comments held out is "
        f"{auc:.3f}. In brackets 95% intervals (bootstrap over films and seeds, for one "
        "fit of the vectors).",
        "",
        "| arm | strength | joyfulness | gain | perplexity | distinct pairs |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, arm in report["arms"].items():
        for point in arm["points"]:
            cells = [
                f"{point['strength']:.3g}",
                shown(point["joyfulness"]),
                shown(point["gain"]),
                shown(point["perplexity"], 2),
                f"{point['distinct_pairs'][0]:.3f}",
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    top = report["strengths"][report["usable_strengths"]]
    lines += [
        "",
        "Gain: joyfulness less that of the same arm at strength 0. Response: the gain "
        f"averaged over the strengths above 0 and up to {top:g}. Gaps: that of "
        f"{report['reference']} less the arm's; level gap: of joyfulness, averaged over "
        "the same strengths.",
        "",
        "| arm | response | response gap | the same in log odds | level gap at 0 | "
        "level gap |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    keys = (
        "response",
        "response_gap",
        "response_gap_in_log_odds",
        "level_gap_at_0",
        "level_gap",
    )
    for name, arm in report["arms"].items():
        lines.append(
            f"| {name} | " + " | ".join(shown(arm[key]) for key in keys) + " |"
        )
    return "\n".join(lines) + "\n" + asked_table(report) + equal_table(report)


def examples(
    curves: dict[str, Curve], strengths: tuple[float, ...], film: int = 1
) -> str:
    """What was said of one pair of films, by arm and strength."""
    lines = ["", "The second pair of films:", ""]
    for name, curve in curves.items():
        for strength, point in zip(strengths, curve.points[0], strict=True):
            text = " ".join(point.texts[film].split())
            lines.append(f"- {name}, {strength:g}: {text}")
    return "\n".join(lines) + "\n"


def picture(report: dict[str, Any]) -> bytes:
    """Joyfulness, its gain and the perplexity against strength, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 9), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    colors = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
    for color, (name, arm) in zip(colors, report["arms"].items(), strict=True):
        before = "," not in name
        x = [point["strength"] for point in arm["points"]]
        for ax, key in zip(axes, ("joyfulness", "gain", "perplexity"), strict=True):
            y = np.array([point[key] for point in arm["points"]])
            ax.plot(
                x, y[:, 0], "-o" if before else "--s", color=color, label=name, ms=4
            )
            ax.fill_between(x, y[:, 1], y[:, 2], color=color, alpha=0.12, linewidth=0)
    for color, figures in zip(colors, report["asked"].values(), strict=False):
        for ax, key in ((axes[0], "joyfulness"), (axes[2], "perplexity")):
            ax.axhline(figures["asked"][key][0], color=color, ls="-.", lw=0.8)
    titles = ("joyfulness", "gain over strength 0", "perplexity, unsteered model")
    for ax, title in zip(axes, titles, strict=True):
        top = report["strengths"][report["usable_strengths"]]
        ax.axvline(top, color="#bbbbbb", ls=":")
        ax.set_ylabel(title)
    axes[2].set_yscale("log")
    ticks = (5, 7, 10, 15, 20, 30, 50)
    axes[2].set_yticks(ticks, [str(tick) for tick in ticks])
    axes[2].minorticks_off()
    axes[2].set_xlabel(
        "strength (right of the dotted line the text suffers); horizontal: asked in words"
    )
    axes[0].legend(fontsize=8)
    axes[0].set_title("Joyfulness of reviews of comedy and horror films")
    return figure_bytes(figure)
