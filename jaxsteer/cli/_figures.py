"""The pictures of a page, from a comparison and from fitted maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxsteer import plots
from jaxsteer.cli._verified import verification_facts
from jaxsteer.compare import Comparison
from jaxsteer.maps import AffineMap

_CURVES = (
    "raw",
    "reweighing",
    "mimic",
    "leace",
    "steering",
    "gaussian_channel",
    "roc_channel",
    "roc_channel_logistic",
)


def comparison_figures(table: Comparison, learner: str) -> list[tuple[str, Any]]:
    """Return caption and figure of each picture of a comparison."""
    figures = [
        (
            "Accuracy beside the largest gaps over all thresholds, on held-out rows; "
            "lines are 95% bootstrap intervals.",
            plots.comparison_dots(table),
        )
    ]
    rows = {row.method: row for row in table.rows if row.learner == learner}
    shown = {rows[name].title: rows[name].score for name in _CURVES if name in rows}
    label, group = table.label_test, table.group_test
    if shown:
        figures.append(
            (
                "Gap between groups at each threshold on the score, on held-out rows "
                f"({learner}).",
                plots.gap_curves(shown, label, group),
            )
        )
    meet = rows.get("roc_channel") or rows.get("roc_channel_logistic")
    if meet is None:
        return figures
    figures.append(
        (
            "The best that can be done with the scores of each group (left), and what "
            "the fair score reached on held-out rows (right): the groups' curves "
            "should fall on the meet.",
            plots.roc_meet(
                meet.fitted.hulls,
                meet.fitted.roc,
                achieved=(label, meet.score, group),
                group_names=table.group_names,
                achieved_title="held-out rows",
            ),
        )
    )
    if "raw" in rows:
        figures.append(
            (
                "Scores of each group and true class on held-out rows, raw and after "
                "the ROC channel: in a fair score the groups agree within each panel.",
                plots.score_densities(
                    {"raw": rows["raw"].score, "fair score": meet.score},
                    label,
                    group,
                    label_names=table.label_names,
                    group_names=table.group_names,
                ),
            )
        )
    return figures


def maps_figure(
    x: np.ndarray,
    steered: np.ndarray,
    group: np.ndarray,
    *,
    reference: int,
    feature_names: list[str],
    weights: np.ndarray | None = None,
) -> tuple[str, Any] | None:
    """Return the picture of what the maps do, None where the space changes."""
    if steered.shape != x.shape:
        return None
    groups = np.arange(int(group.max()) + 1)
    ones = np.ones(len(x))
    center = _means(x, np.zeros_like(group), 1, ones)
    scale = np.sqrt(_means(x, np.zeros_like(group), 1, ones, center)[0])
    before, after = (
        plots.standardized_differences(
            _means(part, group, len(groups), row_weights),
            groups,
            reference=reference,
            scale=scale,
        )
        for part, row_weights in (
            (x, ones),
            (steered, ones if weights is None else weights),
        )
    )
    caption = (
        "Difference between the groups' means, feature by feature, before steering and "
        "after it" + (" with the sample weights." if weights is not None else ".")
    )
    figure = plots.group_differences(before, after, feature_names=feature_names)
    return caption, figure


def _means(
    x: np.ndarray,
    group: np.ndarray,
    n_groups: int,
    weights: np.ndarray,
    center: Any = None,
) -> np.ndarray:
    """Groups' means ``[G, d]`` of the rows, or of squares about a center, in parts."""
    total, mass = np.zeros((n_groups, x.shape[1])), np.zeros((n_groups, 1))
    for start in range(0, len(x), 100_000):
        some = slice(start, start + 100_000)
        rows = x[some].astype(np.float64)
        if center is not None:
            rows = (rows - center) ** 2
        member = (group[some] == np.arange(n_groups)[:, None]) * weights[some]
        total += member @ rows
        mass += member.sum(1, keepdims=True)
    return total / mass


def solve_facts(
    steering: Any, channel: Any, verification: Any = None
) -> list[tuple[str, str]]:
    """Return name and value of the facts of a fit, and of what was checked anew."""
    facts = []
    if isinstance(steering, AffineMap):
        facts.append(("maps", "affine, from means and covariances of the groups"))
    elif steering is not None:
        from jaxsteer.solvers import Status

        facts += [
            ("status", Status(int(steering.status)).name.lower()),
            ("residual (scale-free)", f"{float(steering.residual):.2e}"),
            ("steps", str(int(steering.steps))),
            ("KL to the ideal population, nats", f"{float(steering.kl):.4f}"),
            ("of which priors", f"{float(steering.prior_kl):.4f}"),
            ("of which features", f"{float(steering.feature_kl):.4f}"),
            *verification_facts(verification),
        ]
    if channel is not None:
        facts += [
            ("ROC channel: values of the fair score", str(len(channel.atom_scores))),
            ("ROC channel: slack (0 is exact in sample)", f"{_slack(channel):.1e}"),
        ]
    return facts


def _slack(channel: Any) -> float:
    return float(np.max(np.asarray(channel.slack)))
