"""``is_ideal`` and ``ideal_residual``: whether, and by how much, a population is fair.

A population is ideal for every cost matrix if its groups are images of one template
under invertible maps, with priors that are a product (the orbit condition).
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from jaxsteer._compilation import broadcasting, jit_for_few_calls
from jaxsteer._errors import is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Bool, Float
from jaxsteer.audit._bayes_rule import base_cells
from jaxsteer.families import DiagonalNormal, MultivariateNormal, Normal
from jaxsteer.ideal import nearest_ideal
from jaxsteer.linalg import (
    cholesky,
    cholesky_inverse,
    eigh,
    einsum,
    roots_psd,
    symmetrize,
    transpose,
    whiten,
)
from jaxsteer.linalg._diagonalization import generic_mixture
from jaxsteer.population import Population, check_population
from jaxsteer.solvers import Status


def canonical_cells(cells: MultivariateNormal) -> MultivariateNormal:
    """Move each group to axes that its own configuration of classes determines.

    The mean of the class covariances becomes the identity, and the axes are those of a
    generic combination of class covariances and products of means, their signs chosen
    by the means. Groups that are affine images of each other then coincide up to
    rounding, unless a symmetry of the configuration leaves axes or signs free. KL
    divergences within a group do not change.

    Args:
        cells: Batch ``[K, G]``.

    Returns:
        The cells in the new coordinates. Cost O(G K d^3).
    """
    _, inverse = cholesky_inverse(jnp.mean(cells.cov, 0))
    center = cells.mean - jnp.mean(cells.mean, 0)
    flat = MultivariateNormal(
        einsum("gde,kge->kgd", inverse, center), _turned(inverse, cells.cov)
    )

    by_group = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), flat)
    mix = generic_mixture(by_group.cov, by_group.mean)
    axes = transpose(eigh(mix)[1])
    mean, cov = einsum("gde,kge->kgd", axes, flat.mean), _turned(axes, flat.cov)
    signs = _signs(mean, cov)
    return MultivariateNormal(
        signs * mean, signs[..., None] * symmetrize(cov) * signs[..., None, :]
    )


def _turned(turn: Float[Array, "G d d"], cov: Float[Array, "K G d d"]) -> Array:
    return einsum("gdb,kgbc,gec->kgde", turn, cov, turn)


def _signs(mean: Array, cov: Array) -> Float[Array, "G d"]:
    """Signs of the axes, by the largest of several vectors' entries along each."""
    moved = einsum("kgde,jge->kjgd", cov, mean).reshape(-1, *mean.shape[1:])
    by_mean = _sign_of_largest(jnp.concatenate([mean, moved]))
    # Where the means are silent on an axis, its covariances with the first axis speak.
    first = cov[..., 0] * by_mean[:, :1]
    own = jnp.arange(mean.shape[-1]) == 0
    weak = jnp.max(jnp.abs(mean), 0) < jnp.finfo(mean.dtype).eps ** 0.5
    return jnp.where(weak & ~own, _sign_of_largest(first), by_mean)


def _sign_of_largest(vectors: Float[Array, "m G d"]) -> Float[Array, "G d"]:
    largest = jnp.argmax(jnp.abs(vectors), 0, keepdims=True)
    entries = jnp.take_along_axis(vectors, largest, 0)[0]
    return jnp.where(entries < 0, -1.0, 1.0).astype(vectors.dtype)


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class IdealResidual:
    """How far a population is from ideal.

    The first three do not change under invertible affine maps of a group's features;
    they are 0 for orbits, and for these only. The others are the conditions of the
    paper, each relative to class 0 of the same group and then to group 0. For one
    feature and two classes these are necessary and sufficient, up to a reflection,
    which is allowed for; for more features they are only sufficient, since they fix the
    maps to be symmetric roots.

    Attributes:
        kl: ``[]`` KL divergence, in nats, from the nearest ideal population found with
            group 0 held still to this one. At least that of the nearest; see
            :func:`is_ideal`.
        prior_kl: ``[]`` its prior part.
        feature_kl: ``[]`` its feature part.
        paper_mean: ``[K, G]`` condition 1, of means: ``S_0a^{-1/2} (mu_ia - mu_0a)``
            minus that of group 0; its length for several features.
        paper_spread: ``[K, G]`` condition 2, of covariances: the log-ratio of standard
            deviations ``log(s_ia / s_0a)`` minus that of group 0; for several features
            the norm of the difference of ``S_0a^{1/2} S_ia^{-1} S_0a^{1/2}``.
        paper_prior: ``[K, G]`` condition 3: ``log(q_ia / q_0a)`` minus that of group 0.
    """

    kl: Float[Array, ""]
    prior_kl: Float[Array, ""]
    feature_kl: Float[Array, ""]
    paper_mean: Float[Array, "K G"] | None
    paper_spread: Float[Array, "K G"] | None
    paper_prior: Float[Array, "K G"]


