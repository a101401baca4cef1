"""What every program returns: a template and the maps from it to each group.

A population is ideal when ``f_ia = (T_a)_# f_i`` and ``q_ia = p_i s_a`` (the orbit
condition, see README.md beside this file: the posterior at ``T_a z`` does not depend on
the group, so neither does the Bayes rule). A program chooses ``f_i`` and ``T_a``.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Int
from jaxsteer.families import (
    LowRankNormal,
    MultivariateNormal,
    Natural,
    Product,
    SharedBijection,
)
from jaxsteer.linalg._psd_operators import DenseStack, LowRankStack, Stack
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
        reference_stays: Whether the reference group's cells, the first ones, are the
            template, at no cost.
    """

    template: Any
    to_group: Any
    residual: Float[Array, ""]
    status: Int[Array, ""]
    steps: Int[Array, ""]
    reference_stays: bool = dataclasses.field(default=False, metadata={"static": True})

    def conditionals(self) -> Any:
        """The ideal class-conditionals, batch ``[K, G]``."""
        if not self.reference_stays:
            return _pushed(self.template, self.to_group)
        maps = jax.tree.map(lambda leaf: leaf[1:], self.to_group)
        moved = _pushed(self.template, maps)
        dense = type(moved) is type(self.template)
        own = self.template if dense else self.template.to_dense()
        return jax.tree.map(
            lambda one, rest: jnp.concatenate([one[:, None], rest], 1), own, moved
        )

    def divergences(self, conditionals: Any, cells: Any) -> Float[Array, "K G"]:
        """``KL(conditionals || cells)`` of every cell.

        Args:
            conditionals: What :meth:`conditionals` returned.
            cells: The cells that the orbit was found for.
        """
        if not self.reference_stays:
            return conditionals.kl(cells)
        moved, before = jax.tree.map(lambda leaf: leaf[:, 1:], (conditionals, cells))
        costs = moved.kl(before)
        return jnp.concatenate([jnp.zeros_like(costs[:, :1]), costs], 1)


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
    template: Any, to_group: Any, dtype: Any, *, reference_stays: bool = False
) -> Orbit:
    """An orbit that no iteration produced."""
    zero = jnp.zeros((), dtype)
    return Orbit(
        template=template,
        to_group=to_group,
        residual=zero,
        status=jnp.zeros((), jnp.int32),
        steps=jnp.zeros((), jnp.int32),
        reference_stays=reference_stays,
    )


def join_maps(moved: AffineMap) -> AffineMap:
    """Put the identity, the reference group's map, in front of the others' maps.

    Args:
        moved: Maps of the other groups, leading axis ``G - 1``.

    Returns:
        Maps with leading axis ``G``.
    """
    dtype, d = moved.bias.dtype, moved.bias.shape[-1]
    return AffineMap(
        jnp.concatenate([jnp.eye(d, dtype=dtype)[None], moved.weight]),
        jnp.concatenate([jnp.zeros((1, d), dtype), moved.bias]),
    )


def pin_identity(maps: Any, reference: int, identity: Any) -> Any:
    """Put the exact identity in the reference group's place."""
    return jax.tree.map(lambda leaf, one: leaf.at[reference].set(one), maps, identity)


# The families of cells that the multivariate programs take.
Cells: TypeAlias = MultivariateNormal | LowRankNormal


def covariances(law: Cells) -> Stack:
    """Covariances of a law with batch ``[K]``."""
    if isinstance(law, LowRankNormal):
        return LowRankStack(law.diagonal, law.factor, jnp.ones_like(law.mean[..., 0]))
    return DenseStack(law.cov)


def pooled_cov(law: Cells, share: Float[Array, " K"]) -> Float[Array, "d d"]:
    """``sum_k share_k C_k`` of a law with batch ``[K]``."""
    return covariances(law).mixture(share)


def at(cells: Any, *index: Any) -> Any:
    """The cells at an index of their batch; the family has no other way to pick."""
    return jax.tree.map(lambda leaf: leaf[index], cells)


def groups_in_front(cells: Cells, groups: slice) -> Any:
    """Cells ``[K, G]`` of some groups, their axis in front."""
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0)[groups], cells)


def common_orbit(
    cells: Any,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    natural: Natural,
    all_groups: bool,
) -> Orbit:
    """Every group gets one law: the reference group's, or the barycentre."""
    template = at(cells, slice(None), reference)
    if all_groups:
        share = weights / jnp.sum(weights, 1, keepdims=True)
        template = natural.barycentre(cells, share)
    maps = IdentityMap(jnp.zeros(weights.shape[1], weights.dtype))
    return closed_form_orbit(template, maps, weights.dtype)
