"""Copy the measured tables from ``results`` into the README and benchmarks/README.md.

    python benchmarks/update_readme.py

A test holds that both show what the result files say.
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
    rows.extend(representation_rows())
    rows.extend(group_weight_rows())
    versions = univariate["versions"]
    rows.append(
        f"\nAfter compilation, on {univariate['cores']} cores ({univariate['machine']}), "
        f"Python {univariate['python']}, jax {versions['jax']}."
    )
    return "\n".join(rows)


def gauge_rows() -> list[str]:
    """Return the rows of the multivariate kinds of maps."""
    kinds = json.loads((RESULTS / "gauges.json").read_text())
    classes = json.loads((RESULTS / "many_classes.json").read_text())
    rows = []
    for d in (10, 40):
        one = kinds["single"][f"d={d}"]
        conic = min(one[solver]["seconds"] for solver in ("clarabel", "scs"))
        rows.append(
            f"| one `positive_definite` problem, K=2, d={d}, float64 | "
            f"{1e3 * one['seconds']:.1f} ms; "
            f"SciPy's L-BFGS with a written gradient {1e3 * one['scipy']['seconds']:.1f} "
            f"ms; the better of Clarabel and SCS {1e3 * conic:,.0f} ms | "
            f"`benchmarks/bench_gauges.py` |"
        )
    single, double = kinds["batch"]["float32"], kinds["batch"]["float64"]
    few, many = (part["positive_definite"]["seconds"] for part in (single, double))
    peer = double["jaxopt_monge_seconds"]  # or why it was not measured
    beside = "" if isinstance(peer, str) else f"; jaxopt's L-BFGS {peer:.1f} s"
    rows.append(
        f"| 256 `positive_definite` problems, K=2, d=10 | {few:.2f} s in "
        f"float32, {many:.2f} s in float64{beside} | `benchmarks/bench_gauges.py` |"
    )
    for d in (80, 768):
        part = classes.get(f"d={d}")
        if part is None:
            continue
        full, tied = part["full, related"], part["tied, related, float32"]
        mixed = part.get("full, related, float32 products")
        narrow = f", {mixed['seconds']:.1f} s with float32 products" if mixed else ""
        rows.append(
            f"| 28 classes, d={d} | `general` {full['seconds']:.1f} s in float64 (residual "
            f"{full['residual']:.0e}){narrow}; `shared_covariance` "
            f"{tied['seconds']:.2f} s in float32, "
            f"its map alone {1e3 * tied['map_alone_s']:.0f} ms | "
            f"`benchmarks/bench_many_classes.py` |"
        )
    return rows


def representation_rows() -> list[str]:
    """Return the rows of the baselines and the steering layers."""
    baselines = json.loads((RESULTS / "baselines.json").read_text())
    layers = json.loads((RESULTS / "steering_layers.json").read_text())
    leace, rows = baselines["leace"], []
    rows.append(
        f"| LEACE, {leace['rows']:,} rows, d={leace['features']}, "
        f"{leace['classes']} classes, float32 | {leace['jaxsteer']['run_s']:.2f} s; "
        f"concept-erasure {leace['concept_erasure']['run_s']:.2f} s | "
        f"`benchmarks/bench_baselines.py` |"
    )
    for d, part in baselines["mimic"].items():
        rows.append(
            f"| MiMiC's map, d={d}, float32 | {part['jaxsteer']['run_s']:.2f} s; "
            f"concept-erasure {part['concept_erasure']['run_s']:.2f} s | "
            f"`benchmarks/bench_baselines.py` |"
        )
    model = layers["model"]
    rows.append(
        f"| one of {model['blocks']} blocks of SmolLM2-135M steered | "
        f"{100 * model['affine']['more_time_a_pass']:.1f}% more time a pass and "
        f"{100 * model['affine']['more_memory']:.1f}% more memory; two groups "
        f"{100 * model['two_groups']['more_time_a_pass']:.1f}% and "
        f"{100 * model['two_groups']['more_memory']:.1f}% | "
        f"`benchmarks/bench_steering_layers.py` |"
    )
    return rows


def group_weight_rows() -> list[str]:
    """Return the rows of Pareto-efficient models and of latent groups."""
    rows = []
    for groups in (2, 4):
        report = json.loads((RESULTS / f"badr_{groups}_groups.json").read_text())
        part = report["problems"]["covariance"]
        rows.append(
            f"| BADR, {report['rows']:,} rows, {groups} groups | "
            f"{part['exact_s']:.2f} s; badr's SLSQP {part['peer']['slsqp_s']:.1f} s to a "
            f"worse value; an SGD iteration {1e3 * part['sgd_iteration_s']:.1f} ms, "
            f"badr's {1e3 * part['peer']['sgd_iteration_s']:.0f} ms | "
            f"`benchmarks/bench_badr.py` |"
        )
    largest = json.loads((RESULTS / "pareto_scale.json").read_text())["rows"][-1]
    rows.append(
        f"| BADR, {largest['n']:,} rows, {largest['groups']} groups | "
        f"{largest['seconds']:.1f} s, {largest['peak_mb'] / 1024:.1f} GB | "
        f"`benchmarks/bench_pareto_scale.py` |"
    )
    restarts = json.loads((RESULTS / "rome_restarts.json").read_text())
    problem = restarts["problem"]
    rows.append(
        f"| {problem['starts']} starts of ROME's EM, {problem['rows']:,} rows | "
        f"{restarts['one_program_s']:.1f} s; a loop in NumPy "
        f"{restarts['numpy']['s_all_starts']:.0f} s, with scikit-learn "
        f"{restarts['scikit-learn']['s_all_starts']:.0f} s | "
        f"`benchmarks/bench_rome_restarts.py` |"
    )
    return rows


def synthetic_rows() -> str:
    """Return the table of the normal populations."""
    text = (RESULTS / "synthetic_study.md").read_text()
    return text.split("\n\n")[1].strip()


SHORT_SCORES = {
    "raw": "raw score",
    "quantiles": "`balanced_quantiles`, no draw",
    "quantiles, equal TPR": "the same for equal TPR, no draw",
    "roc": "`roc_channel`",
    "roc, tolerance .02": "`roc_channel(tolerance=.02)`",
    "blind": "`blind_channel`, group unknown",
    "reweighing, group as a feature": "reweighing, group as a feature",
}


def score_rows() -> str:
    """Rows of census income: gaps beside what chance would show."""
    text = (RESULTS / "fair_scores.md").read_text()
    lines = text.split("\n\n")[1].splitlines()
    table = [
        "| answer (fold seeds) | sup TPR gap | chance | sup FPR gap | chance | AUC |"
    ]
    table.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for line in lines[2:]:
        name, *cells = [cell.strip() for cell in line.split("|")[1:-1]]
        name, seeds = name.rsplit(" (", 1)
        if name in SHORT_SCORES:
            shown = [*cells[:4], cells[5]]
            table.append(f"| {SHORT_SCORES[name]} ({seeds} | {' | '.join(shown)} |")
    return "\n".join(table)


SHORT_SPEED = (
    "1,000,000 univariate affirmative",
    "256 `positive_definite` problems",
    "28 classes, d=768",
    "LEACE, 100,000 rows",
    "one of 30 blocks",
    "100 starts of ROME",
)


def short_speed_rows() -> str:
    """Six rows of :func:`speed_rows`, and what they were measured on."""
    lines = speed_rows().splitlines()
    chosen = [row for row in lines for what in SHORT_SPEED if what in row]
    return "\n".join([*chosen, "", lines[-1]])


def filled(text: str) -> str:
    """Return a page with its measured parts in place."""
    parts = {
        "adult": (RESULTS / "adult.md").read_text().strip(),
        "scores-short": score_rows(),
        "scores": (RESULTS / "fair_scores.md").read_text().strip(),
        "speed": speed_rows(),
        "speed-short": short_speed_rows(),
        "synthetic": synthetic_rows(),
        "biographies": (RESULTS / "biographies_two.md").read_text().split("\n\n")[0],
    }
    for name, content in parts.items():
        gap = "\n" if name in ("adult", "scores") else ""
        text = re.sub(
            rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)",
            lambda m, content=content, gap=gap: f"{m[1]}{gap}{content}\n{gap}{m[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


PAGES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")

if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))
