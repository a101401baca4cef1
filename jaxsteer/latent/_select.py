"""The number of latent groups, by an information criterion."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxsteer._errors import check_choice
from jaxsteer._types import ArrayLike, Float
from jaxsteer.latent._fit import fit_rome_em
from jaxsteer.latent._result import RomeFit

CRITERIA = ("bic", "aic")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RomeSelection:
    """Fits with different numbers of groups.

    Attributes:
        fits: One for each number of groups.
        n_groups: Those numbers.
        criterion: "bic" or "aic".
    """

    fits: tuple[RomeFit, ...]
    n_groups: tuple[int, ...]
    criterion: str

    @property
    def values(self) -> np.ndarray:
        """The criterion of every fit; less is better."""
        return np.array([float(getattr(fit, self.criterion)) for fit in self.fits])

    @property
    def best(self) -> RomeFit:
        """The fit with the least value of the criterion."""
        return self.fits[int(np.nanargmin(self.values))]

    def table(self) -> dict[str, list[float]]:
        """Columns `n_groups`, `log_likelihood`, `n_parameters`, `aic` and `bic`."""
        return {
            "n_groups": list(self.n_groups),
            "log_likelihood": [float(fit.log_likelihood) for fit in self.fits],
            "n_parameters": [fit.n_parameters for fit in self.fits],
            "aic": [float(fit.aic) for fit in self.fits],
            "bic": [float(fit.bic) for fit in self.fits],
        }


def select_rome_em(
    y: ArrayLike,
    x: Float[ArrayLike, "n p"],
    s_membership: Float[ArrayLike, "n q"],
    n_groups: Iterable[int],
    *,
    criterion: str = "bic",
    **options: Any,
) -> RomeSelection:
    """Fit the mixture for every number of groups, and choose by BIC or AIC.

    Args:
        y: ``[n]`` outcomes or class codes.
        x: ``[n, p]`` columns of the outcome.
        s_membership: ``[n, q]`` columns of the membership.
        n_groups: Numbers of groups to try, such as ``range(1, 7)``.
        criterion: "bic" or "aic".
        **options: Of :func:`fit_rome_em`, the same for every fit.

    Returns:
        All fits, with the best.

    Raises:
        ValueError: If there is nothing to try, or an argument is unusable.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jax.random.normal(jax.random.key(0), (300, 2))
        >>> y = jnp.abs(x[:, 1]) * 0 + x[:, 0] * jnp.sign(x[:, 1])
        >>> found = select_rome_em(y, x[:, :1], x[:, 1:], (1, 2), max_steps=20)
        >>> found.best.n_groups
        2
    """
    check_choice("criterion", criterion, CRITERIA)
    sizes = tuple(int(size) for size in n_groups)
    if not sizes:
        raise ValueError("n_groups is empty; give the numbers to try, as range(1, 7).")
    fits = tuple(fit_rome_em(y, x, s_membership, size, **options) for size in sizes)
    return RomeSelection(fits=fits, n_groups=sizes, criterion=criterion)
