"""A thousand random problems of mixed difficulty: what share is solved, in how many steps.

Kinds: well-conditioned; condition numbers 1e4, 1e6 and 1e8; cells fitted to fewer rows
than features (shrunk); nearly equal classes; the well-conditioned ones again with an
offset of 1e6 deviations and in units of 1e-12 and 1e12. Each in float32 and float64, for
every kind of maps that iterates, affirmative. "solved" means status CONVERGED at the
default tolerance, the root of the rounding unit; every such answer is then verified in
NumPy float64 (``Steering.verify``), which says where rounding leaves nothing to check.
"earlier" is the share solved before features were centered and scaled inside.

    python benchmarks/bench_robustness.py [--quick] [--problems 200]
    python benchmarks/bench_robustness.py --state rows.json --seconds 500   # in pieces
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from _gauge_problems import unrelated  # noqa: E402
from _machine import RESULTS, describe, save  # noqa: E402

import jaxsteer as js  # noqa: E402

D, K = 6, 3
MAPS = ("positive_definite", "pivot", "general")


def conditioned(rng: np.random.Generator, condition: float) -> tuple:
    """Eigenvalues evenly spread over `condition`, in random directions."""
    priors, mean, _ = unrelated(rng, K, D)
    turns = np.linalg.qr(rng.normal(size=(K, 2, D, D)))[0]
    values = np.logspace(0, -np.log10(condition), D)
    cov = (turns * values) @ np.swapaxes(turns, -1, -2)
    return priors, mean, cov


def few_rows(rng: np.random.Generator) -> tuple:
    """Cells of 4 rows in 6 dimensions, shrunk by OAS."""
    label, group = np.divmod(np.repeat(np.arange(2 * K), 4), 2)
    x = rng.normal(size=(8 * K, D)) + rng.normal(size=(2 * K, D)).repeat(4, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # small cells are the point here
        pop = js.fit_population(x, label, group)
    return tuple(
        np.asarray(leaf)
        for leaf in (pop.priors, pop.conditionals.mean, pop.conditionals.cov)
    )


def nearly_equal(rng: np.random.Generator) -> tuple:
    """Classes whose moments differ by a part in a thousand."""
    priors, mean, cov = unrelated(rng, K, D)
    mean = mean[:1] + 1e-3 * (mean - mean[:1])
    cov = cov[:1] + 1e-3 * (cov - cov[:1])
    return priors, mean, cov


def moved(scale: float, offset: float):
    """The well-conditioned problems in other units, or far from 0."""

    def problem(rng: np.random.Generator) -> tuple:
        priors, mean, cov = unrelated(rng, K, D)
        return priors, scale * (mean + offset), scale**2 * cov

    return problem


KINDS = {
    "well-conditioned": lambda rng: unrelated(rng, K, D),
    "condition 1e4": lambda rng: conditioned(rng, 1e4),
    "condition 1e6": lambda rng: conditioned(rng, 1e6),
    "condition 1e8": lambda rng: conditioned(rng, 1e8),
    "4 rows a cell (n < d)": few_rows,
    "nearly equal classes": nearly_equal,
    "offset of 1e6 deviations": moved(1.0, 1e6),
    "units of 1e-12": moved(1e-12, 0.0),
    "units of 1e12": moved(1e12, 0.0),
}


def measure(kind: str, maps: str, dtype: str, n: int) -> dict:
    """Solve `n` problems of one kind."""
    rng = np.random.default_rng(0)
    parts = [KINDS[kind](rng) for _ in range(n)]
    stacked = [np.stack(part) for part in zip(*parts, strict=True)]
    condition = np.median(np.linalg.cond(stacked[2]))
    priors, mean, cov = (jnp.asarray(part, dtype) for part in stacked)
    pops = js.Population(priors, js.MultivariateNormal(mean, cov))
    found = js.nearest_ideal_batch(pops, maps=maps, differentiate="none", reference=1)
    codes = np.asarray(found.status)
    steps = np.asarray(found.steps)
    return {
        "kind": kind,
        "maps": maps,
        "dtype": dtype,
        "median_condition": float(condition),
        "solved": float((codes == 0).mean()),
        "other": {
            js.Status(int(code)).name: int((codes == code).sum())
            for code in sorted(set(codes.tolist()) - {0})
        },
        **verified(found, codes),
        "median_steps": float(np.median(steps)),
        "most_steps": int(steps.max()),
        "median_residual": float(np.median(np.asarray(found.residual))),
    }


def verified(found: js.Steering, codes: np.ndarray) -> dict:
    """How many of the solved problems NumPy confirms, and in how many it sees nothing."""
    counts = {"verified": 0, "unchecked": 0, "refuted": 0}
    found = jax.tree.map(np.asarray, found)
    for row in np.flatnonzero(codes == 0):
        report = jax.tree.map(lambda leaf, row=row: leaf[row], found).verify()
        hidden = any("rounding alone" in reason for reason in report.unchecked)
        kind = "refuted" if not report.ok else "unchecked" if hidden else "verified"
        counts[kind] += 1
    return counts


def earlier_shares() -> dict[str, float]:
    """Shares solved before, as the last results carry them along."""
    path = RESULTS / "robustness.json"
    return json.loads(path.read_text())["earlier"] if path.is_file() else {}


def name_of(row: dict) -> str:
    """What tells one row from the others."""
    return " | ".join((row["kind"], row["maps"], row["dtype"]))


def table(rows: list[dict], n: int, earlier: dict[str, float]) -> str:
    """The figures as a Markdown table."""
    lines = [
        f"{n} problems a kind, K={K}, G=2, d={D}; see bench_robustness.py.",
        "",
        "| problems | condition | maps | dtype | solved | earlier | otherwise | verified "
        "| partly hidden by rounding | refuted | steps (most) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        other = ", ".join(f"{name} {count}" for name, count in row["other"].items())
        before = earlier.get(name_of(row))
        lines.append(
            f"| {row['kind']} | {row['median_condition']:.0e} | {row['maps']} | "
            f"{row['dtype']} | {row['solved']:.1%} | "
            f"{'-' if before is None else format(before, '.1%')} | {other or '-'} | "
            f"{row['verified']} | {row['unchecked']} | {row['refuted']} | "
            f"{row['median_steps']:.0f} ({row['most_steps']}) |"
        )
    counts = {what: sum(row[what] for row in rows) for what in COUNTED}
    said = ", ".join(f"{count} {what}" for what, count in counts.items())
    lines += ["", f"Answers that say CONVERGED: {said}."]
    return "\n".join(lines) + "\n"


COUNTED = ("verified", "unchecked", "refuted")


def main() -> int:
    """Measure, print the table and save; 1 if an answer was refuted or a share fell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--state", type=Path, help="rows of earlier pieces; added to")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    n = 8 if options.quick else options.problems
    maps, dtypes = MAPS, ("float32", "float64")
    if options.quick:
        maps, dtypes = MAPS[:1], dtypes[:1]
    wanted = [(kind, m, dtype) for m in maps for dtype in dtypes for kind in KINDS]
    rows: dict[str, dict] = {}
    if options.state is not None and options.state.is_file():
        rows = json.loads(options.state.read_text())
    begin = time.time()
    for one in wanted:
        if " | ".join(one) in rows or time.time() - begin > options.seconds:
            continue
        start = time.process_time()
        row = measure(*one, n)
        rows[name_of(row)] = {**row, "cpu_seconds": time.process_time() - start}
        print(name_of(row), row["solved"], row["other"], row["refuted"], flush=True)
        if options.state is not None:
            options.state.write_text(json.dumps(rows, indent=1))
    done = [rows[" | ".join(one)] for one in wanted if " | ".join(one) in rows]
    earlier = earlier_shares()
    print(table(done, n, earlier))
    if len(done) == len(wanted) and not options.quick:
        figures = {"problems_per_kind": n, "rows": done, "earlier": earlier}
        save("robustness", {**describe(), **figures})
        (RESULTS / "robustness.md").write_text(table(done, n, earlier))
    fell = [name_of(r) for r in done if r["solved"] < earlier.get(name_of(r), 0)]
    print("solved less often than earlier:", fell or "none")
    return 1 if fell or any(row["refuted"] for row in done) else 0


if __name__ == "__main__":
    sys.exit(main())
