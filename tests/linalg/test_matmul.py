from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.linalg import einsum, matmul, symmetrize, transpose

EPS = float(jnp.finfo(jnp.result_type(float)).eps)


@pytest.mark.parametrize(
    "product", [matmul, lambda a, b: einsum("...ij,...jk->...ik", a, b)]
)
def test_products_equal_numpy_and_ask_for_full_precision(product):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4, 5))
    found = product(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(found, a @ b, atol=50 * EPS)
    program = str(jax.make_jaxpr(product)(jnp.asarray(a), jnp.asarray(b)))
    assert "HIGHEST" in program


def test_transpose_and_symmetrize_act_on_the_last_axes():
    a = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(transpose(jnp.asarray(a)), a.transpose(0, 2, 1))
    square = np.random.default_rng(0).normal(size=(2, 3, 3))
    found = symmetrize(jnp.asarray(square))
    np.testing.assert_allclose(
        found, (square + square.transpose(0, 2, 1)) / 2, atol=4 * EPS
    )
    np.testing.assert_array_equal(found, transpose(found))
