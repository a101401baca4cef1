"""What users do to a process: threads, forks, other modes of Python and of JAX."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

COMMON = """
    import warnings
    warnings.simplefilter("ignore")
    import jax, jax.numpy as jnp, numpy as np, jaxsteer as js

    LABEL, GROUP = np.arange(40) % 2, np.arange(40) // 2 % 2
    SCORE = np.random.default_rng(0).normal(size=40) + LABEL * (1 + GROUP)

    def population(dtype=None):
        loc = jnp.asarray([[0.0, 0.0], [1.0, 2.0]], dtype)
        cells = js.Normal(loc, jnp.ones((2, 2), dtype))
        return js.Population(jnp.full((2, 2), 0.25, dtype), cells)

    def every_door():
        found = js.nearest_ideal(population()).require()
        assert found.verify().ok, found.verify()
        fair = js.balanced_quantiles(SCORE, LABEL, GROUP)
        channel = js.roc_channel(SCORE, LABEL, GROUP, bins=4)
        gap = js.metrics.sup_gap(LABEL, SCORE, GROUP)
        pop = js.fit_population(SCORE, LABEL, GROUP)
        return [float(v) for v in (found.kl, fair.gaps[0], channel.gap, gap,
                                   pop.conditionals.loc.sum())]
"""


def run(code: str, *flags: str, **environment: str) -> str:
    """Run a script in a process of its own; its output, or a failure with its errors."""
    script = textwrap.dedent(COMMON) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, *flags, "-c", script],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_sixteen_threads_bad_rows_and_both_precisions_in_one_process():
    run("""
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(16) as pool:
        answers = [job.result() for job in [pool.submit(every_door) for _ in range(32)]]
    alone = every_door()
    assert all(np.allclose(a, alone, rtol=1e-6) for a in answers)

    # In the same process, NaN in one row of a batch, while debugging is off.
    pops = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * jnp.nan]), population())
    found = js.nearest_ideal_batch(pops)
    assert found.status.tolist() == [js.Status.CONVERGED, js.Status.BAD_INPUT]

    # And both precisions.
    narrow = js.nearest_ideal(population())
    jax.config.update("jax_enable_x64", True)
    wide = js.nearest_ideal(population(jnp.float64)).require()
    assert wide.kl.dtype == jnp.float64 and wide.verify().ok
    assert js.nearest_ideal(population(jnp.float32)).kl.dtype == jnp.float32
    jax.config.update("jax_enable_x64", False)
    again = js.nearest_ideal(population())
    assert again.kl.dtype == jnp.float32 and float(again.kl) == float(narrow.kl)
    """)


def test_processes_spawned_and_forked_after_import():
    # A fork copies locks but not the threads that hold them: only what JAX has not begun
    # is safe in it. To import jaxsteer begins nothing, so a child may use all of it.
    run("""
    import multiprocessing as mp, os
    child = os.fork()
    if child == 0:
        every_door()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with mp.get_context("spawn").Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1
    """)


def test_assertions_are_no_part_of_what_is_checked():
    out = run(
        """
    every_door_ = every_door()
    for call in (lambda: js.nearest_ideal(3), lambda: js.fit_population([], [], []),
                 lambda: js.balanced_quantiles(SCORE, LABEL, GROUP, class_weight=2)):
        try:
            call()
        except ValueError:
            print("refused")
    print(__debug__)
    """,
        "-O",
    )
    assert out.split() == ["refused"] * 3 + ["False"]


@pytest.mark.parametrize("mode", ["JAX_DEBUG_NANS", "JAX_DISABLE_JIT"])
def test_modes_for_debugging(mode):
    code = "print(every_door())"
    if mode == "JAX_DISABLE_JIT":  # step by step: the closed forms only
        code = "print(js.nearest_ideal(population()).require().kl)"
    run(code, **{mode: "1"})
