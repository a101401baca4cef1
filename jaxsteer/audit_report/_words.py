"""The profiles of readers, and what the figures say in plain words, and do not say."""

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


#: By name: heading, what the page says first, and what the auditor must still write.
PROFILES: dict[str, dict[str, Any]] = {
    "ll144": {
        "title": "Bias audit after New York City's Local Law 144",
        "measures": ("selection_rate", "scoring_rate"),
        "about": "The rules of the city (6 RCNY 5-300 to 5-304) ask for the number of "
        "people, the selection rate or the scoring rate (the share that scores above the "
        "median), and the impact ratio, by sex, by race or ethnicity and by their "
        "intersections; for the number of people of unknown category; and, where a "
        "category with less than 2% of the data is left out of the ratios, for the "
        "reason, its number and its rate. The audit must be made by somebody "
        "independent, within a year before the tool is used.",
        "to_write": (
            "date of the audit, and who made it",
            "source and explanation of the data (historical, or why test data)",
            "date on which the tool was first used",
            "why categories below 2% were left out, if they were",
        ),
    },
    "four-fifths": {
        "title": "Selection rates and the four-fifths rule",
        "measures": ("selection_rate",),
        "about": "The guidelines of the United States (29 CFR 1607.4 D) take a ratio "
        "below four fifths for evidence of adverse impact, and say that smaller "
        "differences may count and larger ones may not, where numbers are small or the "
        "difference is not significant. A ratio above .8 is no proof of fairness: it "
        "depends on which of the two decisions is counted, and says nothing about "
        "errors. Ratio, interval, test and numbers stand side by side for that reason, "
        "and none of it is a verdict of law.",
        "to_write": (
            "what is selected, by whom, and from which pool of people",
            "why the pool is the right one to compare with",
        ),
    },
    "bias-profile": {
        "title": "Bias profile",
        "measures": ("selection_rate", "scoring_rate", "tpr", "fpr", "accuracy"),
        "about": "A bias profile after the draft European standard prEN 18283: from "
        "groups to hazards to measures to evidence to a decision. Groups, measures and "
        "evidence are below; hazards and the decision are for the people who answer for "
        "the system.",
        "to_write": (
            "hazards: which harm a wrong or unequal decision does, to which group",
            "measures: which of the figures below stands for which hazard, and its limit",
            "decision: what was accepted, changed or refused, by whom and when",
            "legal basis for the use of the sensitive columns, and when they are deleted",
        ),
    },
}
