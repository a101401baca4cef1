"""What the figures say, in plain words, with what they do not say."""

from __future__ import annotations

from typing import Any

#: What a rate is a rate of, and whether a lower one is worse for the group.
_MEANINGS = {
    "selection_rate": ("accepted", True),
    "scoring_rate": ("scored above the median of all", True),
    "tpr": ("accepted among those whose label is the favorable one", True),
    "fpr": ("accepted among those whose label is not the favorable one", None),
    "accuracy": ("decided rightly", True),
}

TITLES = {
    "selection_rate": "Selection rate: accepted",
    "scoring_rate": "Scoring rate: score above the median of all rows",
    "tpr": "True-positive rate: accepted where the label is favorable",
    "fpr": "False-positive rate: accepted where the label is not favorable",
    "accuracy": "Accuracy: decided rightly",
}


def in_words(measures: dict[str, Any]) -> list[str]:
    """Say for each measure and set of groups who is worse off, by how much, and if so.

    Each sentence is written into its set, under ``words``, too.

    Args:
        measures: What :func:`audit_counts` found.
    """
    for name, measure in measures.items():
        for found in measure["sets"]:
            found["words"] = _sentence(name, found)
    sets = [found for measure in measures.values() for found in measure["sets"]]
    return [found["words"] for found in sets if found["words"]]


def _sentence(name: str, found: dict[str, Any]) -> str:
    rows = {row["group"]: row for row in found["rows"]}
    if "highest" not in found or found["highest"] == found["lowest"]:
        return ""
    low, high = rows[found["lowest"]], rows[found["highest"]]
    meaning, lower_is_worse = _MEANINGS[name]
    by = " and ".join(found["columns"])
    text = (
        f"By {by}: {low['group']} are {meaning} least often, {_percent(low['rate'])} of "
        f"{low['n']:,}; {high['group']} most often, {_percent(high['rate'])} of "
        f"{high['n']:,}. The difference is {_points(-low['difference'])} "
        f"({_plain(-low['difference_high'])} to {_points(-low['difference_low'])})"
    )
    if low.get("ratio") is not None:
        text += f", the ratio {low['ratio']:.2f}"
    chance = (
        f"Groups of these sizes differ by {_points(found['range_by_chance'])} by chance "
        "alone, where nobody is treated differently"
    )
    if low["beyond_chance"]:
        who = f"{low['group']} are worse off here" if lower_is_worse else ""
        who = who or "which of the two that harms depends on what acceptance brings"
        return f"{text}. {chance}: this is more than chance, and {who}."
    return (
        f"{text}. {chance}, so these rows do not show that {low['group']} are "
        f"{'worse off' if lower_is_worse else 'treated differently'}. Nor do they show "
        "the contrary: a difference below "
        f"{_points(low['smallest_difference'])} would often be missed."
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}%"


def _plain(difference: float) -> str:
    return f"{100 * difference:.1f}"


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} points"
