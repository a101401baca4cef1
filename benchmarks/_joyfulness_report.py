"""Curves, intervals over pairs of films, the table and the picture."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxsteer.plots import figure_bytes

RESAMPLES = 2000


class Curve(NamedTuple):
    """An arm: what was measured, ``[S, n]`` by strength and film.

    Attributes:
        score: Log odds of being joyful.
        surprise: Negative log-likelihood a token under the model as it is, nats.
        distinct: Share of distinct pairs of tokens.
        texts: What was said.
    """

    score: np.ndarray
    surprise: np.ndarray
    distinct: np.ndarray
    texts: list[list[str]]

    @property
    def joy(self) -> np.ndarray:
        """Probabilities of being joyful."""
        return 1 / (1 + np.exp(-self.score))

    def level(self, usable: int) -> float:
        """Mean joyfulness over the usable strengths after 0."""
        return float(self.joy[1 : usable + 1].mean())


def resamples(n: int, count: int = RESAMPLES) -> np.ndarray:
    """Weights ``[R, n]`` of bootstrap samples; the first is the sample itself."""
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), count)
    return np.concatenate([np.ones((1, n)), draws]) / n


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

    Films are drawn again in pairs, as the two genres share heroes. A gain is joyfulness
    less that of the same arm at strength 0, a response its mean over the usable
    strengths; gaps are the reference's figure less the arm's.
    """
    weights = resamples(curves[reference].score.shape[1])
    used = slice(1, usable + 1)

    def gain(values: np.ndarray) -> np.ndarray:
        mean = weights @ values.T
        return mean - mean[:, :1]

    base = curves[reference]
    arms: dict[str, Any] = {}
    for name, curve in curves.items():
        measured = {
            "joyfulness": weights @ curve.joy.T,
            "gain": gain(curve.joy),
            "log_odds": weights @ curve.score.T,
            "perplexity": np.exp(weights @ curve.surprise.T),
            "distinct_pairs": weights @ curve.distinct.T,
        }
        level = weights @ (base.joy - curve.joy).T
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
        f"{sizes['tested']} films of each genre, {sizes['steps']} tokens a review; the "
        f"probe's AUC on comments held out is {auc:.3f}.",
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
        "the same strengths. In brackets 95% intervals (bootstrap over pairs of films, for "
        "one fit of the vectors and one seed of the tokens).",
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
    return "\n".join(lines) + "\n"


def examples(
    curves: dict[str, Curve], strengths: tuple[float, ...], film: int = 1
) -> str:
    """What was said of one pair of films, by arm and strength."""
    lines = ["", "The second pair of films:", ""]
    for name, curve in curves.items():
        for strength, texts in zip(strengths, curve.texts, strict=True):
            lines.append(f"- {name}, {strength:g}: {' '.join(texts[film].split())}")
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
    titles = ("joyfulness", "gain over strength 0", "perplexity, unsteered model")
    for ax, title in zip(axes, titles, strict=True):
        top = report["strengths"][report["usable_strengths"]]
        ax.axvline(top, color="#bbbbbb", ls=":")
        ax.set_ylabel(title)
    axes[2].set_yscale("log")
    ticks = (5, 7, 10, 15, 20, 30, 50)
    axes[2].set_yticks(ticks, [str(tick) for tick in ticks])
    axes[2].minorticks_off()
    axes[2].set_xlabel("strength (right of the dotted line the text suffers)")
    axes[0].legend(fontsize=8)
    axes[0].set_title("Joyfulness of reviews of comedy and horror films")
    return figure_bytes(figure)
