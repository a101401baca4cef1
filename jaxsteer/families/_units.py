"""Units in which a program is well posed in floating point, and the way back.

Every program on normal vectors follows its features through a shift, and through one
change of units for all of them (one a feature would change what "definite" means, and
which map moves the data least where the divergence is blind). Objectives hold second
moments about the origin, so that an offset of 1e5 deviations leaves no digit of a
variance in float32, and units of 1e12 overflow in fourth powers. So the front door
solves in coordinates centered and scaled by the reference group, and answers in the
user's. The scale is a power of 2: it rounds nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.families._low_rank_normal import LowRankNormal
from jaxsteer.families._multivariate_normal import MultivariateNormal
from jaxsteer.families._product import Product
from jaxsteer.families._transformed_normal import SharedBijection
from jaxsteer.linalg import matmul
from jaxsteer.maps import AffineMap


class Units(NamedTuple):
    """Where the origin goes, and how long the unit is.

    Attributes:
        origin: ``[d]``.
        scale: ``[]`` a power of 2.
    """

    origin: Float[Array, " d"]
    scale: Float[Array, ""]


def standard_units(cells: Any, maps: str) -> tuple[Any, Any]:
    """Cells in units of their first group, and the units.

    Derivatives take the units as fixed: the answer does not depend on them.

    Args:
        cells: Laws with batch ``[K, G]``.
        maps: The kind of maps.

    Returns:
        The cells, and the units: :class:`Units`, a tuple of them for blocks, or None for
        laws whose programs work feature by feature and need none.
    """
    if isinstance(cells, SharedBijection):
        base, units = standard_units(cells.base, maps)
        return (cells if units is None else cells.with_base(base)), units
    if isinstance(cells, Product):
        pairs = [standard_units(block, maps) for block in cells.blocks]
        return Product(tuple(block for block, _ in pairs)), tuple(u for _, u in pairs)
    normal = isinstance(cells, MultivariateNormal | LowRankNormal)
    if not normal or maps == "diagonal" or cells.mean.shape[-1] == 1:
        return cells, None
    units = _units(jax.lax.stop_gradient(cells))
    mean, scale = (cells.mean - units.origin) / units.scale, units.scale
    if isinstance(cells, LowRankNormal):
        factor = cells.factor / scale
        return LowRankNormal(mean, factor, cells.diagonal / scale / scale), units
    # Two divisions: the square of a scale may overflow.
    return MultivariateNormal(mean, cells.cov / scale / scale), units


def _units(cells: Any) -> Units:
    first = jax.tree.map(lambda leaf: leaf[:, 0], cells)
    if isinstance(first, LowRankNormal):
        variances = first.diagonal + jnp.sum(jnp.square(first.factor), -1)
    else:
        variances = jnp.diagonal(first.cov, axis1=-2, axis2=-1)
    deviation = jnp.sqrt(jnp.mean(variances, 0))
    usable = jnp.isfinite(deviation) & (deviation > 0)
    _, power = jnp.frexp(jnp.where(usable, deviation, 0.75))
    middle = jnp.round(jnp.mean(power.astype(deviation.dtype))).astype(power.dtype)
    origin = jnp.mean(first.mean, 0)
    return Units(
        jnp.where(jnp.isfinite(origin), origin, 0),
        jnp.ldexp(jnp.ones((), deviation.dtype), middle),
    )


def law_in_own_units(law: Any, before: Any, cells: Any, units: Any) -> Any:
    """A law found in standard units, in those that the cells came in.

    Args:
        law: What was found, batch ``[K, G]``.
        before: The cells in standard units.
        cells: The cells as they came.
        units: What :func:`standard_units` returned.
    """
    if units is None:
        return law
    if isinstance(law, SharedBijection):
        base = law_in_own_units(law.base, before.base, cells.base, units)
        return law.with_base(base)
    if isinstance(law, Product):
        blocks = zip(law.blocks, before.blocks, cells.blocks, units, strict=True)
        return Product(tuple(law_in_own_units(*block) for block in blocks))
    scale = units.scale
    # As a displacement: a cell that stays then stays to the last digit.
    mean = cells.mean + scale * (law.mean - before.mean)
    if isinstance(law, LowRankNormal):
        factor = law.factor * scale
        return LowRankNormal(mean, factor, law.diagonal * scale * scale)
    return MultivariateNormal(mean, law.cov * scale * scale)


def maps_in_own_units(maps: Any, units: Any) -> Any:
    """Maps found in standard units, in those that the cells came in.

    Args:
        maps: With a leading axis of groups.
        units: What :func:`standard_units` returned.
    """
    if units is None:
        return maps
    if isinstance(units, tuple) and not isinstance(units, Units):
        pairs = zip(maps.maps, units, strict=True)
        moved = tuple(maps_in_own_units(*pair) for pair in pairs)
        return dataclasses.replace(maps, maps=moved)
    if not isinstance(maps, AffineMap):
        return dataclasses.replace(maps, base=maps_in_own_units(maps.base, units))
    # The change, not the map: the identity then shifts by exactly 0.
    change = maps.weight - jnp.eye(len(units.origin), dtype=maps.weight.dtype)
    shift = matmul(change, units.origin[:, None])[..., 0]
    return AffineMap(maps.weight, units.scale * maps.bias - shift)
