"""What every test shares: the precision of this run and its tolerances."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

# Most of the time goes into compiling each program once. Older emitters make the same
# arithmetic in half of the time; set XLA_FLAGS, if only to nothing, to do without.
if tuple(int(part) for part in version("jaxlib").split(".")[:2]) < (0, 12):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

# Tests patch what programs are made from, and count compilations.
os.environ.setdefault("JAXSTEER_STORED_PROGRAMS", "0")

import jax
import jax.numpy as jnp
import pytest
from hypothesis import settings

# Programs are compiled once for all processes and runs with the same packages and flags.
_KEY = "-".join([version("jax"), version("jaxlib"), os.environ.get("XLA_FLAGS", "")])
_CACHE = (
    Path(tempfile.gettempdir()) / f"jaxsteer-{os.getuid()}-{zlib.crc32(_KEY.encode())}"
)
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    jax.config.update("jax_compilation_cache_dir", str(_CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

# Compilation falls into the first example of a test, so no example has a deadline, and
# the examples are the same in every run.
settings.register_profile("jaxsteer", deadline=None, derandomize=True)
settings.load_profile("jaxsteer")

# One thread a process: pytest-xdist runs as many processes as there are cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need float64, so that they can be chosen."""
    for item in items:
        if "x64" in getattr(item, "fixturenames", ()):
            item.add_marker("x64")


@pytest.fixture
def eps() -> float:
    """Machine epsilon of the precision that this run uses."""
    return float(jnp.finfo(jnp.zeros(()).dtype).eps)


@pytest.fixture
def x64() -> None:
    """Skip, saying so, unless this is the float64 pass (JAX_ENABLE_X64=1)."""
    if not jax.config.read("jax_enable_x64"):
        pytest.skip("needs float64: run with JAX_ENABLE_X64=1 (CI runs both)")


@pytest.fixture(autouse=True)
def _few_memory_maps() -> Iterator[None]:
    """Drop compiled programs before they use up the memory maps of the process.

    Every program that XLA compiles for a CPU takes a few; Linux allows 65,530 and kills
    the process at the next one, which a run of the whole suite in one process reaches.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
