"""Copy the measured tables from ``benchmarks/results`` into the README.

    python benchmarks/update_readme.py

A test holds that the README shows what the result files say.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


def speed_rows() -> str:
    """Return the table rows of the timed claims."""
    univariate = json.loads((RESULTS / "univariate.json").read_text())
    bootstrap = json.loads((RESULTS / "bootstrap.json").read_text())
    rows = []
    for name, label in [("affirmative", "affirmative"), ("all_groups", "all-groups")]:
        part = univariate[name]
        rows.append(
            f"| {part['problems']:,} univariate {label} problems, float32 | "
            f"{part['seconds']:.2f} s; SciPy {part['scipy_milliseconds_per_problem']:.1f} "
            f"ms each ({part['ratio']:,.0f} times as long) | "
            f"`benchmarks/bench_univariate.py` |"
        )
    rows.append(
        f"| 3 metrics, 50,000 rows, 100 bootstrap resamples | "
        f"{1e3 * bootstrap['counts_drawn']['run_s']:.1f} ms; fairlearn's MetricFrame "
        f"{bootstrap['fairlearn']['run_s']:.1f} s | `benchmarks/bench_bootstrap.py` |"
    )
    versions = univariate["versions"]
    rows.append(
        f"\nAfter compilation, on {univariate['cores']} cores ({univariate['machine']}), "
        f"Python {univariate['python']}, jax {versions['jax']}."
    )
    return "\n".join(rows)


def filled(text: str) -> str:
    """Return the README with both measured parts in place."""
    parts = {"adult": (RESULTS / "adult.md").read_text().strip(), "speed": speed_rows()}
    for name, content in parts.items():
        gap = "\n" if name == "adult" else ""
        text = re.sub(
            rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)",
            lambda m, content=content, gap=gap: f"{m[1]}{gap}{content}\n{gap}{m[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text()))
