"""Programs that must end in a process of their own, with the default settings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).resolve().parents[1]


def on_devices(count: int) -> str:
    """These tests' flags for XLA, with so many simulated devices."""
    flags = os.environ.get("XLA_FLAGS", "")
    return f"{flags} --xla_force_host_platform_device_count={count}"


def check_ends(
    program: str,
    *args: str,
    timeout: float,
    x64: bool = False,
    devices: int | None = None,
) -> None:
    """Run a program that prints "ended"; fail if it does not within `timeout` seconds.

    With all default settings; with the tests' flags where `devices` are simulated.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    env["JAX_ENABLE_X64"] = str(int(x64))
    # The settings that would hide a hang must not be inherited.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "XLA_FLAGS"):
        env.pop(name, None)
    if devices is not None:
        env["XLA_FLAGS"] = on_devices(devices)
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ended"


def optimized(fn: Callable[..., Any]) -> Callable[..., Any]:
    """``jax.jit`` with the compiler's passes, which these tests do without otherwise.

    For what lies within a few roundings of its limit: the passes join products and sums,
    which are then rounded once.
    """
    return jax.jit(fn, compiler_options={"xla_backend_optimization_level": 3})


def run_fresh(code: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, with the settings of the tests."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
