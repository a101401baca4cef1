"""Programs with batched LAPACK calls must end, also on two cores."""

from __future__ import annotations

import pytest

from tests.programs import check_ends

FACTOR_AND_SOLVE = """
import jax, jax.numpy as jnp, numpy as np
from jaxsteer.linalg import cholesky_psd, whiten

@jax.jit
@jax.vmap
def program(a, b):
    found = cholesky_psd(a)
    return jnp.sum(whiten(found.factor, b) ** 2), found.jitter

rng = np.random.default_rng(0)
half = rng.normal(size=(1000, 64, 80)).astype(np.float32)
a = jnp.asarray(half @ half.transpose(0, 2, 1) / 80)
b = jnp.asarray(rng.normal(size=(1000, 64, 1)).astype(np.float32))
for _ in range(3):
    value, jitter = jax.block_until_ready(program(a, b))
assert bool(jnp.isfinite(value).all()) and bool((jitter == 0).all())
print("ended")
"""

TRANSPORT_GRADIENT = """
import jax, jax.numpy as jnp, numpy as np
from jaxsteer.maps import gaussian_transport

def trace(source, target):
    zero = jnp.zeros(source.shape[-1])
    return jnp.trace(gaussian_transport(zero, source, zero, target).weight)

rng = np.random.default_rng(0)
half = rng.normal(size=(2, 300, 48, 96)).astype(np.float32)
cov = jnp.asarray(half @ half.transpose(0, 1, 3, 2) / 96)
program = jax.jit(jax.vmap(jax.grad(trace)))
for _ in range(3):
    grad = jax.block_until_ready(program(cov[0], cov[1]))
assert bool(jnp.isfinite(grad).all())
print("ended")
"""


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    "program", [FACTOR_AND_SOLVE, TRANSPORT_GRADIENT], ids=["factor", "transport"]
)
def test_batched_program_ends(program):
    check_ends(program, timeout=150)
