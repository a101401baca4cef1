"""Steering without group labels: responsibilities in the place of groups."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import (
    check_choice,
    check_codes,
    check_finite,
    check_same_length,
    check_weights,
    is_concrete,
)
from jaxsteer._labels import cell_codes
from jaxsteer._types import Array, ArrayLike, Float, Int, Key
from jaxsteer.families import DiagonalNormal, MultivariateNormal
from jaxsteer.linalg import matmul, symmetrize, transpose
from jaxsteer.moments import CellMoments, shrink
from jaxsteer.population import Population
from jaxsteer.steering import Steering

COVARIANCES = ("full", "tied", "diagonal")


def fit_soft_population(
    x: Float[ArrayLike, "n d"],
    label: Int[ArrayLike, " n"],
    responsibilities: Float[ArrayLike, "n G"],
    *,
    shrinkage: str | float | None = "oas",
    weights: Float[ArrayLike, " n"] | None = None,
    covariance: str = "full",
    n_classes: int | None = None,
) -> Population:
    """Fit normal cells where a row belongs to every group by a share.

    As :func:`jaxsteer.fit_population` on rows repeated once for each group with the
    responsibilities as weights, without the copies; one-hot responsibilities give its
    result. Responsibilities given all of a row, its label included, make the moments
    consistent where the mixture is right. Cost O(n d^2 K G); holds O(n d).

    Args:
        x: ``[n, d]`` features, finite.
        label: ``[n]`` class codes 0..K-1.
        responsibilities: ``[n, G]``, at least 0; the rows need not sum to 1, what they
            sum to is a weight.
        shrinkage: "oas", "ledoit-wolf", an intensity in [0, 1] or None, of "full" and
            "tied". Kish's effective sample sizes count.
        weights: ``[n]`` sample weights.
        covariance: "full" for each cell, "tied" for each group, or "diagonal".
        n_classes: ``K``; None takes the largest code plus one.

    Returns:
        The population, ready for :func:`jaxsteer.nearest_ideal` or
        :func:`jaxsteer.gaussian_channel`.

    Raises:
        ValueError: If shapes or values are unusable, or a cell has next to no mass.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[0.0], [2.0], [5.0], [7.0]])
        >>> half = jnp.full((4, 2), 0.5)
        >>> pop = fit_soft_population(x, jnp.array([0, 0, 1, 1]), half)
        >>> pop.conditionals.mean[:, 0, 0].tolist(), pop.priors.tolist()
        ([1.0, 6.0], [[0.25, 0.25], [0.25, 0.25]])
    """
    check_choice("covariance", covariance, COVARIANCES)
    if np.ndim(x) != 2 or np.ndim(responsibilities) != 2:
        raise ValueError(
            f"x and responsibilities must have shapes [n, d] and [n, G], got "
            f"{list(np.shape(x))} and {list(np.shape(responsibilities))}."
        )
    check_same_length(
        x=x, label=label, responsibilities=responsibilities, weights=weights
    )
    check_finite("x", x)
    check_finite("responsibilities", responsibilities)
    if is_concrete(responsibilities) and (np.asarray(responsibilities) < 0).any():
        raise ValueError("responsibilities must be at least 0.")
    n_classes = check_codes("label", label, n_classes)
    x = jnp.asarray(x)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    theta = jnp.asarray(responsibilities, x.dtype)
    if weights is not None:
        check_weights(weights)
        theta = theta * jnp.asarray(weights, x.dtype)[:, None]
    n_groups = theta.shape[1]
    moments = _soft_moments(
        x,
        jnp.asarray(label),
        theta,
        n_classes=n_classes,
        tied=covariance == "tied",
    )
    mass = moments.mass
    if is_concrete(mass):
        _check_mass(np.asarray(mass), n_groups, x.shape[1], shrinkage, covariance)
    priors = (mass / jnp.sum(mass)).reshape(n_classes, n_groups)
    mean = moments.mean.reshape(n_classes, n_groups, -1)
    if covariance == "diagonal":
        variance = jnp.diagonal(moments.cov, axis1=-2, axis2=-1)
        return Population(
            priors, DiagonalNormal(mean, jnp.sqrt(variance).reshape(mean.shape))
        )
    cov = shrink(moments, shrinkage)
    return Population(
        priors, MultivariateNormal(mean, cov.reshape(*mean.shape, x.shape[1]))
    )


@partial(jax.jit, static_argnames=("n_classes", "tied"))
def _soft_moments(
    x: Array, label: Array, theta: Array, *, n_classes: int, tied: bool
) -> CellMoments:
    """Moments of all cells, one after another; tied ones repeat by class."""
    n_groups, d = theta.shape[1], x.shape[1]
    x = x - (origin := jnp.mean(x, 0))

    def one(code: Array):
        own = theta[:, code % n_groups]
        share = jnp.where(label == code // n_groups, own, 0.0)
        mass = jnp.sum(share)
        return mass, matmul(share, x) / jnp.where(mass > 0, mass, 1.0)

    codes = jnp.arange(n_classes * n_groups)
    mass, mean = jax.lax.map(one, codes)

    def spread(code: Array):
        """Moments around the means of one cell, or of all cells of one group."""
        share = theta[:, code % n_groups]
        if tied:
            rows = x - mean[cell_codes(label, code % n_groups, n_groups)]
        else:
            share = jnp.where(label == code // n_groups, share, 0.0)
            rows = x - mean[code]
        total = jnp.sum(share)
        safe = jnp.where(total > 0, total, 1.0)
        cov = symmetrize(matmul(transpose(rows) * share, rows)) / safe
        norms = jnp.sum(rows**2, -1)
        level = jnp.trace(cov) / d
        norms = norms / jnp.where(level > 0, level, 1.0)
        squares = jnp.sum(share**2)
        count = total**2 / jnp.where(squares > 0, squares, 1.0)
        return count, cov, jnp.sum(share * norms**2) / safe

    count, cov, fourth = jax.lax.map(spread, codes[:n_groups] if tied else codes)
    repeats = n_classes if tied else 1
    return CellMoments(
        mass=mass,
        effective_count=jnp.tile(count, repeats),
        mean=mean + origin,
        cov=jnp.tile(cov, (repeats, 1, 1)),
        fourth=jnp.tile(fourth, repeats),
    )


def _check_mass(
    mass: np.ndarray,
    n_groups: int,
    d: int,
    shrinkage: str | float | None,
    covariance: str,
) -> None:
    least = 1.0
    if shrinkage is None and covariance != "diagonal":
        least = d + 1.0
        mass = mass.reshape(-1, n_groups).sum(0) if covariance == "tied" else mass
    short = np.flatnonzero(mass < least * (1 - 1e-5))
    if len(short):
        names = [
            f"group {c}"
            if len(mass) == n_groups
            else f"class {c // n_groups} in group {c % n_groups}"
            for c in short
        ]
        listed = ", ".join(
            f"{name} ({mass[c]:.3g})" for name, c in zip(names[:5], short, strict=False)
        )
        raise ValueError(
            f"{len(short)} cells have a mass below {least:g} rows: {listed}; use fewer "
            "latent groups, or shrinkage."
        )


def soft_transport(
    steering: Steering,
    x: Float[ArrayLike, "n d"],
    responsibilities: Float[ArrayLike, "n G"],
    *,
    key: Key[Array, ""] | None = None,
    sample: bool = False,
    deterministic: bool = False,
) -> Array:
    """Steer rows whose group is known by its probabilities only.

    By default each row goes to the mean of its images, ``sum_a r_a T_a(x)``. With
    `sample` its group is drawn first, which gives the images the law that the
    population has, and is what the promise of a steering is about; two equal rows can
    then come out differently.

    Args:
        steering: What :func:`jaxsteer.nearest_ideal` or :func:`jaxsteer.gaussian_channel`
            returned for a soft population.
        x: ``[n, d]`` features.
        responsibilities: ``[n, G]``; of unlabeled rows, those given what is known.
        key: Randomness of the groups and of a channel's noise.
        sample: Draw the group of every row.
        deterministic: Leave a channel's noise out.

    Returns:
        Steered rows.

    Raises:
        ValueError: If shapes differ, or a key is missing.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> mean = jnp.array([[[0.0], [4.0]], [[1.0], [5.0]]])
        >>> cells = js.MultivariateNormal(mean, jnp.ones((2, 2, 1, 1)))
        >>> pop = js.Population(jnp.full((2, 2), 0.25), cells)
        >>> steering = js.nearest_ideal(pop, reference=1)
        >>> rows = soft_transport(steering, jnp.zeros((1, 1)), jnp.array([[0.5, 0.5]]))
        >>> round(rows.item(), 3)
        2.0
    """
    n = check_same_length(x=x, responsibilities=responsibilities)
    n_groups = steering.source.n_groups
    if np.shape(responsibilities) != (n, n_groups):
        raise ValueError(
            f"responsibilities must have shape [{n}, {n_groups}], got "
            f"{list(np.shape(responsibilities))}."
        )
    noisy = steering.noise is not None and not deterministic
    if key is None and (sample or noisy):
        raise ValueError(
            "key is missing: drawing groups or a channel's noise needs "
            "key=jax.random.key(seed)."
        )
    theta = jnp.asarray(responsibilities)
    noise_key = None
    if key is not None:
        key, noise_key = jax.random.split(key)
    options = {"key": noise_key if noisy else None, "deterministic": deterministic}
    if sample:
        assert key is not None
        group = jax.random.categorical(key, jnp.log(theta), axis=1)
        return steering.transport(x, group, **options)
    total = jnp.sum(theta, 1)
    share = theta / jnp.where(total > 0, total, 1.0)[:, None]
    # The same noise for every group, or the mean would have less of it.
    images = [
        share[:, a, None] * steering.transport(x, jnp.full(n, a), **options)
        for a in range(n_groups)
    ]
    return sum(images[1:], images[0])
