"""What a figure depends on: machine, versions, precision; and how to time."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

RESULTS = Path(__file__).parent / "results"


def describe(*packages: str) -> dict[str, Any]:
    """Return the machine, the versions and the device that figures come from."""
    names = ("jaxsteer", "jax", "jaxlib", "numpy", *packages)
    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "x64": bool(jax.config.read("jax_enable_x64")),
        "versions": {name: version(name) for name in names},
    }


def first_and_median(call: Callable[[], Any], repeats: int = 5) -> tuple[float, float]:
    """Time the first call (compilation included) and the median of later ones, s."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return times[0], statistics.median(times[1:])


def save(name: str, figures: dict[str, Any]) -> None:
    """Print the figures and write them to ``benchmarks/results/NAME.json``."""
    text = json.dumps(figures, indent=2)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")
