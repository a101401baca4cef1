"""Independent features of different families, side by side."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float, Key
from jaxsteer.families._family import Family, family
from jaxsteer.maps import IdentityMap, ProductMap, join_columns, split_columns


@family(maps="blocks")
@dataclasses.dataclass(frozen=True)
class Product:
    """Independent blocks of features, each with its own family.

    A row holds the blocks' columns in order: one column for a scalar family (codes for
    a :class:`Categorical`), ``d`` for a vector family.

    Attributes:
        blocks: Families of one batch shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer.families import Bernoulli, Normal
        >>> law = Product((Normal(0.0, 1.0), Bernoulli(0.0)))
        >>> law.kl(Product((Normal(1.0, 1.0), Bernoulli(0.0)))).item()
        0.5
    """

    blocks: tuple[Family, ...]

    @property
    def widths(self) -> tuple[int | None, ...]:
        """Columns of each block, None for scalars."""
        return tuple(_width(block) for block in self.blocks)

    def kl(self, other: Product) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_product`."""
        return kl_product(self, other)

    def log_prob(self, x: Float[Array, "... m"]) -> Float[Array, "..."]:
        """Log-density at rows ``[..., m]``."""
        parts = split_columns(jnp.asarray(x), self.widths)
        pairs = zip(self.blocks, parts, strict=True)
        return jnp.asarray(sum(block.log_prob(part) for block, part in pairs))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` rows of ``m`` columns."""
        keys = jax.random.split(key, len(self.blocks))
        draws = [
            block.sample(one, shape)
            for block, one in zip(self.blocks, keys, strict=True)
        ]
        return join_columns(draws, self.widths)

    def pushforward(self, move: ProductMap) -> Product:
        """Law of ``move(x)``."""
        blocks: tuple[Any, ...] = self.blocks
        pairs = zip(blocks, move.maps, strict=True)
        return Product(tuple(block.pushforward(one) for block, one in pairs))

    def transport_to(self, other: Product) -> ProductMap:
        """Each block's map onto `other`'s; blocks of families without maps stay."""
        pairs = zip(self.blocks, other.blocks, strict=True)
        return ProductMap(tuple(transport(a, b) for a, b in pairs), self.widths)


def transport(p: Any, q: Any) -> Any:
    """The map of `p` onto `q`, or the identity where the family has no maps."""
    if hasattr(p, "transport_to"):
        return p.transport_to(q)
    divergence = jax.eval_shape(lambda: p.kl(q))
    return IdentityMap(jnp.zeros(divergence.shape, divergence.dtype))


def unmoved_log_ratio(p: Any, q: Any, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``log p(x) - log q(x)`` of the features that :func:`transport` leaves in place.

    Args:
        p: Distributions.
        q: Distributions of the same family.
        x: Points that broadcast against the batch (vectors ``[..., m]`` for vector
            families).

    Returns:
        The log-ratios, 0 where every feature has a map.
    """
    if isinstance(p, Product):
        parts = split_columns(jnp.asarray(x), p.widths)
        blocks = zip(p.blocks, q.blocks, parts, strict=True)
        return jnp.asarray(sum(unmoved_log_ratio(*block) for block in blocks))
    if hasattr(p, "transport_to"):
        return jnp.zeros(())
    return p.log_prob(x) - q.log_prob(x)


def _width(law: Any) -> int | None:
    """Columns of a vector family: what a sample has beyond the batch."""
    batch = jnp.ndim(jax.eval_shape(lambda: law.kl(law)))
    one = jax.eval_shape(lambda: law.sample(jax.random.key(0)))
    return one.shape[-1] if len(one.shape) > batch else None


def kl_product(p: Product, q: Product) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats: the sum of the blocks' divergences.

    Raises:
        ValueError: If the blocks are of different families.
    """
    if [type(b) for b in p.blocks] != [type(b) for b in q.blocks]:
        raise ValueError(
            "p and q must have the same families in the same order, got "
            f"{[type(b).__name__ for b in p.blocks]} and "
            f"{[type(b).__name__ for b in q.blocks]}."
        )
    return jnp.asarray(sum(a.kl(b) for a, b in zip(p.blocks, q.blocks, strict=True)))
