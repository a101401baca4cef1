"""What a family is, and the register in which each one declares itself.

A family is its parameters, its divergence and the maps that act on it. A class says the
rest in one place, where it is defined: ``@family(domain=..., maps=...)``. No other file
lists the families: programs, checks and fits ask the register.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, Self, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Key, PyTree

#: Which maps act on a family, and so which program finds its nearest ideal population.
Maps = Literal[
    "affine",  # x -> W x + b on vectors
    "univariate",  # x -> g x + c on a normal law, by closed forms
    "diagonal",  # the same, feature by feature
    "location_scale",  # x -> g x + c, by a search
    "scale",  # x -> g x, by a search
    "carried",  # those of another family: see Carried
    "identity",  # none: ideal means one law for all groups
    "bijection",  # those of the base, seen through a bijection
    "blocks",  # each block's own
]
Domain = Literal["real", "positive", "not_negative", "covariance"]


@runtime_checkable
class Family(Protocol):
    """Laws of one parametric family, their parameters stacked along leading axes.

    A class is a frozen dataclass whose fields are its parameters, decorated with
    :func:`family`. Families with maps also have ``pushforward(move)``, the law of
    ``move(x)``; ``from_samples(x, weights=None)`` makes a family one of
    :func:`jaxsteer.fit_population`; ``mean``, ``cov`` and ``cdf(x)`` of one feature take
    its Bayes rates to quadrature, without them they are sampled.

    Example:
        >>> import jaxsteer as js
        >>> isinstance(js.Normal(0.0, 1.0), Family)
        True
    """

    def kl(self, other: Self) -> Array:
        """``KL(self || other)`` in nats, of one family; batches broadcast."""
        ...

    def log_prob(self, x: Array) -> Array:
        """Log-density at `x`, ``-inf`` off the support."""
        ...

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` samples."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Natural:
    """An exponential family's natural parameters, whose mean is a barycentre's.

    Attributes:
        of: From laws to natural parameters, a pytree; what their mean does not see may
            be left out.
        law: Back to laws.
    """

    of: Callable[[Any], Any] = lambda law: law
    law: Callable[[Any], Any] = lambda natural: natural

    def barycentre(self, laws: Any, share: Float[Array, "K G"]) -> Any:
        """The law ``f_i`` of least ``sum_a share_ia KL(f_i || f_ia)`` within the family.

        Args:
            laws: Batch ``[K, G]``.
            share: ``[K, G]`` weights; each row sums to 1.

        Returns:
            Batch ``[K]``.

        References:
            Banerjee et al. 2005, "Clustering with Bregman divergences", proposition 1, for
            the divergence with its arguments exchanged.
        """

        def mean(leaf: Array) -> Array:
            own = share.reshape(share.shape + (1,) * (leaf.ndim - 2))
            # A value that no group allows has the natural parameter -inf.
            return jnp.sum(jnp.where(own > 0, own * leaf, 0.0), 1)

        return self.law(jax.tree.map(mean, self.of(laws)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Carried:
    """A family whose program is that of another one, through a bijection of the data.

    Attributes:
        to: From its laws to the other family's.
        back: And back.
        maps: From the other family's maps to those of the data.
    """

    to: Callable[[Any], Any]
    back: Callable[[Any], Any]
    maps: Callable[[Any], Any]


def _with_slope(p: Family, q: Family) -> tuple[Array, PyTree]:
    """The divergence and its slopes by the parameters of `p`, by reverse mode."""
    value, pull = jax.vjp(lambda law: law.kl(q), p)
    return value, pull(jnp.ones_like(value))[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traits:
    """What the package must know of a family beyond its methods.

    Attributes:
        domain: Of each parameter: "real", "positive", "not_negative" or "covariance".
        maps: Which maps act on it; None: no program finds its nearest ideal.
        size: What a gain multiplies, from laws; of "location_scale" and "scale".
        symmetric: Whether a reflection of the line stays within the family.
        natural: Of "identity" families.
        carried: Of "carried" families.
        discrete: Whether its values are counts or codes.
        spread: Whether a fit needs rows that differ.
        vectors: Whether a row is a vector.
        kl_and_slope: ``(p, q) -> KL(p || q)`` and a law that holds its slopes by the
            parameters of `p`, where a formula takes fewer operations than reverse mode.

    Example:
        >>> import jaxsteer as js
        >>> traits_of(js.Gamma).maps
        'scale'
    """

    domain: Mapping[str, Domain] = dataclasses.field(default_factory=dict)
    maps: Maps | None = None
    size: Callable[..., Array] = lambda law: law.scale
    symmetric: bool = False
    natural: Natural = Natural()
    carried: Carried | None = None
    discrete: bool = False
    spread: bool = True
    vectors: bool = False
    kl_and_slope: Callable[..., tuple[Array, PyTree]] = _with_slope


T = TypeVar("T")
_REGISTER: dict[type, Traits] = {}


def base_of_families(**traits: Any) -> Callable[[type[T]], type[T]]:
    """Register what all subclasses of a class share, which need not register again."""

    def register(cls: type[T]) -> type[T]:
        _REGISTER[cls] = Traits(**traits)
        return cls

    return register


def family(**traits: Any) -> Callable[[type[T]], type[T]]:
    """Register a frozen dataclass as a family and as a pytree.

    Args:
        **traits: See :class:`Traits`; ``domain`` names every parameter.

    Returns:
        The decorator, which returns the class.

    Raises:
        ValueError: If the domain and the fields do not have the same names.

    Example:
        The uniform laws on ``[0, high]``, with a divergence where one holds the other:

        >>> @family(domain={"high": "positive"}, maps="scale", size=lambda u: u.high)
        ... @dataclasses.dataclass(frozen=True)
        ... class Uniform:
        ...     high: Array
        ...
        ...     def kl(self, other):
        ...         log_ratio = jnp.log(other.high / self.high)
        ...         return jnp.where(log_ratio >= 0, log_ratio, jnp.inf)
        >>> Uniform(jnp.ones(())).kl(Uniform(jnp.full((), jnp.e))).item()
        1.0
    """
    declared = Traits(**traits)

    def register(cls: type[T]) -> type[T]:
        names = {field.name for field in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
        if declared.domain and set(declared.domain) != names:
            raise ValueError(
                f"domain must name the fields of {cls.__name__}, {sorted(names)}, got "
                f"{sorted(declared.domain)}."
            )
        _REGISTER[cls] = declared
        return register_dataclass(cls)

    return register


def traits_of(law: Any) -> Traits | None:
    """What a law's family, or a family, declared; None if it is none."""
    cls = law if isinstance(law, type) else type(law)
    return next((_REGISTER[base] for base in cls.__mro__ if base in _REGISTER), None)


def require_traits(law: Any) -> Traits:
    """:func:`traits_of` a law that is known to be of a family.

    Raises:
        TypeError: If it is of none.
    """
    traits = traits_of(law)
    if traits is None:
        name = (law if isinstance(law, type) else type(law)).__name__
        raise TypeError(f"{name} is no family; see jaxsteer.families.family.")
    return traits


def registered() -> dict[type, Traits]:
    """All families, in the order in which they were declared."""
    return dict(_REGISTER)


def fitted_by_samples() -> dict[str, Any]:
    """The families that one feature's rows determine, by name, such as "von_mises"."""
    return {
        re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower(): cls
        for cls, traits in sorted(_REGISTER.items(), key=lambda one: one[0].__name__)
        if hasattr(cls, "from_samples") and not traits.vectors
    }
