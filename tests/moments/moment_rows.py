"""Rows for the tests of ``fit_population``."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

EPS = float(jnp.finfo(jnp.result_type(float)).eps)


def some_rows(n=80, d=3, seed=0, cells=(2, 2)):
    """Return features, labels and groups with every cell of ``n / 4`` rows."""
    rng = np.random.default_rng(seed)
    K, G = cells
    label = np.arange(n) % K
    group = np.arange(n) // K % G
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + label[:, None]
    return np.asarray(jnp.asarray(x), float), label, group


def close(found, expected, factor=200):
    """Assert equality up to rounding of this precision."""
    scale = 1 + np.abs(np.asarray(expected)).max()
    np.testing.assert_allclose(found, expected, atol=factor * EPS * scale)
