"""What every program returns: a template and the maps from it to each group.

A population is ideal when ``f_ia = (T_a)_# f_i`` and ``q_ia = p_i s_a`` (the orbit
condition, MATH section 2 of the design: the posterior at ``T_a z`` does not depend on
the group, so neither does the Bayes rule). A program chooses ``f_i`` and ``T_a``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Int
from jaxsteer.families import Product, SharedBijection
from jaxsteer.linalg import all_after
from jaxsteer.maps import AffineMap, IdentityMap


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Orbit:
    """A template per class and one map per group.

    Attributes:
        template: Family with batch ``[K]``: the law that all groups share.
        to_group: Maps with leading axis ``G``, from the template to each group.
        residual: ``[]`` scale-free measure of how far the solve is from stationary; 0
            for a closed form.
        status: ``[]`` int32 :class:`jaxsteer.Status` of the solve.
        steps: ``[]`` iterations, int32; 0 for a closed form.
        stays: The group whose cells are the template, at no cost; None where all move
            or moving them costs nothing worth saving.
    """

    template: Any
    to_group: Any
    residual: Float[Array, ""]
    status: Int[Array, ""]
    steps: Int[Array, ""]
    stays: int | None = dataclasses.field(default=None, metadata={"static": True})

    def conditionals(self) -> Any:
        """The ideal class-conditionals, batch ``[K, G]``."""
        stays = self.stays
        if stays is None:
            return _pushed(self.template, self.to_group)
        moving = self._all_but(stays)
        maps = jax.tree.map(lambda leaf: leaf[moving], self.to_group)
        moved = _pushed(self.template, maps)
        dense = type(moved) is type(self.template)
        own = self.template if dense else self.template.to_dense()
        return jax.tree.map(
            lambda leaf, one: jnp.insert(leaf, stays, one, axis=1), moved, own
        )

    def divergences(self, conditionals: Any, cells: Any) -> Float[Array, "K G"]:
        """``KL(conditionals || cells)`` of every cell.

        Args:
            conditionals: What :meth:`conditionals` returned.
            cells: The cells that the orbit was found for.
        """
        stays = self.stays
        if stays is None:
            return conditionals.kl(cells)
        moving = self._all_but(stays)
        moved, before = jax.tree.map(
            lambda leaf: leaf[:, moving], (conditionals, cells)
        )
        return jnp.insert(moved.kl(before), stays, 0.0, axis=1)

    def _all_but(self, group: int) -> np.ndarray:
        n_groups = jax.tree.leaves(self.to_group)[0].shape[0]
        return np.delete(np.arange(n_groups), group)


def _pushed(template: Any, maps: Any) -> Any:
    """The laws, batch ``[K, G]``, of templates ``[K]`` moved by maps ``[G]``."""
    if isinstance(template, SharedBijection):
        return template.with_base(_pushed(template.base, maps.base))
    if isinstance(template, Product):
        pairs = zip(template.blocks, maps.maps, strict=True)
        return Product(tuple(_pushed(block, move) for block, move in pairs))
    if isinstance(maps, IdentityMap):
        n_groups = maps.zero.shape[0]
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * n_groups, 1), template)
    template = jax.tree.map(lambda leaf: leaf[:, None], template)
    return template.pushforward(jax.tree.map(lambda leaf: leaf[None, :], maps))


def closed_form_orbit(
    template: Any, to_group: Any, dtype: Any, stays: int | None = None
) -> Orbit:
    """An orbit that no iteration produced."""
    zero = jnp.zeros((), dtype)
    return Orbit(
        template=template,
        to_group=to_group,
        residual=zero,
        status=jnp.zeros((), jnp.int32),
        steps=jnp.zeros((), jnp.int32),
        stays=stays,
    )


def join_maps(moved: AffineMap, n_groups: int, reference: int) -> AffineMap:
    """Put the identity in the reference group's place among the others' maps.

    Args:
        moved: Maps of the other groups, leading axis ``G - 1``.
        n_groups: ``G``.
        reference: The group that stays.

    Returns:
        Maps with leading axis ``G``.
    """
    dtype, d = moved.bias.dtype, moved.bias.shape[-1]
    others = np.array([a for a in range(n_groups) if a != reference])
    maps = AffineMap(
        jnp.broadcast_to(jnp.eye(d, dtype=dtype), (n_groups, d, d)),
        jnp.zeros((n_groups, d), dtype),
    )
    return jax.tree.map(lambda leaf, new: leaf.at[others].set(new), maps, moved)


def for_each_group(solve: Callable[[Any], Any], groups: Any) -> Any:
    """Solve every group's own problem, one after the other.

    Unrolled, not scanned: with jax 0.10.2 forward over reverse derivatives of an
    implicit solve inside a scan come out wrong.

    Args:
        solve: From one group's problem to a pytree of arrays.
        groups: The problems, stacked along a leading axis.

    Returns:
        What `solve` returns, stacked.
    """
    n = jax.tree.leaves(groups)[0].shape[0]
    found = []
    for row in range(n):
        problem = jax.tree.map(lambda leaf, row=row: leaf[row], groups)
        if found:
            problem = all_after(problem, jax.tree.leaves(found[-1])[0])
        found.append(solve(problem))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


def pin_identity(maps: Any, reference: int, identity: Any) -> Any:
    """Put the exact identity in the reference group's place."""
    return jax.tree.map(lambda leaf, one: leaf.at[reference].set(one), maps, identity)
