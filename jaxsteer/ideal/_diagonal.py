"""The diagonal gauge: an independent univariate program for every feature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.families import DiagonalNormal, MultivariateNormal, Normal
from jaxsteer.ideal._orbit import Orbit


def per_feature(
    program: Callable[[Normal], Orbit], cells: DiagonalNormal | MultivariateNormal
) -> Orbit:
    """Run a univariate program on every feature at once and join the maps.

    For diagonal covariances this is the nearest ideal population under diagonal maps.
    For full covariances the maps are those of the marginals and the template keeps the
    reference group's covariances: ideal all the same, though not the nearest.

    Args:
        program: From a :class:`Normal` with batch ``[K, G]`` to an orbit.
        cells: Cells with batch ``[K, G]`` in ``d`` features.

    Returns:
        The orbit, with diagonal maps.
    """
    scale = (
        cells.scale
        if isinstance(cells, DiagonalNormal)
        else jnp.sqrt(jnp.diagonal(cells.cov, axis1=-2, axis2=-1))
    )
    mean: Any = cells.mean
    features = jax.vmap(program, in_axes=-1)(Normal(mean, scale))
    to_group = jax.tree.map(lambda leaf: leaf.T, features.to_group)
    loc, spread = features.template.loc.T, features.template.scale.T
    return Orbit(
        template=DiagonalNormal(loc, spread),
        to_group=to_group,
        residual=jnp.max(features.residual),
        status=jnp.max(features.status),
        steps=jnp.max(features.steps),
    )


def with_reference_correlations(
    orbit: Orbit, cells: MultivariateNormal, reference: int
) -> Orbit:
    """Give a per-feature orbit the reference group's correlations within classes."""
    root = jnp.sqrt(jnp.diagonal(cells.cov[:, reference], axis1=-2, axis2=-1))
    ratio: Float[Array, "K d"] = orbit.template.scale / root
    cov = ratio[:, :, None] * cells.cov[:, reference] * ratio[:, None, :]
    return Orbit(
        template=MultivariateNormal(orbit.template.loc, cov),
        to_group=orbit.to_group.to_affine(),
        residual=orbit.residual,
        status=orbit.status,
        steps=orbit.steps,
    )
