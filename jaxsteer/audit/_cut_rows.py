"""Rows that a map of a transformed family would carry out of range, counted."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_codes, check_same_length
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.maps import ConjugatedMap

__all__ = ["cut_rows"]


def cut_rows(
    steering: Any,
    x: Float[ArrayLike, " n"] | Float[ArrayLike, "n d"],
    group: Int[ArrayLike, " n"],
) -> Int[Array, " G"]:
    """Count the rows of each group whose steered values end at the limits.

    A fitted power reaches only part of the line, or races to infinity on it; maps of
    populations of :func:`jaxsteer.fit_transformed_population` hold such rows back. A
    few are no harm; many say that the bijection does not suit the columns.

    Args:
        steering: A :class:`jaxsteer.Steering`.
        x: ``[n]`` or ``[n, d]`` rows before steering.
        group: ``[n]`` group codes.

    Returns:
        ``[G]`` counts; 0 for families whose maps have no limits.

    Raises:
        ValueError: If lengths differ or a code is unknown.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> from jaxsteer.maps import YeoJohnson
        >>> base = js.Normal(jnp.array([[0.0, -0.2], [0.1, 0.2]]), jnp.full((2, 2), 0.3))
        >>> limits = jnp.array(-0.4), jnp.array(0.4)  # 1 + power z is 0 at 1/2
        >>> cells = js.TransformedNormal(base, YeoJohnson(jnp.array(-2.0)), limits)
        >>> pop = js.Population(jnp.full((2, 2), 0.25), cells)
        >>> found = js.nearest_ideal(pop, reference=0)
        >>> x = jnp.array([0.0, 0.0, 5.0])
        >>> cut_rows(found, x, jnp.array([0, 1, 1])).tolist()
        [0, 1]
    """
    check_same_length(x=x, group=group)
    n_groups = check_codes("group", group, steering.source.n_groups)
    maps, x, group = steering.group_maps, jnp.asarray(x), jnp.asarray(group)
    if not isinstance(maps, ConjugatedMap) or maps.limits is None:
        return jnp.zeros(n_groups, jnp.int32)

    def of_group(code: Array, move: ConjugatedMap) -> Array:
        cut = move.is_cut(x)
        cut = cut.any(-1) if cut.ndim > 1 else cut
        return jnp.sum(cut & (group == code), dtype=jnp.int32)

    codes = jnp.arange(n_groups, dtype=jnp.int32)
    return jax.lax.map(lambda item: of_group(*item), (codes, maps))
