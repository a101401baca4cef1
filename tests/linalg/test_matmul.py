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
    a, b = rng.normal(size=(2, 8, 9)), rng.normal(size=(2, 9, 5))
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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_of_few_entries_are_those_of_the_library(dtype):
    rng = np.random.default_rng(0)
    shapes = [((3, 4, 5), (5, 6)), ((4, 4), (2, 1, 4, 4)), ((7, 7), (7, 7))]
    shapes += [((1, 3), (3, 1)), ((8, 8), (8, 8)), ((4,), (4, 5)), ((5, 4), (4,))]
    shapes += [((2, 0), (0, 3)), ((0, 2), (2, 2))]
    for left, right in shapes:
        a, b = (jnp.asarray(rng.normal(size=s), dtype) for s in (left, right))
        with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
            found = matmul(a, b)
        expected = np.matmul(np.asarray(a, float), np.asarray(b, float))
        assert found.dtype == a.dtype and found.shape == expected.shape
        eps = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(
            np.asarray(found, float), expected, rtol=4 * eps, atol=8 * eps
        )


def test_products_of_few_entries_have_derivatives_and_refuse_other_shapes():
    a, b = jnp.arange(12.0).reshape(3, 4), jnp.arange(8.0).reshape(4, 2)
    slope = jax.jacobian(matmul)(a, b)
    np.testing.assert_allclose(slope, np.einsum("ik,lj->ijkl", np.eye(3), b))
    with pytest.raises(ValueError, match="no product"):
        matmul(a, a)
