"""Wide batches of solves must end, also on two cores and with the default settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys, jax, jax.numpy as jnp, numpy as np
import jaxsteer as js

rng = np.random.default_rng(0)
shape = (512, 2, 2)
roots = rng.normal(size=(*shape, 10, 10)) / 10**0.5
cov = jnp.asarray(roots @ np.swapaxes(roots, -1, -2) + 0.3 * np.eye(10))
cells = js.MultivariateNormal(jnp.asarray(rng.normal(size=(*shape, 10))), cov)
priors = jnp.asarray(rng.dirichlet(2 * np.ones(4), 512).reshape(shape))
pops = js.Population(priors, cells)
solve = jax.jit(jax.vmap(lambda pop: js.nearest_ideal(pop, gauge=sys.argv[1])))
for _ in range(3):
    found = jax.block_until_ready(solve(pops))
assert bool(found.converged.all())
print("ended")
"""


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("gauge", ["tied", "symmetric"])
def test_a_wide_vmap_ends(gauge):
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
    }
    # The settings that would hide a hang must not be inherited.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "XLA_FLAGS"):
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, gauge],
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ended"
