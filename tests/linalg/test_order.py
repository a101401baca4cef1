"""What keeps factorizations from running side by side."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer.linalg import after


def test_every_part_of_a_stack_is_waited_for():
    def ordered(x, a, b):
        return after(x, jnp.stack([jnp.sin(a), jnp.cos(b)]))

    ones = jnp.ones(3)
    compiled = jax.jit(ordered).lower(ones, ones, ones).compile().as_text()
    assert "sine" in compiled and "cosine" in compiled


def test_values_do_not_cross():
    x = jnp.arange(3.0)
    for done in (jnp.nan, jnp.inf, -jnp.inf):
        np.testing.assert_array_equal(after(x, jnp.full(2, done)), x)
