"""Random calls of every front door: refused clearly, a status, or an answer that checks.

Inputs and checks are those of tests/fuzz; here they are many, and counted.

    python benchmarks/fuzz.py [--calls 20000] [--seconds 3600] [--only NAME]

Writes results/fuzz.md. Stops at whichever comes first; the counts are of calls made.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from tests.fuzz.files import FILES  # noqa: E402
from tests.fuzz.inputs import Draw  # noqa: E402
from tests.fuzz.judge import judge  # noqa: E402
from tests.fuzz.populations import POPULATIONS, SLOW  # noqa: E402
from tests.fuzz.rows import ROWS  # noqa: E402

KINDS = ("answer", "refused", "status", "deep", "wrong")
SLOWEST = 60.0  # CPU seconds: a call beyond is one that hangs
TARGETS = {**ROWS, **POPULATIONS, **FILES, **SLOW}


def run(targets: dict, calls: int, seconds: float) -> tuple[dict, dict, dict]:
    """Call the targets in turn; the cheap ones as often as the dear."""
    counts: dict[str, Counter] = defaultdict(Counter)
    faults: dict[str, list] = defaultdict(list)
    slowest: dict[str, float] = defaultdict(float)
    names = list(targets)
    begin = time.time()
    for number in range(calls):
        if time.time() - begin > seconds:
            break
        name = names[number % len(names)]
        rng = np.random.default_rng([number, 19])
        draw = Draw(lambda choices, rng=rng: choices[rng.integers(len(choices))], rng)
        start = time.process_time()
        outcome = judge(targets[name], draw)
        slowest[name] = max(slowest[name], time.process_time() - start)
        counts[name][outcome.kind] += 1
        if outcome.kind in ("deep", "wrong"):
            faults[name].append((number, draw.log, outcome))
    return counts, faults, slowest


def table(counts: dict, slowest: dict) -> str:
    """The counts as Markdown."""
    lines = [
        "| front door | calls | answers that check | clear refusals | statuses | "
        "messages from inside | silent wrong | slowest call (CPU s) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    total = Counter()
    for name in sorted(counts):
        row = counts[name]
        total.update(row)
        cells = " | ".join(str(row[kind]) for kind in KINDS)
        lines.append(f"| `{name}` | {row.total()} | {cells} | {slowest[name]:.1f} |")
    cells = " | ".join(str(total[kind]) for kind in KINDS)
    worst = max(slowest.values(), default=0.0)
    lines.append(f"| all | {total.total()} | {cells} | {worst:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, print, and write the table if every front door was called."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--only")
    parser.add_argument("--quick", action="store_true", help="no long compilations")
    options = parser.parse_args()
    targets = {k: v for k, v in TARGETS.items() if not (options.quick and k in SLOW)}
    targets = {k: v for k, v in targets.items() if (options.only or "") in k}
    counts, faults, slowest = run(targets, options.calls, options.seconds)
    for name, found in faults.items():
        for number, log, outcome in found[:5]:
            print(f"{name} #{number} {log}\n    {outcome.kind}: {outcome.detail}")
    text = table(counts, slowest)
    print(text)
    made = sum(row.total() for row in counts.values())
    if options.only is None and not options.quick:
        head = (
            f"{made} calls by `python benchmarks/fuzz.py --calls {options.calls}`; "
            "inputs and checks are those of tests/fuzz. A quarter of all arguments is "
            "spoiled. A clear refusal is a ValueError raised by jaxsteer itself that "
            "names an argument; an answer checks if NumPy in float64 finds the same. "
            "The first call of a function compiles.\n\n"
        )
        (ROOT / "benchmarks" / "results" / "fuzz.md").write_text(head + text)
    return 1 if faults or max(slowest.values(), default=0) > SLOWEST else 0


if __name__ == "__main__":
    sys.exit(main())
