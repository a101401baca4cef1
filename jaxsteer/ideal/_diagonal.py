"""Diagonal maps: an independent univariate program for every feature."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.families import DiagonalNormal, LowRankNormal, MultivariateNormal, Normal
from jaxsteer.ideal._orbit import Orbit
from jaxsteer.ideal._stacks import Cells, at


def per_feature(
    program: Callable[[Normal], Orbit], cells: DiagonalNormal | Cells
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
    mean: Any = cells.mean
    features = jax.vmap(program, in_axes=-1)(Normal(mean, _scale(cells)))
    to_group = jax.tree.map(lambda leaf: leaf.T, features.to_group)
    loc, spread = features.template.loc.T, features.template.scale.T
    return Orbit(
        template=DiagonalNormal(loc, spread),
        to_group=to_group,
        residual=jnp.max(features.residual),
        status=jnp.max(features.status),
        steps=jnp.max(features.steps),
    )


def _scale(cells: DiagonalNormal | Cells) -> Float[Array, "... d"]:
    """Standard deviations of the features."""
    if isinstance(cells, DiagonalNormal):
        return cells.scale
    if isinstance(cells, LowRankNormal):
        return jnp.sqrt(cells.diagonal + jnp.sum(cells.factor**2, -1))
    return jnp.sqrt(jnp.diagonal(cells.cov, axis1=-2, axis2=-1))


def with_reference_correlations(orbit: Orbit, cells: Cells, reference: int) -> Orbit:
    """Give a per-feature orbit the reference group's correlations within classes.

    Diagonal maps keep low-rank covariances what they are.
    """
    home = at(cells, slice(None), reference)
    ratio: Float[Array, "K d"] = orbit.template.scale / _scale(home)
    mean = orbit.template.loc
    if isinstance(home, LowRankNormal):
        factor = ratio[:, :, None] * home.factor
        template = LowRankNormal(mean, factor, ratio**2 * home.diagonal)
        return dataclasses.replace(orbit, template=template)
    cov = ratio[:, :, None] * home.cov * ratio[:, None, :]
    return dataclasses.replace(
        orbit,
        template=MultivariateNormal(mean, cov),
        to_group=orbit.to_group.to_affine(),
    )