@broadcasting
def is_ideal(pop: Population, atol: float | None = None) -> Bool[Array, ""]:
    """Tell whether a population is ideal: fair under the Bayes rule of every cost.

    Whether the KL divergence from the nearest ideal population (the orbit condition,
    reflections allowed) is at most `atol` nats. For multivariate normals the search is
    started from the axes that each group's own classes determine, where the groups of
    an ideal population coincide. A "no" can be wrong only where a symmetry hides these
    axes (say three classes with equal means); a "yes" is right up to `atol`.

    Args:
        pop: A population of two or more groups.
        atol: Tolerance in nats; None is 200 units of rounding. Covariances of condition
            ``c`` are themselves known to ``c`` units of rounding only, so allow the
            square of that where it is more.

    Returns:
        ``[]`` bool; False where a parameter is not in its domain, or a prior not positive.

    Raises:
        ValueError: If the shapes disagree, there are fewer than two groups, or `atol` is
            no number from 0 up.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> loc = jnp.array([[0.0, 5.0], [1.0, 3.0]])
        >>> def pop(scale):
        ...     return js.Population(jnp.full((2, 2), 0.25), js.Normal(loc, scale))
        >>> bool(js.is_ideal(pop(jnp.array([[1.0, 2.0], [1.0, 2.0]]))))
        True
        >>> bool(js.is_ideal(pop(jnp.ones((2, 2)))))
        False

    References:
        "On Optimal Steering to Achieve Exact Fairness" (NeurIPS 2025, arXiv 2509.15759),
        definition 3.1 and proposition 3.3.
    """
    check_population(pop)
    if atol is None:
        atol = 200 * float(jnp.finfo(pop.priors.dtype).eps)
    if is_concrete(atol) and not atol >= 0:
        raise ValueError(f"atol={atol} must be a number of nats, 0 or more.")
    return _nearest_kl(pop)[0] <= atol


@broadcasting
def ideal_residual(pop: Population) -> IdealResidual:
    """Measure how far a population is from ideal, by the orbit and by the paper.

    Args:
        pop: A population of two or more groups.

    Returns:
        The residual. The paper's conditions on features are None for families that are
        no normals seen through a bijection. Cost: one :func:`jaxsteer.nearest_ideal`
        and O(K G d^3).

    Raises:
        ValueError: If the shapes disagree or there are fewer than two groups.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> cells = js.Normal(jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.ones((2, 2)))
        >>> found = js.ideal_residual(js.Population(jnp.full((2, 2), 0.25), cells))
        >>> found.paper_mean[1].tolist(), found.paper_spread[1].tolist()
        ([0.0, 1.0], [0.0, 0.0])

    References:
        arXiv 2509.15759, propositions 3.2 and 3.3.
    """
    check_population(pop)
    kl, prior_kl, feature_kl = _nearest_kl(pop)
    mean, spread = _paper_conditions(pop)
    log_ratio = jnp.log(pop.priors) - jnp.log(pop.priors[:1])
    return IdealResidual(
        kl=kl,
        prior_kl=prior_kl,
        feature_kl=feature_kl,
        paper_mean=mean,
        paper_spread=spread,
        paper_prior=log_ratio - log_ratio[:, :1],
    )


@partial(jit_for_few_calls, static_argnames=())
def _nearest_kl(pop: Population) -> tuple[Array, Array, Array]:
    law = base_cells(pop.conditionals).law
    if isinstance(law, MultivariateNormal):
        law = canonical_cells(law)
    found = nearest_ideal(
        Population(pop.priors, law),
        reference=0,
        allow_reflection=True,
        differentiate="none",
    )
    # A formula may have a value where there is no law.
    unusable = found.status == Status.BAD_INPUT
    parts = (found.kl, found.prior_kl, found.feature_kl)
    kl, prior_kl, feature_kl = (jnp.where(unusable, jnp.nan, part) for part in parts)
    return kl, prior_kl, feature_kl


@jax.jit
def _paper_conditions(pop: Population) -> tuple[Array | None, Array | None]:
    law = base_cells(pop.conditionals).law
    if isinstance(law, Normal):
        log_scale = jnp.log(law.scale) - jnp.log(law.scale[:1])
        lengths = (law.loc - law.loc[:1]) / law.scale[:1]
        own = lengths[:, :1]
        plain, mirrored = lengths - own, -lengths - own
        shorter = jnp.max(jnp.abs(plain), 0) <= jnp.max(jnp.abs(mirrored), 0)
        return jnp.where(shorter, plain, mirrored), log_scale - log_scale[:, :1]
    if isinstance(law, DiagonalNormal):
        lengths = (law.loc - law.loc[:1]) / law.scale[:1]
        ratios = jnp.square(law.scale[:1] / law.scale)
        return _norm(lengths - lengths[:, :1], 1), _norm(ratios - ratios[:, :1], 1)
    if isinstance(law, MultivariateNormal):
        return _dense_conditions(law)
    return None, None


def _dense_conditions(law: MultivariateNormal) -> tuple[Array, Array]:
    root, inverse = jax.vmap(roots_psd)(law.cov[0])
    lengths = einsum("gde,kge->kgd", inverse, law.mean - law.mean[:1])
    # R S^-1 R = (L^-1 R)' (L^-1 R).
    half = whiten(cholesky(law.cov), root)
    ratios = einsum("kgdb,kgdc->kgbc", half, half)
    return _norm(lengths - lengths[:, :1], 1), _norm(ratios - ratios[:, :1], 2)


def _norm(x: Array, axes: int) -> Array:
    return jnp.sqrt(jnp.sum(x * x, tuple(range(-axes, 0))))
