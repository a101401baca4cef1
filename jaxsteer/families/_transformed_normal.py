"""Normal families seen through a bijection that all classes and groups share.

KL divergences and the orbit condition do not see a shared bijection, so everything is
done in base coordinates; only densities, samples and maps are carried over.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float, Key
from jaxsteer.families._family import Family, base_of_families, family
from jaxsteer.families._multivariate_normal import MultivariateNormal
from jaxsteer.families._normal import Normal
from jaxsteer.maps import Bijection, ConjugatedMap, Exp


@base_of_families(maps="bijection")
class SharedBijection:
    """What a family ``x = bijection(z)``, ``z ~ base``, does through its base.

    A class that uses it gives ``base``, ``bijection`` and ``with_base``, and may give
    ``limits``.
    """

    base: Family
    bijection: Bijection
    limits: tuple[Array, Array] | None = None

    def with_base(self, base: Family) -> Self:
        """Return the member of this family with another base."""
        raise NotImplementedError

    def kl(self, other: SharedBijection) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats: that of the bases."""
        return kl_shared_bijection(self, other)

    def log_prob(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log-density at `x` (``[..., d]`` for vectors); ``-inf`` off the support."""
        missing = jnp.isnan(x)
        z = self.bijection.inverse(x)
        inside = jnp.isfinite(z)
        z = jnp.where(inside, z, 0.0)
        slope = self.bijection.log_slope(z)
        if not isinstance(self.base, Normal):
            inside, slope = jnp.all(inside, -1), jnp.sum(slope, -1)
            missing = jnp.any(missing, -1)
        off_support = jnp.where(missing, jnp.nan, -jnp.inf)
        return jnp.where(inside, self.base.log_prob(z) - slope, off_support)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` samples."""
        return self.bijection.forward(self.base.sample(key, shape))

    def pushforward(self, move: ConjugatedMap) -> Self:
        """Law of ``move(x)`` for a map conjugated by the same bijection."""
        base: Any = self.base
        return self.with_base(base.pushforward(move.base))

    def transport_to(self, other: SharedBijection) -> ConjugatedMap:
        """Optimal-transport map in base coordinates, conjugated."""
        batch = jax.eval_shape(lambda: self.base.kl(other.base)).shape
        own: Any = self.base
        base = own.transport_to(other.base)
        return ConjugatedMap.alike(base, self.bijection, batch, self.limits)


def kl_shared_bijection(p: SharedBijection, q: SharedBijection) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats of two members of one family: that of their bases.

    Raises:
        ValueError: If the bijections are of different kinds. Their parameters, if they
            have any, must be equal too, which is not checked.
    """
    check_same_bijection(p, q)
    return p.base.kl(q.base)


def check_same_bijection(p: SharedBijection, q: SharedBijection) -> None:
    """Raise unless two members share the kind of their bijection."""
    if type(p.bijection) is not type(q.bijection):
        raise ValueError(
            f"p and q must share one bijection, got {type(p.bijection).__name__} and "
            f"{type(q.bijection).__name__}; transform both samples alike."
        )


@family(maps="bijection")
@dataclasses.dataclass(frozen=True)
class TransformedNormal(SharedBijection):
    """The law of ``bijection.forward(z)`` with ``z`` from a normal family.

    Attributes:
        base: A :class:`Normal`, :class:`DiagonalNormal` or :class:`MultivariateNormal`.
        bijection: A :class:`jaxsteer.maps.Bijection`, the same for every cell.
        limits: Lowest and highest target of maps between members, in base coordinates
            (:class:`jaxsteer.maps.ConjugatedMap`); None does not cut. They do not enter the
            law.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer.maps import Sigmoid
        >>> p = TransformedNormal(Normal(jnp.zeros(()), jnp.ones(())), Sigmoid())
        >>> q = TransformedNormal(Normal(jnp.ones(()), jnp.ones(())), Sigmoid())
        >>> p.kl(q).item()
        0.5
    """

    base: Family
    bijection: Bijection
    limits: tuple[Array, Array] | None = None

    def with_base(self, base: Family) -> TransformedNormal:
        """Return the member with another base."""
        return dataclasses.replace(self, base=base)


@family(maps="bijection")
@dataclasses.dataclass(frozen=True)
class LogNormal(SharedBijection):
    """Log-normal distributions: ``log x ~ N(loc, scale^2)``.

    Attributes:
        loc: ``[...]`` means of ``log x``.
        scale: ``[...]`` standard deviations of ``log x``.

    Example:
        >>> import jax.numpy as jnp
        >>> p = LogNormal(jnp.zeros(()), jnp.ones(()))
        >>> p.kl(LogNormal(jnp.ones(()), jnp.ones(()))).item()
        0.5
    """

    loc: Float[Array, "..."]
    scale: Float[Array, "..."]

    @property
    def base(self) -> Normal:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The law of ``log x``."""
        return Normal(self.loc, self.scale)

    @property
    def bijection(self) -> Exp:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The exponential."""
        return Exp()

    def with_base(self, base: Normal) -> LogNormal:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the member with another law of ``log x``."""
        return LogNormal(base.loc, base.scale)


@family(maps="bijection")
@dataclasses.dataclass(frozen=True)
class MultivariateLogNormal(SharedBijection):
    """Multivariate log-normal distributions: ``log x ~ N(mean, cov)``.

    Attributes:
        mean: ``[..., d]`` means of ``log x``.
        cov: ``[..., d, d]`` covariances of ``log x``.

    Example:
        >>> import jax.numpy as jnp
        >>> p = MultivariateLogNormal(jnp.zeros(2), jnp.eye(2))
        >>> p.kl(MultivariateLogNormal(jnp.ones(2), jnp.eye(2))).item()
        1.0
    """

    mean: Float[Array, "... d"]
    cov: Float[Array, "... d d"]

    @property
    def base(self) -> MultivariateNormal:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The law of ``log x``."""
        return MultivariateNormal(self.mean, self.cov)

    @property
    def bijection(self) -> Exp:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The exponential, feature by feature."""
        return Exp()

    def with_base(self, base: MultivariateNormal) -> MultivariateLogNormal:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the member with another law of ``log x``."""
        return MultivariateLogNormal(base.mean, base.cov)
