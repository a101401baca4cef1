"""What particular audits ask for, and what of it only people can answer."""

from __future__ import annotations

from typing import Any

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
