"""Wide batches of solves must end, also on two cores and with the default settings."""

from __future__ import annotations

import pytest

from tests.programs import check_ends

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
solve = jax.jit(jax.vmap(lambda pop: js.nearest_ideal(pop, maps=sys.argv[1])))
for _ in range(3):
    found = jax.block_until_ready(solve(pops))
assert bool(found.converged.all())
print("ended")
"""


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("maps", ["shared_covariance", "pivot"])
def test_a_wide_vmap_ends(maps):
    check_ends(PROGRAM, maps, timeout=180, x64=True)
