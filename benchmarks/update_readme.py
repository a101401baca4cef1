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
    rows.extend(gauge_rows())
    versions = univariate["versions"]
    rows.append(
        f"\nAfter compilation, on {univariate['cores']} cores ({univariate['machine']}), "
        f"Python {univariate['python']}, jax {versions['jax']}."
    )
    return "\n".join(rows)


def gauge_rows() -> list[str]:
    """Return the rows of the multivariate gauges."""
    gauges = json.loads((RESULTS / "gauges.json").read_text())
    classes = json.loads((RESULTS / "many_classes.json").read_text())
    rows = []
    for d in (10, 40):
        one = gauges["single"][f"d={d}"]
        conic = min(one[solver]["seconds"] for solver in ("clarabel", "scs"))
        rows.append(
            f"| one `monge` problem, K=2, d={d}, float64 | {1e3 * one['seconds']:.1f} ms; "
            f"SciPy's L-BFGS with a written gradient {1e3 * one['scipy']['seconds']:.1f} "
            f"ms; the better of Clarabel and SCS {1e3 * conic:,.0f} ms | "
            f"`benchmarks/bench_gauges.py` |"
        )
    single, double = gauges["batch"]["float32"], gauges["batch"]["float64"]
    rows.append(
        f"| 256 `monge` problems, K=2, d=10 | {single['monge']['seconds']:.2f} s in "
        f"float32, {double['monge']['seconds']:.2f} s in float64; jaxopt's L-BFGS under "
        f"vmap {double['jaxopt_monge_seconds']:.1f} s | `benchmarks/bench_gauges.py` |"
    )
    for d in (80, 768):
        part = classes.get(f"d={d}")
        if part is None:
            continue
        full, tied = part["full, related"], part["tied, related, float32"]
        rows.append(
            f"| 28 classes, d={d} | `full` {full['seconds']:.1f} s in float64 (residual "
            f"{full['residual']:.0e}); `tied` {tied['seconds']:.2f} s in float32 | "
            f"`benchmarks/bench_many_classes.py` |"
        )
    return rows


def synthetic_rows() -> str:
    """Return the table of the normal populations."""
    text = (RESULTS / "synthetic_study.md").read_text()
    return text.split("\n\n")[1].strip()


def filled(text: str) -> str:
    """Return the README with both measured parts in place."""
    parts = {
        "adult": (RESULTS / "adult.md").read_text().strip(),
        "speed": speed_rows(),
        "synthetic": synthetic_rows(),
        "biographies": (RESULTS / "biographies_two.md").read_text().strip(),
    }
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
