"""The moments that LEACE solves for: correlations of features, and with concepts."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_finite, check_range
from jaxsteer._types import Array, Bool, Float
from jaxsteer.baselines._host_gram import host_gram, origin_of, working_dtype
from jaxsteer.linalg import matmul


class ConceptMoments(NamedTuple):
    """Standardized second moments of features and concepts.

    Attributes:
        mean: ``[d]`` means of the features.
        scale: ``[d]`` deviations of the features, 1 for constant ones.
        varies: ``[d]`` which features are not constant.
        corr: ``[d, d]`` correlations, 0 for constant features.
        cross: ``[d, k]`` correlations with the concepts.
        rows: ``[]`` Kish's effective number of rows.
    """

    mean: Float[Array, " d"]
    scale: Float[Array, " d"]
    varies: Bool[Array, " d"]
    corr: Float[Array, "d d"]
    cross: Float[Array, "d k"]
    rows: Float[Array, ""]


def moments_of_rows(
    rows: Float[Array, "n d"], concepts: Float[Array, "n k"], mass: Float[Array, " n"]
) -> ConceptMoments:
    """Take the moments in a form that can be traced and differentiated."""
    share = mass / jnp.sum(mass)
    mean, scale, standard, varies = _standardize(rows, share)
    concept = _standardize(concepts, share)[2]
    weighted = (share[:, None] * standard).T
    return ConceptMoments(
        mean=mean,
        scale=scale,
        varies=varies,
        corr=matmul(weighted, standard),
        cross=matmul(weighted, concept),
        rows=1 / jnp.sum(share**2),
    )


def moments_on_host(
    x: Any, concepts: Any, codes: bool, size: int, weights: Any
) -> ConceptMoments:
    """Take the moments of concrete rows in one pass over them.

    Args:
        x: ``[n, d]`` features.
        concepts: ``[n]`` codes, or ``[n, k]`` real concepts.
        codes: Whether they are codes.
        size: Number of codes, or of concepts.
        weights: ``[n]`` or None.
    """
    dtype = working_dtype(x)
    x = np.asarray(x)
    concepts = np.asarray(concepts, np.int64 if codes else None)
    n, d = x.shape
    root = None if weights is None else np.sqrt(np.asarray(weights, dtype))
    origin = origin_of(x).astype(dtype)
    z_origin = np.zeros(0) if codes else origin_of(concepts).astype(dtype)

    as_given = root is None and x.dtype == dtype and not origin.any()

    def chunk(start: int, stop: int, buffer: np.ndarray) -> np.ndarray:
        if as_given:
            return x[start:stop]
        with np.errstate(over="ignore"):  # what overflows is found in the moments
            np.subtract(x[start:stop], origin, out=buffer, casting="unsafe")
        if root is not None:
            buffer *= root[start:stop, None]
        return buffer

    def right(start: int, stop: int) -> np.ndarray:
        # The last column makes the sums, from which the means follow.
        block = np.zeros((stop - start, size + 1), dtype)
        if codes:
            block[np.arange(stop - start), concepts[start:stop]] = 1
        else:
            block[:, :-1] = concepts[start:stop] - z_origin
        block[:, -1] = 1
        return block if root is None else block * root[start:stop, None]

    gram, cross = host_gram(chunk, n, d, dtype, right)
    if not np.isfinite(gram).all():
        check_finite("x", x)
        check_range("x", x)
        raise ValueError(
            f"x overflows {dtype} in its second moments; standardize the features first."
        )
    sums, powers = np.zeros(size + 1), np.zeros(size + 1)
    for start in range(0, n, 65536):
        block = right(start, min(start + 65536, n)).astype(np.float64)
        sums += np.einsum("ij,i->j", block, block[:, -1])
        powers += np.einsum("ij,ij->j", block, block)
    mass = sums[-1]
    shift, z_mean = cross[:, -1] / mass, sums[:-1] / mass
    squares = n if weights is None else np.sum(np.asarray(weights, np.float64) ** 2)
    return standardized(
        origin + shift,
        gram / mass - np.outer(shift, shift),
        _without_redundant(
            cross[:, :-1] / mass - np.outer(shift, z_mean), z_mean, codes
        ),
        powers[:-1] / mass - z_mean**2,
        # Constants leave rounding of the size of their level.
        level=np.abs(z_mean) if codes else np.abs(z_mean + z_origin),
        rows=mass**2 / squares,
        dtype=dtype,
    )


def _without_redundant(cross: np.ndarray, share: np.ndarray, codes: bool) -> np.ndarray:
    """One-hot columns sum to one: without the most frequent they span the same space."""
    if not codes:
        return cross
    return np.where(np.arange(len(share)) == np.argmax(share), 0, cross)


def standardized(
    mean: np.ndarray,
    cov: np.ndarray,
    cross: np.ndarray,
    variance: np.ndarray,
    *,
    level: np.ndarray,
    rows: float,
    dtype: Any,
) -> ConceptMoments:
    """Bring float64 moments to the scale of correlations and to their precision.

    Args:
        mean: ``[d]`` means of the features.
        cov: ``[d, d]`` covariance of the features.
        cross: ``[d, k]`` covariances of features and concepts.
        variance: ``[k]`` variances of the concepts.
        level: ``[k]`` sizes of the concepts' means.
        rows: Effective number of rows.
        dtype: Precision that the moments were taken in, and of the result.
    """
    eps = float(np.finfo(dtype).eps)

    def deviation(variance, level):
        varies = variance > (4 * eps * level) ** 2
        return varies, np.where(varies, np.sqrt(np.where(varies, variance, 1)), 1)

    varies, scale = deviation(np.diag(cov), np.abs(mean))
    z_varies, z_scale = deviation(variance, level)
    corr = np.where(varies[:, None] & varies, cov / scale / scale[:, None], 0)
    cross = np.where(varies[:, None] & z_varies, cross / scale[:, None] / z_scale, 0)
    return ConceptMoments(
        mean=jnp.asarray(mean, dtype),
        scale=jnp.asarray(scale, dtype),
        varies=jnp.asarray(varies),
        corr=jnp.asarray(corr, dtype),
        cross=jnp.asarray(cross, dtype),
        rows=jnp.asarray(rows, dtype),
    )


def one_hot(codes: Any, size: int, share: Float[Array, " n"]) -> Float[Array, "n k"]:
    """Codes as one-hot columns, without the redundant one."""
    hot = jax.nn.one_hot(jnp.asarray(codes, jnp.int32), size, dtype=share.dtype)
    # Without the most frequent class rounding cannot pass for a further direction.
    largest = jnp.argmax(matmul(share, hot))
    return jnp.where(jnp.arange(size) == largest, 0, hot)


def _standardize(rows, share):
    """Mean, deviation (1 for constant columns), standardized rows, what varies."""
    rough = jnp.mean(rows, 0)
    mean = rough + matmul(share, rows - rough)
    centered = rows - mean
    variance = matmul(share, centered**2)
    # A constant column leaves rounding of the size of its mean, and no more.
    eps = jnp.finfo(rows.dtype).eps
    varies = variance > (4 * eps * mean) ** 2
    scale = jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 1)
    return mean, scale, jnp.where(varies, centered / scale, 0), varies
