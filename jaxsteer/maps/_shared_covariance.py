"""The map between mixtures of a shared covariance, in closed form.

For any number of classes and features. Exact where the classes of each side have one
covariance (the model of linear discriminant analysis).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg import (
    cholesky_inverse,
    matmul,
    polar_orthogonal,
    qr,
    sqrtm_psd,
    svd,
    transpose,
)
from jaxsteer.maps._affine import AffineMap


def _significant(core: Array) -> tuple[Array, Array]:
    """Return ``u v'`` and ``v v'`` over the singular values that are not rounding."""
    _, s, vt = svd(jax.lax.stop_gradient(core))
    floor = 100 * jnp.finfo(core.dtype).eps * jnp.max(s)
    keep = ((s > floor) & (s > 0)).astype(core.dtype)
    projector = matmul(transpose(vt) * keep, vt)
    return matmul(polar_orthogonal(core), projector), projector


def tied_map(
    source_mean: Float[Array, "K d"],
    source_cov: Float[Array, "d d"],
    template_mean: Float[Array, "K d"],
    template_cov: Float[Array, "d d"],
    weights: Float[Array, " K"],
    *,
    allow_reflection: bool = False,
) -> AffineMap:
    """Map ``x -> T x + b`` that brings the template's classes nearest to one group's.

    Minimizes ``sum_i weights_i KL(N(T m_i + b, T M_i T') || N(source_mean_i,
    source_cov))``. With ``c`` the sum of weights, ``M`` and ``N`` the template's second
    moments and its cross moments with the source about the weighted means, and any
    roots ``S = L L'`` (source), ``M = R R'``: for ``C = L^-1 N R^-T`` the optimum is ``T
    = L (C + (C C' + 4 c I)^{1/2} O) R^{-1} / 2`` with ``O`` the orthogonal polar factor
    of ``C``. ``C`` has rank at most ``K - 1``; on its null space KL does not see ``O``,
    and the one that moves the data least is taken (a Procrustes problem). Without
    reflections ``O`` is a rotation. Cost O(K d^2 + d^3).

    Args:
        source_mean: ``[K, d]`` class means of the group that moves.
        source_cov: ``[d, d]`` its within-class covariance.
        template_mean: ``[K, d]`` class means of the template.
        template_cov: ``[d, d]`` mean, by weight, of the template's class covariances
            ``M_i``, which is all that is seen of them.
        weights: ``[K]`` new priors of the group's cells.
        allow_reflection: Allow ``det T < 0``.

    Returns:
        The map from the template to the group.
    """
    total = jnp.sum(weights)
    share = weights / total
    source_center, center = share @ source_mean, share @ template_mean
    roots = jnp.sqrt(weights)[:, None]
    source_side = roots * (source_mean - source_center)
    template_side = roots * (template_mean - center)
    second = total * template_cov + matmul(transpose(template_side), template_side)

    factors, inverses = cholesky_inverse(jnp.stack([source_cov, second]))
    sides = jnp.stack([source_side.T, template_side.T])
    left, back = factors[0], transpose(inverses[1])
    # C = p q' has low rank; an orthonormal basis of each side keeps the SVD small.
    bases, cores = qr(matmul(inverses, sides))
    core = matmul(cores[0], transpose(cores[1]))
    small_isometry, small_projector = _significant(core)
    isometry = matmul(bases[0], matmul(small_isometry, transpose(bases[1])))
    cross = matmul(bases[0], matmul(core, transpose(bases[1])))
    fixed = matmul(bases[1], matmul(small_projector, transpose(bases[1])))
    image = matmul(isometry, transpose(isometry))

    identity = jnp.eye(source_cov.shape[0], dtype=source_cov.dtype)
    pull = matmul(transpose(left), matmul(template_cov, back))
    free = matmul(identity - image, matmul(pull, identity - fixed))
    # Far above the free part, so that a turn that KL sees is never the cheapest.
    scale = 1 + jnp.linalg.norm(jax.lax.stop_gradient(free))
    size = jnp.linalg.norm(jax.lax.stop_gradient(cross))
    bound = cross / jnp.where(size > 0, size, 1.0)
    rotation = polar_orthogonal(free + scale * (isometry + bound), not allow_reflection)

    lift = 2 * jnp.sqrt(total)
    small = sqrtm_psd(
        matmul(core, transpose(core)) + lift**2 * jnp.eye(len(core), dtype=core.dtype)
    )
    small = small - lift * jnp.eye(len(core), dtype=core.dtype)
    root = lift * identity + matmul(bases[0], matmul(small, transpose(bases[0])))
    middle = 0.5 * (cross + matmul(root, rotation))
    weight = matmul(left, matmul(middle, inverses[1]))
    return AffineMap(weight, source_center - weight @ center)
