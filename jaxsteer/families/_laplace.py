"""The Laplace family."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, ArrayLike, Float, Key
from jaxsteer.families._family import family
from jaxsteer.families._support import as_floating, draws, on_support, weighted_samples
from jaxsteer.linalg import expm1_minus, log_quotient
from jaxsteer.maps import DiagonalMap


@family(
    domain={"loc": "real", "scale": "positive"},
    maps="location_scale",
    symmetric=True,
)
@dataclasses.dataclass(frozen=True)
class Laplace:
    """Laplace distributions, of density ``exp(-|x - loc| / scale) / (2 scale)``.

    Attributes:
        loc: ``[...]`` means and medians; leading axes are a batch.
        scale: ``[...]`` mean absolute deviations, positive.

    Example:
        >>> round(Laplace(0.0, 1.0).kl(Laplace(1.0, 1.0)).item(), 4)
        0.3679
    """

    loc: Float[Array, "..."]
    scale: Float[Array, "..."]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> Laplace:
        """Maximum likelihood: the weighted median and the mean absolute deviation.

        Where half of the weight is on either side of a gap, the middle of the gap.

        Raises:
            ValueError: If samples or weights are unusable.
        """
        x, weights = weighted_samples(x, weights)
        order = jnp.argsort(x, -1)
        sorted_x = jnp.take_along_axis(x, order, -1)
        mass = jnp.cumsum(jnp.take_along_axis(weights, order, -1), -1)
        slack = 4 * jnp.finfo(x.dtype).eps * x.shape[-1] ** 0.5
        ends = [
            jnp.argmax(mass >= half, -1, keepdims=True)
            for half in (0.5 - slack, 0.5 + slack)
        ]
        lower, upper = (jnp.take_along_axis(sorted_x, end, -1) for end in ends)
        loc = lower + 0.5 * (upper - lower)
        return cls(loc[..., 0], jnp.sum(weights * jnp.abs(x - loc), -1))

    @property
    def mean(self) -> Float[Array, "..."]:
        """Means, ``[...]``."""
        return jnp.asarray(self.loc)

    @property
    def cov(self) -> Float[Array, "..."]:
        """Variances, ``[...]``."""
        return 2 * jnp.square(self.scale)

    def kl(self, other: Laplace) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_laplace`."""
        return kl_laplace(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-density at `x`, which broadcasts against the batch."""
        x = as_floating(x, self.loc, self.scale)
        value = -jnp.abs(x - self.loc) / self.scale - jnp.log(2 * self.scale)
        return on_support(x, ~jnp.isnan(x), value)

    def cdf(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability of at most `x`, which broadcasts."""
        z = (x - self.loc) / self.scale
        tail = 0.5 * jnp.exp(-jnp.abs(z))
        return jnp.where(z < 0, tail, 1 - tail)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` samples."""
        noise = jax.random.laplace(key, *draws(shape, self.loc, self.scale))
        return self.loc + self.scale * noise

    def pushforward(self, move: DiagonalMap) -> Laplace:
        """Law of ``move(x)``; the batches of both broadcast."""
        return Laplace(move(self.loc), jnp.abs(move.scale) * self.scale)

    def transport_to(self, other: Laplace) -> DiagonalMap:
        """Increasing (optimal-transport) map from this law onto `other`'s."""
        scale = jnp.asarray(other.scale / self.scale)
        return DiagonalMap(scale, other.loc - scale * self.loc)


def kl_laplace(p: Laplace, q: Laplace) -> Float[Array, "..."]:
    """``KL(p || q) = r (exp(-t) - 1 + t) + (r - 1 - log r)`` in nats.

    ``r = p.scale / q.scale``, ``t = |p.loc - q.loc| / p.scale``. Without cancellation;
    zero with zero gradient at ``p = q``.

    Args:
        p: Distributions with batch ``[...]``.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.
    """
    distance = jnp.abs(p.loc - q.loc) / p.scale
    spread = expm1_minus(log_quotient(p.scale, q.scale))
    return p.scale / q.scale * expm1_minus(-distance) + spread
