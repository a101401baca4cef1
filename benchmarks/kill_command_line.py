"""Kill the command line at random times, and look at what it leaves behind.

The claim: whatever ends ``steer``, ``apply``, ``audit`` or a save, each path holds the
old or the new whole file, and after the next run nothing else is left.

    python benchmarks/kill_command_line.py --kills 40
    python benchmarks/kill_command_line.py --kills 20 --seed 1 --add   # in pieces

Writes results/kills.json, with ``--add`` together with what it holds.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy as np
import pandas as pd
from _machine import RESULTS, describe, save

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
SAVE = (
    "import sys, numpy as np; from jaxsteer.storage import save\n"
    "for i in range(200): save(sys.argv[1], {'a': np.arange(2e5)})\n"
)


def commands(folder: pathlib.Path, rows: pathlib.Path, maps: pathlib.Path):
    """Return each command with the folder that it writes into."""
    run = [sys.executable, "-m", "jaxsteer.cli"]
    columns = ["--label", "paid", "--group", "sex", "--force"]
    return {
        "steer": [
            *(*run, "steer", rows, *columns, "--out", folder / "steer" / "out.csv"),
            *("--method", "reweigh", "--no-check"),
        ],
        "apply": [
            *(*run, "apply", maps, rows, "--out", folder / "apply" / "out.csv"),
            "--force",
        ],
        "audit": [
            *(*run, "audit", rows, *columns, "--score", "income", "--n-boot", "20"),
            *("--out", folder / "audit" / "out.json"),
        ],
        "save": [sys.executable, "-c", SAVE, folder / "save" / "out.safetensors"],
    }


def content(folder: pathlib.Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def main() -> None:
    """Kill, look, and print one line a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3600.0, help="then no more")
    parser.add_argument("--add", action="store_true", help="to the kills on record")
    options = parser.parse_args()
    begin, draw = time.monotonic(), random.Random(options.seed)
    rng = np.random.default_rng(options.seed)
    folder = pathlib.Path(tempfile.mkdtemp())
    rows, maps = folder / "rows.csv", folder / "fit.maps"
    n = options.rows
    frame = pd.DataFrame(
        {
            "income": rng.normal(size=n),
            "age": rng.integers(18, 90, n),
            "sex": rng.choice(["F", "M"], n),
            "paid": rng.choice(["no", "yes"], n),
        }
    )
    frame.to_csv(rows, index=False)
    small = folder / "small.csv"
    frame.head(1000).to_csv(small, index=False)
    fit = [sys.executable, "-m", "jaxsteer.cli", "steer", small, "--label", "paid"]
    fit += ["--group", "sex", "--out", folder / "fit.csv", "--no-check"]
    subprocess.run(list(map(str, [*fit, "--learner", "logistic"])), check=True)
    whole, took = {}, {}
    all_commands = commands(folder, rows, maps)
    for name, command in all_commands.items():
        (folder / name).mkdir()
        start = time.monotonic()
        subprocess.run(
            list(map(str, command)), check=True, capture_output=True, timeout=600
        )
        took[name] = time.monotonic() - start
        whole[name] = content(folder / name)
    found = {name: Counter() for name in all_commands}
    i = 0
    while i < options.kills:
        if time.monotonic() - begin > options.seconds:
            break
        name = list(all_commands)[i % len(all_commands)]
        # Every other kill finds the old files there, and replaces them.
        if i // len(all_commands) % 2:
            for path in (folder / name).iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        before = content(folder / name)
        child = subprocess.Popen(
            list(map(str, all_commands[name])),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that started this in the background made it deaf to SIGINT.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        # Most of the time passes before anything is written.
        start = time.monotonic()
        wait = took[name] * draw.uniform(0.3, 1.0)
        try:
            child.wait(wait)
        except subprocess.TimeoutExpired:
            i += 1
        else:  # too late: no kill, and the machine is faster than was thought
            took[name] = time.monotonic() - start
            child.communicate()
            continue
        number = draw.choice(SIGNALS)
        child.send_signal(number)
        said = child.communicate(timeout=600)[1]
        found[name].update(("kills", number.name, f"exit code {child.returncode}"))
        if "Traceback" in said and name != "save":
            found[name]["tracebacks"] += 1
            print(f"a traceback from {name}:\n{said}")
        for path, data in content(folder / name).items():
            if path.endswith(".partial"):
                found[name]["abandoned parts"] += 1
            # A zip archive of skops holds times: its wholeness is that it opens.
            elif path.endswith((".skops", "manifest.json")):
                half = path.endswith(".skops") and not _opens(data)
                found[name]["half files"] += half
            elif data not in (before.get(path), whole[name][path]):
                found[name]["half files"] += 1
    for name, command in all_commands.items():
        subprocess.run(
            list(map(str, command)), check=True, capture_output=True, timeout=600
        )
        left = [p for p in content(folder / name) if p not in whole[name]]
        found[name]["left after the next run"] += len(left)
    shutil.rmtree(folder)
    report(found, options)


def report(found: dict[str, Counter], options: argparse.Namespace) -> None:
    """Print the counts and write them down."""
    path, seeds = RESULTS / "kills.json", [options.seed]
    if options.add and path.is_file():
        held = json.loads(path.read_text())
        seeds = held["seeds"] + seeds
        for name, counts in held["commands"].items():
            found[name].update(counts)
    for what in ("half files", "tracebacks", "left after the next run"):
        for counts in found.values():
            counts[what] += 0  # a zero that is said
    total = sum(found.values(), Counter())
    commands = {name: dict(sorted(counts.items())) for name, counts in found.items()}
    figures = {"rows": options.rows, "seeds": seeds, "kills": total["kills"]}
    save("kills", {**describe("pandas", "skops"), **figures, "commands": commands})


def _opens(data: bytes) -> bool:
    import io
    import zipfile

    return zipfile.ZipFile(io.BytesIO(data)).testzip() is None


if __name__ == "__main__":
    main()
