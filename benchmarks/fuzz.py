"""Random calls of every front door: refused clearly, a status, or an answer that checks.

Inputs and checks are those of tests/fuzz; here they are many, and counted. Call number 7
of a function is the same call in every run, so that pieces add up:

    python benchmarks/fuzz.py --calls 20000 --state fuzz.json --seconds 500
    python benchmarks/fuzz.py --calls 20000 --state fuzz.json --seconds 500   # goes on
    python benchmarks/fuzz.py --only roc_channel --number 17                  # one again

Writes results/fuzz.md once every function has been called. A piece with
``JAX_ENABLE_X64=1``, another ``--seed`` and the same ``--state`` adds calls in the other
precision. A call that never came back is found when the next piece begins, and counted
as one that hangs.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys
import time
from collections import Counter
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from tests.fuzz.estimators import ESTIMATORS  # noqa: E402
from tests.fuzz.files import FILES  # noqa: E402
from tests.fuzz.further import FURTHER  # noqa: E402
from tests.fuzz.inputs import Draw  # noqa: E402
from tests.fuzz.judge import judge  # noqa: E402
from tests.fuzz.populations import POPULATIONS, SLOW  # noqa: E402
from tests.fuzz.rows import ROWS  # noqa: E402

KINDS = ("answer", "refused", "status", "deep", "wrong", "hang")
HANG = 60.0  # CPU seconds: a call beyond is one that hangs
DEADLINE = 240  # seconds on the clock after which a call is given up, with its stack
TARGETS = {**ROWS, **FURTHER, **POPULATIONS, **FILES, **ESTIMATORS, **SLOW}
#: Functions of many programs (families, kinds of maps, options), each of which compiles
#: in about a second: one call of theirs for EVERY calls of another.
DEAR = {
    *SLOW,
    "nearest_ideal",
    "kl_divergence",
    "ideality_gap",
    "bayes_rates",
    "certificate",
    "ideal_residual",
    "price_of_fairness",
}
EVERY = 3


class State:
    """Counts so far, on disk between pieces."""

    def __init__(self, path: Path | None):
        self.path = path
        self.rows: dict[str, dict] = {}
        self.faults: list[dict] = []
        if path is not None and path.is_file():
            held = json.loads(path.read_text())
            self.rows, self.faults = held["rows"], held["faults"]
        current = self.current
        if current is not None and current.is_file():
            name, number, seed = json.loads(current.read_text())
            self.add(name, number, seed, "hang", 0.0, "never came back", [])
            current.unlink()

    @property
    def current(self) -> Path | None:
        """Where the call in progress is written."""
        return self.path and self.path.with_suffix(".current")

    def row(self, name: str) -> dict:
        """Counts of one function."""
        empty = {"counts": {}, "next": {}, "slowest": 0.0, "wide": 0}
        return self.rows.setdefault(name, empty)

    def begin(self, name: str, number: int, seed: int) -> None:
        """Note a call that is about to be made."""
        if self.current is not None:
            self.current.write_text(json.dumps([name, number, seed]))
        faulthandler.dump_traceback_later(DEADLINE, exit=True)

    def add(self, name, number, seed, kind, seconds, detail, log) -> None:
        """Count a call that ended."""
        faulthandler.cancel_dump_traceback_later()
        row = self.row(name)
        kind = "hang" if seconds > HANG else kind
        row["counts"][kind] = row["counts"].get(kind, 0) + 1
        row["next"][str(seed)] = number + 1
        row["slowest"] = max(row["slowest"], seconds)
        row["wide"] += bool(jax.config.read("jax_enable_x64"))
        if kind in KINDS[3:]:
            call = {"name": name, "number": number, "seed": seed, "log": log}
            self.faults.append({**call, "kind": kind, "detail": detail})

    def save(self) -> None:
        """Write the counts; no call is in progress."""
        if self.path is not None:
            held = {"rows": self.rows, "faults": self.faults}
            part = self.path.with_suffix(".part")
            part.write_text(json.dumps(held, indent=1))
            part.replace(self.path)
            if self.current is not None:
                self.current.unlink(missing_ok=True)

    def calls(self) -> int:
        """How many calls have been counted."""
        return sum(sum(row["counts"].values()) for row in self.rows.values())


def one_call(name: str, number: int, seed: int):
    """Make one call; how it ended, what was drawn, and CPU seconds."""
    # Not hash(): that of a text differs from one process to the next.
    rng = np.random.default_rng([number, seed, *name.encode()])
    draw = Draw(lambda choices: choices[rng.integers(len(choices))], rng)
    start = time.process_time()
    outcome = judge(TARGETS[name], draw)
    return outcome, draw.log, time.process_time() - start


def run(targets: list[str], state: State, calls: int, seconds: float, seed: int):
    """Call the targets in turn until there are enough calls, or the time is up."""

    def made(name: str) -> int:
        return state.row(name)["next"].get(str(seed), 0)

    def laps(name: str) -> int:
        return made(name) * (EVERY if name in DEAR else 1)

    begin = time.time()
    lap = min(map(laps, targets), default=0)
    while True:
        for name in targets:
            if laps(name) > lap:
                continue
            number = made(name)
            if state.calls() >= calls or time.time() - begin > seconds:
                return
            state.begin(name, number, seed)
            outcome, log, taken = one_call(name, number, seed)
            state.add(name, number, seed, outcome.kind, taken, outcome.detail, log)
            if outcome.kind in KINDS[3:]:
                said = " ".join(outcome.detail.split())[:200]
                print(f"{name} #{number} {log}\n    {outcome.kind}: {said}", flush=True)
        state.save()
        lap += 1


def table(state: State) -> str:
    """The counts as Markdown."""
    lines = [
        "| front door | calls | answers that check | clear refusals | statuses | "
        "messages from inside | silently wrong | hang | slowest call (CPU s) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    total = Counter()
    for name in sorted(state.rows):
        row = state.rows[name]
        counts = Counter(row["counts"])
        total.update(counts)
        cells = " | ".join(str(counts[kind]) for kind in KINDS)
        lines.append(
            f"| `{name}` | {counts.total()} | {cells} | {row['slowest']:.1f} |"
        )
    cells = " | ".join(str(total[kind]) for kind in KINDS)
    worst = max((row["slowest"] for row in state.rows.values()), default=0.0)
    lines.append(f"| all | {total.total()} | {cells} | {worst:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, print, and write the table if every front door was called."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=19)
    parser.add_argument("--state", type=Path, help="counts of earlier pieces; added to")
    parser.add_argument("--only", help="functions whose name holds this")
    parser.add_argument("--number", type=int, help="make this call alone")
    parser.add_argument("--quick", action="store_true", help="no long compilations")
    options = parser.parse_args()
    names = [k for k in TARGETS if not (options.quick and k in SLOW)]
    names = [k for k in names if (options.only or "") in k]
    if options.number is not None:
        for name in names:
            outcome, log, taken = one_call(name, options.number, options.seed)
            print(f"{name} {log}\n  {outcome.kind}: {outcome.detail} ({taken:.1f} s)")
        return 0
    state = State(options.state)
    run(names, state, options.calls, options.seconds, options.seed)
    state.save()
    text = table(state)
    print(text)
    if len(state.rows) == len(TARGETS):
        wide = sum(row["wide"] for row in state.rows.values())
        head = (
            f"{state.calls()} calls by `python benchmarks/fuzz.py`, {wide} of them with "
            "64-bit numbers enabled; inputs and checks are those of tests/fuzz. A quarter "
            "of all arguments is spoiled. A clear refusal is a ValueError raised by "
            "jaxsteer itself that names an argument; an answer checks if NumPy in float64 "
            f"finds the same; a call of more than {HANG:.0f} CPU seconds hangs. The first "
            "call of a function compiles.\n\n"
        )
        (ROOT / "benchmarks" / "results" / "fuzz.md").write_text(head + text)
    return 1 if state.faults else 0


if __name__ == "__main__":
    sys.exit(main())
