"""Responsibilities to start EM from."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_choice, check_codes
from jaxsteer._types import Array, Float, Key
from jaxsteer.linalg import matmul, transpose

STARTS = ("partition", "labels")
SURE = 0.9  # how much of a row its first group gets


def soften(labels: Array, n_groups: int, dtype: Any) -> Float[Array, "G n"]:
    """Responsibilities that mostly, not wholly, follow the labels."""
    hot = jax.nn.one_hot(labels, n_groups, dtype=dtype, axis=0)
    return SURE * hot + (1 - SURE) / n_groups


@partial(jax.jit, static_argnames=("kind", "n_groups", "restarts"))
def draw_starts(
    key: Key[Array, ""],
    rows: Float[Array, "n m"],
    *,
    kind: str,
    n_groups: int,
    restarts: int,
) -> Float[Array, "R G n"]:
    """Draw starts: cells around random rows of the membership columns, or labels.

    Cells follow the columns that tell the groups apart, so that the first regressions
    differ; labels drawn for each row leave every group with nearly the pooled fit.
    """
    n = rows.shape[0]

    def one(key):
        if kind == "labels":
            labels = jax.random.randint(key, (n,), 0, n_groups)
        else:
            centers = rows[jax.random.choice(key, n, (n_groups,), replace=False)]
            far = jnp.sum(centers**2, 1)[:, None]
            labels = jnp.argmin(far - 2 * matmul(centers, transpose(rows)), 0)
        return soften(labels, n_groups, rows.dtype)

    return jax.vmap(one)(jax.random.split(key, restarts))


def given_start(init: Any, n: int, n_groups: int, dtype: Any) -> Float[Array, "1 G n"]:
    """A start from labels ``[n]`` or responsibilities ``[n, G]``.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(init, str):
        check_choice("init", init, STARTS)
    shape = np.shape(init)
    if shape == (n,):
        check_codes("init", init, n_groups)
        return soften(jnp.asarray(init), n_groups, dtype)[None]
    if shape != (n, n_groups):
        raise ValueError(
            f"init must be 'partition', 'labels', group codes [n] or responsibilities "
            f"[n, G] = [{n}, {n_groups}], got shape {list(shape)}."
        )
    theta = jnp.asarray(init, dtype)
    total = jnp.sum(theta, 1, keepdims=True)
    return jnp.swapaxes(theta / jnp.where(total > 0, total, 1.0), 0, 1)[None]
