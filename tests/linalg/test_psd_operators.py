"""Sums over classes, whichever way they are taken."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer.linalg import _psd_operators, einsum
from jaxsteer.linalg._psd_operators import DenseStack, LowRankStack, sum_between


def symmetric(rng, k, d):
    a = rng.normal(size=(k, d, d))
    return jnp.asarray(a + a.swapaxes(1, 2))


def test_a_loop_over_classes_sums_what_the_batch_does(monkeypatch, eps):
    rng = np.random.default_rng(0)
    left, right = DenseStack(symmetric(rng, 3, 4)), DenseStack(symmetric(rng, 3, 4))
    x = jnp.asarray(rng.normal(size=(4, 4)))
    expected = einsum("kij,jl,klm->im", left.matrices, x, right.matrices)
    for limit in (4, 5):  # the loop, then the batch
        monkeypatch.setattr(_psd_operators, "LARGE", limit)
        found, tangent = jax.jvp(
            lambda x: sum_between(left, x, right), (x,), (2 * jnp.ones_like(x),)
        )
        np.testing.assert_allclose(found, expected, atol=200 * eps)
        turned = einsum(
            "kij,jl,klm->im", left.matrices, 2 * jnp.ones_like(x), right.matrices
        )
        np.testing.assert_allclose(tangent, turned, atol=200 * eps)


def test_mixtures_are_weighted_sums(eps):
    rng = np.random.default_rng(1)
    weight = jnp.asarray(rng.uniform(size=3))
    low = LowRankStack(
        jnp.asarray(rng.uniform(1, 2, (3, 4))),
        jnp.asarray(rng.normal(size=(3, 4, 2))),
        jnp.asarray([1.0, -0.1, 0.5]),
    )
    for stack in (DenseStack(symmetric(rng, 3, 4)), low):
        expected = np.tensordot(weight, stack.matrices, 1)
        np.testing.assert_allclose(stack.mixture(weight), expected, atol=100 * eps)
        total = np.sum(stack.matrices, 0)
        np.testing.assert_allclose(stack.total(), total, atol=100 * eps)
