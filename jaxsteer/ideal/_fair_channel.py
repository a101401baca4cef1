"""The fair channel: label-free steering by a group-wise affine map plus noise.

A deterministic label-free map cannot make every population ideal: where one group's
classes are better separated, only losing information in that group helps. In the tied
normal model the steered groups coincide if and only if they end with one Gram matrix of
whitened class means, which must lie below every group's own in the Loewner order.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, Float
from jaxsteer.families import DiagonalNormal, MultivariateNormal
from jaxsteer.ideal._priors import fixed_priors
from jaxsteer.ideal._steering import Steering
from jaxsteer.linalg import (
    einsum,
    matmul,
    polar_orthogonal,
    relative_entropy,
    transpose,
    whiten,
    whiten_transposed,
)
from jaxsteer.maps import AffineMap
from jaxsteer.population import Population
from jaxsteer.solvers import Status

SUBSPACES = ("discriminant", "all")


class _Discriminants(NamedTuple):
    """Coordinates in which both groups' class separations are diagonal.

    Attributes:
        frames: ``[G, K-1, d]`` rows that read the coordinates off whitened features,
            scaled so that every class mean is the same in both groups.
        kept: ``[G, K-1]`` squared lengths of those rows, the share of each
            coordinate's variance that is signal; the channel adds the rest as noise.
        means: ``[K-1, K]`` class means in these coordinates.
    """

    frames: Array
    kept: Array
    means: Array


def _contrasts(share: Float[Array, " K"]) -> Float[Array, "K m"]:
    """Orthonormal basis of the vectors orthogonal to the class shares."""
    k = share.shape[0]
    start = jnp.concatenate([share[:, None], jnp.eye(k, dtype=share.dtype)[:, 1:]], 1)
    basis, _ = jnp.linalg.qr(start)
    return basis[:, 1:]


def _discriminants(white: Array, share: Array) -> _Discriminants:
    contrast = _contrasts(share)
    reduced = matmul(white, contrast)
    gram = matmul(transpose(reduced), reduced)
    m = gram.shape[-1]
    total = gram[0] + gram[1]
    eps = float(jnp.finfo(total.dtype).eps)
    total = total + eps * (jnp.trace(total) / m + eps) * jnp.eye(m, dtype=total.dtype)
    factor = jnp.linalg.cholesky(total)
    inner = whiten(factor, transpose(whiten(factor, gram[0])))
    first, vectors = jnp.linalg.eigh(0.5 * (inner + transpose(inner)))
    first = jnp.clip(first, 0.0, 1.0)
    lengths = jnp.stack([first, 1.0 - first])
    least = jnp.min(lengths, 0)
    # Gram_a = C diag(lengths_a) C' with C = contrast factor vectors.
    change = matmul(factor, vectors)
    means = jnp.sqrt(least)[:, None] * matmul(transpose(change), transpose(contrast))
    sign = jnp.where(means[:, -1] < 0, -1.0, 1.0)
    present = lengths > 10 * eps
    scale = jnp.where(present, jnp.sqrt(least) / jnp.where(present, lengths, 1.0), 0.0)
    back = transpose(whiten_transposed(factor, vectors))
    frames = (sign * scale)[..., None] * matmul(back, transpose(reduced))
    kept = jnp.where(present, least / jnp.where(present, lengths, 1.0), 0.0)
    return _Discriminants(frames, kept, sign[:, None] * means)


def _whole_space(found: _Discriminants, factors: Array, reference: int) -> Array:
    """Extend the discriminant maps to all of the space, moving the rest the least."""
    size = jnp.sqrt(found.kept)
    positive = size > 0
    inverse = jnp.where(positive, 1 / jnp.where(positive, size, 1.0), 0.0)
    units = inverse[..., None] * found.frames
    home = units[reference]
    d = factors.shape[-1]
    identity = jnp.eye(d, dtype=factors.dtype)

    def extend(group):
        unit, frame, factor = group
        pull = matmul(transpose(factors[reference]), factor)
        free = matmul(
            identity - matmul(transpose(home), home),
            matmul(pull, identity - matmul(transpose(unit), unit)),
        )
        scale = 1 + jnp.linalg.norm(jax.lax.stop_gradient(free))
        turn = polar_orthogonal(free + 2 * scale * matmul(transpose(home), unit))
        return turn + matmul(transpose(home), frame - unit)

    inner = jax.lax.map(extend, (units, found.frames, factors))
    return matmul(factors[reference], inner)


def fair_channel(
    pop: Population, subspace: str = "discriminant", *, reference: int = 1
) -> Steering:
    """Make two groups coincide without labels: a linear map and noise for each.

    Exactly fair at every cost in the tied normal model (each group's classes share one
    covariance): there the steered features have one law given the class, whatever the
    group. The cells' own covariances are pooled; the result's `residual`, the largest
    KL divergence of a steered cell from its target, tells how far the population is
    from that model. Cost O(K d^2 + d^3).

    Args:
        pop: A population of two groups with full or diagonal normal cells.
        subspace: "discriminant" keeps the ``K - 1`` coordinates that tell the classes
            apart, so that no learner can read the group off the others; "all" keeps
            the rest of the space too, in the reference group's coordinates.
        reference: The group whose coordinates "all" uses.

    Returns:
        A steering with noise, `transport` of which needs a key; its priors are
        reweighed, so that demographic parity follows with `cell_weights`. `kl` compares
        the target with the steered population without its noise.

    Raises:
        ValueError: If there are not two groups, or fewer features than ``K - 1`` for
            "all", or the family is not normal.

    Example:
        >>> import jax, jax.numpy as jnp, jaxsteer as js
        >>> mean = jnp.array([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [3.0, 0.0]]])
        >>> cells = js.MultivariateNormal(mean, jnp.tile(jnp.eye(2), (2, 2, 1, 1)))
        >>> channel = js.fair_channel(js.Population(jnp.full((2, 2), 0.25), cells))
        >>> [round(v, 3) for v in channel.noise[:, 0, 0].tolist()]
        [0.0, 0.943]

    References:
        Blackwell's order for normal experiments with one covariance: the design's
        MATH section 3.5.
    """
    check_choice("subspace", subspace, SUBSPACES)
    cells = pop.conditionals
    cells = cells.to_dense() if isinstance(cells, DiagonalNormal) else cells
    if not isinstance(cells, MultivariateNormal):
        raise ValueError(
            f"fair_channel needs normal cells over features [n, d], got "
            f"{type(cells).__name__}; fit x of shape [n, d] with family='normal'."
        )
    n_classes, n_groups = pop.priors.shape
    if n_groups != 2:
        raise ValueError(
            f"fair_channel takes two groups, got {n_groups}; for a binary label "
            f"jaxsteer.meet_channel takes any number."
        )
    if reference not in (0, 1):
        raise ValueError(f"reference={reference!r} is not one of the groups 0, 1.")
    d = cells.mean.shape[-1]
    if subspace == "all" and d < n_classes - 1:
        raise ValueError(
            f"subspace='all' needs at least {n_classes - 1} features for {n_classes} "
            f"classes, got {d}; use subspace='discriminant'."
        )
    share = jnp.sum(pop.priors, 1)
    share = share / jnp.sum(share)
    pooled = einsum("k,kaij->aij", share, cells.cov)
    factors = jnp.linalg.cholesky(pooled)
    center = einsum("k,kad->ad", share, cells.mean)
    centered = jnp.moveaxis(cells.mean - center, 0, -1)
    found = _discriminants(whiten(factors, centered), share)
    noise = _diagonal(jnp.sqrt(1 - found.kept))
    if subspace == "discriminant":
        read = found.frames
        home = jnp.zeros(n_classes - 1, share.dtype)
        template = MultivariateNormal(
            found.means.T,
            jnp.broadcast_to(
                jnp.eye(n_classes - 1, dtype=share.dtype), (n_classes, *noise.shape[1:])
            ),
        )
    else:
        read = _whole_space(found, factors, reference)
        home = center[reference]
        kept = jnp.sqrt(found.kept[reference])
        inverse = jnp.where(kept > 0, 1 / jnp.where(kept > 0, kept, 1.0), 0.0)
        units = inverse[:, None] * found.frames[reference]
        lift = matmul(factors[reference], transpose(units))
        noise = _square(matmul(lift, noise), d)
        template = MultivariateNormal(
            home + matmul(lift, found.means).T,
            jnp.broadcast_to(pooled[reference], (n_classes, d, d)),
        )
    # weight = read L^-1, without forming the inverse.
    weight = transpose(whiten_transposed(factors, transpose(read)))
    maps = AffineMap(weight, home - matmul(weight, center[..., None])[..., 0])
    return _steering(pop, cells, template, maps, noise)


def _diagonal(values: Array) -> Array:
    return values[..., None] * jnp.eye(values.shape[-1], dtype=values.dtype)


def _square(factors: Array, d: int) -> Array:
    """Pad ``[G, d, m]`` noise factors with zero columns to ``[G, d, d]``."""
    return jnp.pad(factors, ((0, 0), (0, 0), (0, d - factors.shape[-1])))


def _steering(pop, cells, template, maps, noise) -> Steering:
    weights = fixed_priors(pop.priors, "reweigh", 1)
    shape = pop.priors.shape
    target = Population(
        weights,
        jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf[:, None], shape + leaf.shape[1:]),
            template,
        ),
    )
    quiet = cells.pushforward(jax.tree.map(lambda leaf: leaf[None], maps))
    noisy = quiet.cov + matmul(noise, transpose(noise))
    # One call for both, with and without the noise.
    laws = MultivariateNormal(
        jnp.stack([quiet.mean, quiet.mean]), jnp.stack([quiet.cov, noisy])
    )
    silent, delivered = target.conditionals.kl(laws)
    prior_kl = jnp.sum(relative_entropy(weights, pop.priors))
    # A channel that drops a coordinate altogether is infinitely far without its noise.
    silent = jnp.where(jnp.isnan(silent) & jnp.isfinite(delivered), jnp.inf, silent)
    feature_kl = jnp.sum(weights * silent)
    residual = jnp.max(delivered)
    finite = jnp.isfinite(residual) & jnp.all(jnp.isfinite(maps.weight))
    usable = jnp.all(pop.priors > 0) & jnp.all(jnp.isfinite(cells.mean))
    status = jnp.where(finite, Status.CONVERGED, Status.NONFINITE)
    return Steering(
        source=pop,
        target=target,
        group_maps=maps,
        kl=prior_kl + feature_kl,
        prior_kl=prior_kl,
        feature_kl=feature_kl,
        status=jnp.where(usable, status, Status.BAD_INPUT).astype(jnp.int32),
        residual=residual,
        steps=jnp.zeros((), jnp.int32),
        noise=noise,
    )
