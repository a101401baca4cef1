"""Weighted moments that the baselines share: centered first, then multiplied.

Denominators are the sums of the weights (``1/n`` without weights), as in the papers of
these methods; there is no Bessel correction.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import (
    check_choice,
    check_codes,
    check_finite,
    check_range,
    check_same_length,
    check_weights,
    is_concrete,
)
from jaxsteer._types import Array, Float, Int
from jaxsteer.linalg import matmul
from jaxsteer.linalg._host_gram import host_gram, working_dtype


def as_rows(name: str, values: Any) -> Float[Array, "n d"]:
    """Return `values` as a floating matrix, or raise naming what came."""
    if np.ndim(values) != 2:
        raise ValueError(f"{name} must have shape [n, d], got {np.shape(values)}.")
    check_finite(name, values)
    check_range(name, values)
    array = jnp.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(jnp.result_type(float))
    # Sums of half precision numbers would be wrong in their second digit.
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def as_weights(weights: object, like: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Return checked weights in the dtype of `like`; ones where they are None."""
    if weights is None:
        return jnp.ones(like.shape[0], like.dtype)
    check_weights(weights)
    return jnp.asarray(weights, like.dtype)


def check_groups(
    x: object,
    group: object,
    *,
    weights: object,
    reference: int,
    n_groups: int | None,
    name: str = "group",
) -> tuple[Float[Array, "n d"], Int[Array, " n"], Float[Array, " n"], int]:
    """Validate the arguments that the per-group methods share."""
    rows = as_rows("x", x)
    check_same_length(**{"x": x, name: group}, weights=weights)
    size = check_codes(name, group, n_groups)
    check_choice("reference", reference, range(size))
    mass = as_weights(weights, rows)
    if is_concrete(group, mass):
        counts = np.bincount(np.asarray(group).ravel(), np.asarray(mass), size)
        empty = np.flatnonzero(counts <= 0)
        if len(empty):
            raise ValueError(
                f"{name} {int(empty[0])} has no rows of positive weight, so it has no "
                f"moments; leave it out: encode the groups that are present, "
                f"jaxsteer.encode_labels({name})."
            )
    return rows, jnp.asarray(group).astype(jnp.int32), mass, size


def group_means(
    x: Float[Array, "n d"],
    group: Int[Array, " n"],
    weights: Float[Array, " n"],
    size: int,
) -> Float[Array, "G d"]:
    """Weighted mean of each group; NaN for a group without weight."""
    # A common center first: sums of far-off values would lose digits in float32.
    center = jnp.mean(x, 0)
    mass = jax.ops.segment_sum(weights, group, size)
    total = jax.ops.segment_sum(weights[:, None] * (x - center), group, size)
    return center + total / mass[:, None]


@jax.jit
def group_covariances(
    x: Float[Array, "n d"],
    group: Int[Array, " n"],
    weights: Float[Array, " n"],
    means: Float[Array, "G d"],
) -> Float[Array, "G d d"]:
    """Weighted covariance of each group about its mean, O(G n d^2)."""
    centered = x - means[group]

    def covariance(code: Array):
        own = jnp.where(group == code, weights, 0)
        return matmul((own[:, None] * centered).T, centered) / jnp.sum(own)

    return jax.lax.map(covariance, jnp.arange(means.shape[0]))


def group_covariances_on_host(
    x: Any, group: Any, weights: Any, means: Any
) -> Float[Array, "G d d"]:
    """The same as :func:`group_covariances` for concrete values, in O(n d^2)."""
    dtype = working_dtype(x)
    x, group = np.asarray(x), np.asarray(group)
    root, means = np.sqrt(np.asarray(weights)), np.asarray(means)
    covs = []
    for code, mean in enumerate(means):
        rows = np.flatnonzero(group == code)

        def chunk(
            start: int,
            stop: int,
            buffer: np.ndarray,
            rows: np.ndarray = rows,
            mean: np.ndarray = mean,
        ):
            chosen = rows[start:stop]
            np.subtract(x[chosen], mean, out=buffer, casting="unsafe")
            buffer *= root[chosen, None]
            return buffer

        gram, _ = host_gram(chunk, len(rows), x.shape[1], dtype)
        covs.append(gram / np.sum(np.square(root[rows], dtype=np.float64)))
    return jnp.asarray(np.stack(covs), dtype)
