"""The table: one row a method and learner, with intervals."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsteer._repr import html_table, text_table
from jaxsteer.audit.metrics import ChanceLevel, Interval

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the table: key, heading, whether more is better.
COLUMNS: dict[str, tuple[str, bool]] = {
    "accuracy": ("accuracy", True),
    "balanced_accuracy": ("balanced accuracy", True),
    "auc": ("AUC", True),
    "eo_gap": ("EO gap at .5", False),
    "sup_tpr_gap": ("sup TPR gap", False),
    "sup_fpr_gap": ("sup FPR gap", False),
    "sup_dp_gap": ("sup DP gap", False),
}

CHANCE_FOOTNOTE = (
    "After a slash: the gap by chance, the mean over shuffles of the groups within each "
    "label (in brackets what 95% of them stay below). No method can be asked for less."
)

DECISION_FOOTNOTE = (
    "* Gives one decision, no score: the gaps are those of this decision at its own "
    "threshold, not the largest over all thresholds, and there is no AUC."
)


@dataclasses.dataclass(frozen=True, repr=False)
class Row:
    """One method with one learner.

    Attributes:
        method: Key of the method.
        title: Its name for readers.
        learner: Key of the downstream learner.
        metrics: Interval by column key; a missing key is a blank.
        decision_only: True where the gaps are those of one decision.
        note: What a reader should know.
        seconds: Time to fit, train and score.
        score: Scores (or decisions) of the test rows, ``[n_test]``.
        fitted: The maps or the channel of the method, None where there are none.
        chance: Level by column key of the gaps under shuffled groups; may be empty.
    """

    method: str
    title: str
    learner: str
    metrics: dict[str, Interval]
    decision_only: bool
    note: str
    seconds: float
    score: np.ndarray
    fitted: Any = None
    chance: dict[str, ChanceLevel] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        """One line: who, and the figures."""
        figures = ", ".join(
            f"{COLUMNS[key][0]} {format_interval(interval, intervals=False)}"
            for key, interval in self.metrics.items()
            if key in COLUMNS
        )
        return f"Row({self.title} / {self.learner}: {figures})"


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """The rows of a comparison, and what they were measured on.

    Attributes:
        rows: In the order in which they ran.
        label_test: Class codes of the test rows, ``[n_test]``.
        group_test: Group codes of the test rows, ``[n_test]``.
        label_names: Names of the two classes.
        group_names: Names of the groups.
        n_train: Number of training rows.
        seed: Seed of the folds, channels and resamples.
        notes: What was left out, and why.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> label, group = rng.integers(0, 2, (2, 400))
        >>> x = rng.normal(size=(400, 2)) + label[:, None]
        >>> halves = [part[i::2] for i in (0, 1) for part in (x, label, group)]
        >>> from jaxsteer.compare import Split, compare
        >>> found = compare(
        ...     Split(*halves), learners=["logistic"], methods=["raw"], n_boot=20
        ... )
        >>> [row.method for row in found.rows]
        ['raw']
    """

    rows: tuple[Row, ...]
    label_test: np.ndarray
    group_test: np.ndarray
    label_names: tuple[object, ...]
    group_names: tuple[object, ...]
    n_train: int
    seed: int
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line: how many rows, measured on what."""
        return (
            f"Comparison({len(self.rows)} rows of {', '.join(self.learners)}; "
            f"{self.n_train:,} training and {len(self.label_test):,} test rows, groups "
            f"{', '.join(map(str, self.group_names)) or 'without names'}, seed "
            f"{self.seed})"
        )

    def __str__(self) -> str:
        """The same line and the figures, without intervals."""
        return f"{self!r}\n{text_table(self._cells(), self._headings())}"

    def _repr_html_(self) -> str:
        return html_table(self._cells(), self._headings(), caption=repr(self))

    def _headings(self) -> list[str]:
        return ["learner", "method", *(heading for heading, _ in COLUMNS.values())]

    def _cells(self) -> list[list[str]]:
        return [
            [row.learner, row.title + ("*" if row.decision_only else "")]
            + [
                format_interval(row.metrics.get(key), intervals=False)
                for key in COLUMNS
            ]
            for row in self.rows
        ]

    def row(self, method: str, learner: str) -> Row:
        """Return one row.

        Raises:
            ValueError: If there is no such row.
        """
        for row in self.rows:
            if (row.method, row.learner) == (method, learner):
                return row
        have = ", ".join(f"{r.method}/{r.learner}" for r in self.rows)
        raise ValueError(f"There is no row {method}/{learner}; the rows are {have}.")

    @property
    def learners(self) -> tuple[str, ...]:
        """The downstream learners, in order."""
        return tuple(dict.fromkeys(row.learner for row in self.rows))

    @property
    def footnotes(self) -> tuple[str, ...]:
        """Everything that must stand under the table."""
        mark = (DECISION_FOOTNOTE,) if any(r.decision_only for r in self.rows) else ()
        chance = (CHANCE_FOOTNOTE,) if any(r.chance for r in self.rows) else ()
        return chance + mark + self.notes

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with value, low and high of each column."""
        import pandas as pd

        records = []
        for row in self.rows:
            record: dict[str, Any] = {"learner": row.learner, "method": row.method}
            for key in COLUMNS:
                interval = row.metrics.get(key)
                for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
                    value = getattr(interval, part) if interval is not None else np.nan
                    record[key + suffix] = float(value)
                if key in row.chance:
                    record[key + "_chance"] = float(row.chance[key].mean)
                    record[key + "_chance_high"] = float(row.chance[key].high)
            records.append(record | {"seconds": row.seconds})
        return pd.DataFrame(records)

    def to_markdown(self, *, intervals: bool = True) -> str:
        """Return one table for each learner, in Markdown."""
        lines: list[str] = []
        headings = [heading for heading, _ in COLUMNS.values()]
        for learner in self.learners:
            lines += ["", f"**{learner_title(learner)}**", ""] if lines else []
            if not lines:
                lines = [f"**{learner_title(learner)}**", ""]
            lines.append("| method | " + " | ".join(headings) + " |")
            lines.append("| --- |" + " ---: |" * len(headings))
            for row in self.rows:
                if row.learner == learner:
                    cells = [
                        format_interval(row.metrics.get(key), intervals=intervals)
                        + format_chance(row.chance.get(key), intervals=intervals)
                        for key in COLUMNS
                    ]
                    mark = "*" if row.decision_only else ""
                    lines.append(f"| {row.title}{mark} | " + " | ".join(cells) + " |")
        notes = [line for note in self.footnotes for line in ("", note)]
        return "\n".join(lines + notes) + "\n"

    def to_json(self) -> str:
        """Return the rows without their scores, as JSON."""
        rows = [
            {
                "method": row.method,
                "title": row.title,
                "learner": row.learner,
                "metrics": {
                    key: interval_record(interval)
                    for key, interval in row.metrics.items()
                },
                "chance": {
                    key: {"mean": float(level.mean), "high": float(level.high)}
                    for key, level in row.chance.items()
                },
                "decision_only": row.decision_only,
                "note": row.note,
                "seconds": round(row.seconds, 3),
            }
            for row in self.rows
        ]
        summary = {
            "rows": rows,
            "n_train": self.n_train,
            "n_test": len(self.label_test),
            "label_names": [str(name) for name in self.label_names],
            "group_names": [str(name) for name in self.group_names],
            "seed": self.seed,
            "notes": list(self.footnotes),
        }
        return json.dumps(summary, indent=1)


def learner_title(learner: str) -> str:
    """Return the learner's name for readers."""
    from jaxsteer.compare._learners import LEARNERS

    return LEARNERS[learner].title if learner in LEARNERS else learner


def interval_record(interval: Interval) -> dict[str, float | int]:
    """Return an interval as plain numbers."""
    return {
        "value": float(interval.value),
        "low": float(interval.low),
        "high": float(interval.high),
        "standard_error": float(interval.standard_error),
        "smallest_cell": int(interval.smallest_cell),
    }


def format_interval(interval: Interval | None, *, intervals: bool = True) -> str:
    """Return ``.853 [.847, .858]``, or nothing for a blank."""
    if interval is None:
        return ""
    text = _short(interval.value)
    if intervals:
        text += f" [{_short(interval.low)}, {_short(interval.high)}]"
    return text


def format_chance(level: ChanceLevel | None, *, intervals: bool = True) -> str:
    """Return `` / .039 (.061)``, or nothing where there is none."""
    if level is None:
        return ""
    return f" / {_short(level.mean)}" + (
        f" ({_short(level.high)})" if intervals else ""
    )


def _short(value: Any) -> str:
    text = f"{float(value):.3f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
