"""The document of an audit: JSON, counts and page, of one content."""

from __future__ import annotations

import csv
import hashlib
import importlib.resources
import io
from collections.abc import Mapping, Sequence
from typing import Any

from jaxsteer.audit_report._cells import Cells
from jaxsteer.audit_report._measures import SMALL_SHARE, measure_rates
from jaxsteer.audit_report._metrics import measure_table
from jaxsteer.audit_report._words import PROFILES, TITLES, in_words
from jaxsteer.report import page_style, page_template, versions

DRAWS = 500


def audit_counts(
    cells: Cells,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    n_boot: int = 200,
    leave_out_small: bool = False,
) -> dict[str, Any]:
    """Return every figure that the counts and the seed determine.

    Args:
        cells: The counts.
        seed: Seed of the draws.
        draws: Draws for the simultaneous intervals of the rates.
        n_boot: Draws for the intervals of the metrics of the whole table.
        leave_out_small: Whether categories below 2% have no ratio.

    Returns:
        ``measures`` by name, each with the groups' rates, and ``metrics`` by name.
    """
    return {
        "measures": measure_rates(
            cells, seed=seed, draws=draws, leave_out_small=leave_out_small
        ),
        "metrics": measure_table(cells, seed=seed + 1, draws=n_boot),
    }


def audit_document(
    cells: Cells,
    *,
    data: Mapping[str, Any],
    options: Mapping[str, Any],
    notes: Sequence[str] = (),
    profile: str | None = None,
) -> dict[str, Any]:
    """Return the whole document, which is plain JSON.

    Args:
        cells: The counts.
        data: What was read: ``file``, ``sha256``, ``rows``, ``rows_counted``, and of
            those left out ``unknown`` and ``excluded``.
        options: How: at least ``seed``, ``draws``, ``n_boot`` and ``leave_out_small``.
        notes: What a reader should know.
        profile: A key of `PROFILES`, or None for every measure.

    Returns:
        The document.

    Raises:
        ValueError: If `profile` is none of `PROFILES`, or asks for what was not counted.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.audit_report import count_rows
        >>> sex = ("sex", np.arange(200) % 2, ("f", "m"))
        >>> said = np.arange(200) % 3 % 2
        >>> cells = count_rows([sex], prediction=said, label_names=("no", "yes"))
        >>> options = {"seed": 0, "draws": 20, "n_boot": 20, "leave_out_small": False}
        >>> data = {"file": "rows.csv", "sha256": "", "rows": 200}
        >>> data |= {"rows_counted": 200, "unknown": {}, "excluded": {}}
        >>> document = audit_document(cells, data=data, options=options)
        >>> document["data"]["rows"]
        200
    """
    found = audit_counts(
        cells,
        **{name: options[name] for name in ("seed", "draws", "n_boot")},
        leave_out_small=options["leave_out_small"],
    )
    wanted = None if profile is None else PROFILES[profile]["measures"]
    text = counts_csv(cells)
    small = [
        {"columns": s["columns"], "group": r["group"], "n": r["n"], "share": r["share"]}
        for s in next(iter(found["measures"].values()), {"sets": []})["sets"]
        for r in s["rows"]
        if r["share"] < SMALL_SHARE
    ]
    shown = {
        name: measure
        for name, measure in found["measures"].items()
        if wanted is None or name in wanted
    }
    in_words(found["measures"])
    return {
        "kind": "jaxsteer audit",
        "format": 1,
        "profile": profile,
        "data": dict(data) | {"counts_sha256": _sha256(text)},
        "options": dict(options),
        "versions": dict(versions()),
        "columns": list(cells.columns),
        "levels": [list(names) for names in cells.levels],
        "label_names": list(cells.label_names),
        "favorable": cells.favorable,
        "median_score": cells.median,
        "thresholds": [float(t) for t in cells.thresholds],
        "words": in_words(shown),
        "under_2_percent": small,
        "suppressed_rows": cells.suppressed[0],
        "measures": found["measures"],
        "metrics": found["metrics"],
        "notes": list(notes),
    }


def counts_csv(cells: Cells) -> str:
    """Return the counts as CSV: columns, label, decision, score, rows, weights."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            *cells.columns,
            "label",
            "prediction",
            "above_median",
            "score_bin",
            "n",
            "weight",
            "squared_weight",
        ]
    )
    names = [*cells.label_names, ""]
    for i, codes in enumerate(cells.codes.tolist()):
        writer.writerow(
            [
                *(cells.levels[j][code] for j, code in enumerate(codes)),
                names[cells.label[i]],
                names[cells.prediction[i]],
                *("" if v < 0 else int(v) for v in (cells.above[i], cells.bin[i])),
                int(cells.n[i]),
                repr(float(cells.weight[i])),
                repr(float(cells.square[i])),
            ]
        )
    return out.getvalue()


def recompute_source() -> str:
    """Return the program that recomputes a document with the standard library alone."""
    place = importlib.resources.files("jaxsteer.audit_report").joinpath("recompute.py")
    return place.read_text(encoding="utf-8")


def render_audit(document: Mapping[str, Any]) -> str:
    """Return the page of a document.

    Args:
        document: What :func:`audit_document` returned.

    Returns:
        HTML that needs no other file.

    Raises:
        ImportError: If jinja2 is not installed.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.audit_report import count_rows
        >>> sex = ("sex", np.arange(200) % 2, ("f", "m"))
        >>> said = np.arange(200) % 3 % 2
        >>> cells = count_rows([sex], prediction=said, label_names=("no", "yes"))
        >>> options = {"seed": 0, "draws": 20, "n_boot": 20, "leave_out_small": False}
        >>> data = {"file": "rows.csv", "sha256": "", "rows": 200}
        >>> data |= {"rows_counted": 200, "unknown": {}, "excluded": {}}
        >>> document = audit_document(cells, data=data, options=options)
        >>> render_audit(document).startswith("<!doctype html>")
        True
    """
    template = page_template("audit.html", percent=lambda rate: f"{100 * rate:.1f}%")
    profile = PROFILES.get(document["profile"] or "")
    wanted = profile["measures"] if profile else tuple(document["measures"])
    # Up to three sentences first; the others stand above their tables.
    first = next((m for n, m in document["measures"].items() if n in wanted), None)
    top = [] if first is None else [s["words"] for s in first["sets"] if s["words"]]
    return template.render(
        doc=document,
        style=page_style(),
        profile=profile,
        titles=TITLES,
        top=top,
        measures={k: v for k, v in document["measures"].items() if k in wanted},
        others=[k for k in document["measures"] if k not in wanted],
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
