"""The cells of a population in coordinates where rates are easily computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxsteer._types import Array
from jaxsteer.families import (
    DiagonalNormal,
    LowRankNormal,
    MultivariateNormal,
    Normal,
    SharedBijection,
    traits_of,
)


class Cells(NamedTuple):
    """A population's cells, and the way back to rows of data.

    Attributes:
        law: The cells, batch ``[K, G]``, without the bijection that all share: it moves
            rows but changes no probability.
        to_rows: From points ``[n]`` or ``[n, d]`` in `law`'s coordinates to rows of
            data.
    """

    law: Any
    to_rows: Callable[[Array], Array]

    @property
    def discrete(self) -> bool:
        """Whether the feature is a count or a code."""
        traits = traits_of(self.law)
        return traits is not None and traits.discrete

    @property
    def on_line(self) -> bool:
        """Whether the features are one continuous number with a variance."""
        if self.discrete:
            return False
        spread = getattr(self.law, "cov", None)
        return spread is not None and jnp.ndim(spread) == 2


def base_cells(conditionals: Any) -> Cells:
    """Strip a shared bijection; a single feature becomes univariate."""
    law, to_rows = conditionals, _same
    if isinstance(law, SharedBijection):
        law, to_rows = law.base, law.bijection.forward
    if isinstance(law, LowRankNormal):
        law = law.to_dense()
    if isinstance(law, MultivariateNormal | DiagonalNormal) and law.mean.shape[-1] == 1:
        forward = to_rows
        scale = jnp.sqrt(law.cov[..., 0, 0])
        return Cells(Normal(law.mean[..., 0], scale), lambda z: forward(z[..., None]))
    return Cells(law, to_rows)


def _same(z: Array) -> Array:
    return z
