"""``fit_population`` for rows on many devices: sums travel, rows do not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsteer._labels import cell_codes
from jaxsteer._types import Array
from jaxsteer.families import DiagonalNormal
from jaxsteer.moments._columns import CellColumns
from jaxsteer.moments._diagnosis import diagnose
from jaxsteer.moments._finish import finish
from jaxsteer.moments._sharded import Axes, names_of, sharded_moments, spread

_SCATTER = {"full": "cell", "tied": "group"}


def fit_spread(
    x: Any,
    label: Any,
    group: Any,
    weights: Any,
    *,
    covariance: str,
    shrinkage: Any,
    n_classes: int | None,
    n_groups: int | None,
) -> tuple[Any, Any]:
    """Fit priors ``[K, G]`` and normal laws to rows that lie on a mesh.

    Only moments come back, the same on every device: O(K G d^2) numbers.

    Args:
        x: ``[n, d]`` rows on a mesh.
        label: ``[n]`` class codes.
        group: ``[n]`` group codes.
        weights: ``[n]`` sample weights, or None.
        covariance: "full", "tied" or "diagonal".
        shrinkage: As for :func:`fit_population`.
        n_classes: ``K``, or None for the largest code plus one.
        n_groups: ``G``, likewise.

    Returns:
        Priors and laws.

    Raises:
        ValueError: As :func:`fit_population`, or if `covariance` is "low_rank".
    """
    if covariance == "low_rank":
        raise ValueError(
            "covariance='low_rank' reads rows on one device; pass 'full', 'tied' or "
            "'diagonal' for an x that lies on a mesh, or gather x first."
        )
    if x.ndim == 1:
        x = x[:, None]
    sizes = (_size(label, n_classes), _size(group, n_groups))
    if covariance != "diagonal":
        state = sharded_moments(
            x,
            label,
            group,
            weights=weights,
            n_classes=sizes[0],
            n_groups=sizes[1],
            scatter=_SCATTER[covariance],
        )
        pop = finish(_everywhere(state), shrinkage=shrinkage)
        return pop.priors, pop.conditionals
    parts: Any = spread(
        x, label, group, weights, mesh=None, rows=None, features=None, sizes=sizes
    )
    columns = _everywhere(_columns(*parts, sizes=sizes))
    diagnose(columns, sizes[1], covariance="diagonal", shrinkage=shrinkage)
    law = DiagonalNormal(columns.mean, jnp.sqrt(columns.variance))
    law = jax.tree.map(lambda leaf: leaf.reshape(sizes + leaf.shape[1:]), law)
    return (columns.mass / jnp.sum(columns.mass)).reshape(sizes), law


def _size(codes: Any, given: int | None) -> int:
    """One more than the largest code, which the devices find."""
    return int(np.asarray(jnp.max(jnp.asarray(codes)))) + 1 if given is None else given


def _everywhere(tree: Any) -> Any:
    """Lay moments out alike on every device, so that each host sees them whole."""
    mesh = tree.mass.sharding.mesh
    return jax.jit(lambda t: t, out_shardings=NamedSharding(mesh, PartitionSpec()))(
        tree
    )


def _columns(
    x: Array,
    label: Array,
    group: Array,
    weights: Array,
    mesh: Mesh,
    rows: Axes,
    features: Axes,
    *,
    sizes: tuple[int, int],
) -> CellColumns:
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    like, columns = PartitionSpec(), PartitionSpec(None, features)
    along = PartitionSpec(rows)
    layout: dict[str, Any] = {"mass": like, "effective_count": like}
    layout |= {"mean": columns, "variance": columns}

    def one_device(x: Any, label: Any, group: Any, weights: Any) -> CellColumns:
        return _column_moments(
            x, cell_codes(label, group, sizes[1]), weights, sizes, rows
        )

    program = jax.shard_map(
        one_device,
        mesh=mesh,
        in_specs=(PartitionSpec(rows, features), along, along, along),
        out_specs=CellColumns(**layout),
        check_vma=False,
    )
    return jax.jit(program)(x.astype(dtype), label, group, weights.astype(dtype))


def _column_moments(
    x: Any, cell: Any, weights: Any, sizes: tuple[int, int], rows: Axes
) -> CellColumns:
    def by_cell(values: Any) -> Any:
        empty = jnp.zeros((sizes[0] * sizes[1], *values.shape[1:]), x.dtype)
        sums = empty.at[cell].add(values)
        return jax.lax.psum(sums, names_of(rows)) if rows else sums

    mass, squares = by_cell(weights), by_cell(weights * weights)
    safe = jnp.where(mass > 0, mass, 1.0)[:, None]
    origin = jnp.sum(by_cell(weights[:, None] * x), 0) / jnp.sum(mass)
    mean = by_cell(weights[:, None] * (x - origin)) / safe
    y = x - origin - mean[cell]
    return CellColumns(
        mass=mass,
        effective_count=mass * mass / jnp.where(squares > 0, squares, 1.0),
        mean=jnp.where(mass[:, None] > 0, mean + origin, 0.0),
        variance=by_cell(weights[:, None] * y * y) / safe,
    )
