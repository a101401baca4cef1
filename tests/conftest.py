"""What every test shares: the precision of this run and its tolerances."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import tempfile
import zlib
from importlib.metadata import version
from pathlib import Path

# Most of the time goes into compiling programs that run once, for a millisecond: they
# are compiled as they stand, unless JAXSTEER_TESTS_OPTIMIZED is set, as CI does where it
# runs the numerics again. Older emitters take half of the time for the same arithmetic.
# Set XLA_FLAGS, if only to nothing, to test what users get by default.
if "XLA_FLAGS" not in os.environ:
    level = 3 if os.environ.get("JAXSTEER_TESTS_OPTIMIZED") else 0
    os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level={level}"
    if tuple(int(part) for part in version("jaxlib").split(".")[:2]) < (0, 12):
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

# Tests patch what programs are made from, and count compilations.
os.environ.setdefault("JAXSTEER_STORED_PROGRAMS", "0")

import jax
import jax.monitoring
import jax.numpy as jnp
import pytest
from hypothesis import settings

from jaxsteer import _compilation

if "xla_backend_optimization_level=0" in os.environ["XLA_FLAGS"]:
    # What the package asks for itself goes before the flags.
    _compilation._CPU_OPTIONS["xla_backend_optimization_level"] = 0

# Programs are compiled once for all processes, those that tests start among them, and
# for all runs with the same packages and flags.
_KEY = "-".join([version("jax"), version("jaxlib"), os.environ["XLA_FLAGS"]])
_CACHE = f"jaxsteer-{os.getuid()}-{zlib.crc32(_KEY.encode())}"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = str(Path(tempfile.gettempdir()) / _CACHE)
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

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


def pytest_collection_finish() -> None:
    """Leave what was imported out of Python's search for garbage, and search less often.

    A process holds millions of objects that live as long as it does; going through them
    took a twelfth of all time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


class _FewMemoryMaps:
    """Drops compiled programs before they use up the memory maps of the process.

    Every program that XLA compiles for a CPU takes a few, a large one hundreds; Linux
    allows 65,530 and kills the process at the next one, which a run of the whole suite
    in one process reaches. Their memory, up to 2 GB by then, is handed back too. To
    count the maps takes as long as many a test.

    A plugin, for fixtures and hooks of this file do not reach the package's examples.
    """

    programs = 0

    def count(self, event: str, duration: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.programs += 1

    def pytest_runtest_logfinish(self) -> None:
        if self.programs < 20:
            return
        self.programs = 0
        maps = Path("/proc/self/maps")
        if maps.exists() and maps.read_bytes().count(b"\n") > 15_000:
            jax.clear_caches()
            with contextlib.suppress(AttributeError):  # of the GNU C library
                ctypes.CDLL(None).malloc_trim(0)


def pytest_configure(config: pytest.Config) -> None:
    guard = _FewMemoryMaps()
    jax.monitoring.register_event_duration_secs_listener(guard.count)
    config.pluginmanager.register(guard, "few-memory-maps")
