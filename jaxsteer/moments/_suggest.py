"""Which family describes the cells best: by the likelihood of rows held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_cells
from jaxsteer._labels import cell_codes
from jaxsteer._types import ArrayLike, Float, Int
from jaxsteer.maps import BoxCox, SinhArcsinh, YeoJohnson
from jaxsteer.moments._fit import fit_population
from jaxsteer.moments._transformed import fit_transformed_population
from jaxsteer.population import Population

# From x, label, group and weights=, n_classes=, n_groups= to a population.
Fit = Callable[..., Population]

COUNTS = ("bernoulli", "poisson", "geometric")
POSITIVE = ("exponential", "gamma", "inverse_gamma", "rayleigh", "weibull")
BENT: dict[str, tuple[type, tuple[float, ...]]] = {
    "yeo_johnson": (YeoJohnson, (1.0,)),
    "sinh_arcsinh": (SinhArcsinh, (0.0, 1.0)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FamilySuggestion:
    """Candidates, the best first.

    Attributes:
        families: Their names.
        log_likelihood: ``[F]`` mean log-density of a row that was held out, in its cell,
            in nats.
        behind: ``[F]`` how much less than the best.
        standard_error: ``[F]`` of that difference, over rows.
        failed: Candidates that could not be fitted, with the message.
    """

    families: tuple[str, ...]
    log_likelihood: np.ndarray
    behind: np.ndarray
    standard_error: np.ndarray
    failed: dict[str, str]

    @property
    def best(self) -> str:
        """The family of the highest likelihood."""
        return self.families[0]


def family_candidates(
    x: Float[ArrayLike, " n"] | Float[ArrayLike, "n d"],
) -> dict[str, Fit]:
    """The families whose support holds all of `x`, with how each is fitted.

    Args:
        x: ``[n]`` or ``[n, d]`` features; integers are counts, ``[n]`` only.

    Returns:
        Functions ``fit(x, label, group, **options) -> Population`` by name.
    """
    values = np.asarray(x)
    if values.ndim == 1 and np.issubdtype(values.dtype, np.integer):
        names = COUNTS if values.max() <= 1 else COUNTS[1:]
        return {name: _by_name(name) for name in names if values.min() >= 0}
    found: dict[str, Fit] = {"normal": _by_name("normal")}
    if values.ndim == 2:
        found["diagonal_normal"] = _by_name("diagonal_normal")
    found |= {name: _bent(*start) for name, start in BENT.items()}
    if (values > 0).all():
        found["lognormal"] = _by_name("lognormal")
        found["box_cox"] = _bent(BoxCox, (1.0,))
    if values.ndim == 1:
        found |= {name: _by_name(name) for name in ("laplace", "gumbel")}
        if (values > 0).all():
            found |= {name: _by_name(name) for name in POSITIVE}
        if ((values > 0) & (values < 1)).all():
            found["beta"] = _by_name("beta")
    return found


def suggest_family(
    x: Float[ArrayLike, " n"] | Float[ArrayLike, "n d"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    families: Mapping[str, Fit] | None = None,
    *,
    n_folds: int = 5,
    seed: int = 0,
) -> FamilySuggestion:
    """Rank families by the likelihood of rows that they were not fitted to.

    Args:
        x: ``[n]`` or ``[n, d]`` features. Standardize columns first: bijections begin
            around 0 and 1.
        label: ``[n]`` class codes.
        group: ``[n]`` group codes.
        families: Candidates; None takes :func:`family_candidates`.
        n_folds: Parts that are held out in turn, each with its share of every cell.
        seed: Of the split.

    Returns:
        The ranking; ``families[name](x, label, group)`` fits one to all rows. Cost
        `n_folds` fits of each candidate.

    Raises:
        ValueError: If lengths differ, `n_folds` is below 2, or no candidate can be
            fitted.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> code = rng.integers(0, 2, (2, 600))
        >>> x = rng.weibull(1.5, 600) * (1.0 + code[0])
        >>> names = ("normal", "exponential", "weibull")
        >>> every = family_candidates(x)
        >>> suggest_family(x, *code, {name: every[name] for name in names}).best
        'weibull'
    """
    n_classes, n_groups = check_cells(x, label, group)
    if not isinstance(n_folds, int) or n_folds < 2:
        raise ValueError(f"n_folds={n_folds!r} must be a whole number above 1.")
    families = family_candidates(x) if families is None else families
    x, label, group = np.asarray(x), np.asarray(label), np.asarray(group)
    cell = cell_codes(label, group, n_groups)
    fold = _folds(cell, n_folds, seed)
    rows, failed = {}, {}
    for name, fit in families.items():
        try:
            held_out = np.zeros(len(x))
            for part in range(n_folds):
                # Weights of 0, not fewer rows: every fold runs the same program.
                weights = jnp.asarray(fold != part, jnp.float32)
                pop = fit(
                    x,
                    label,
                    group,
                    weights=weights,
                    n_classes=n_classes,
                    n_groups=n_groups,
                )
                mine = fold == part
                held_out[mine] = _log_density(pop, x, cell)[mine]
            rows[name] = held_out
        except ValueError as error:
            failed[name] = str(error)
    if not rows:
        raise ValueError(f"families: none of them could be fitted: {failed}.")
    return _rank(rows, failed)


def _rank(rows: dict[str, np.ndarray], failed: dict[str, str]) -> FamilySuggestion:
    # NaN where a family has no density at a row: as bad as none.
    rows = {name: np.nan_to_num(row, nan=-np.inf) for name, row in rows.items()}
    order = sorted(rows, key=lambda name: -rows[name].mean())
    best = rows[order[0]]
    with np.errstate(invalid="ignore"):
        gaps = [best - rows[name] for name in order]
        error = [gap.std(ddof=1) / len(gap) ** 0.5 for gap in gaps]
    return FamilySuggestion(
        families=tuple(order),
        log_likelihood=np.array([rows[name].mean() for name in order]),
        behind=np.array([gap.mean() for gap in gaps]),
        standard_error=np.array(error),
        failed=failed,
    )


def _folds(cell: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """A fold for every row, evenly within each cell."""
    order = np.random.default_rng(seed).permutation(len(cell))
    order = order[np.argsort(cell[order], kind="stable")]
    fold = np.empty(len(cell), int)
    fold[order] = np.arange(len(cell)) % n_folds
    return fold


@jax.jit
def _in_cell(pop: Population, code: Any, x: Any) -> Any:
    return pop.cell(code // pop.n_groups, code % pop.n_groups).log_prob(x)


def _log_density(pop: Population, x: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Log-density of each row in its own cell."""
    found = np.zeros(len(x))
    for code in np.unique(cell):
        mine = cell == code
        found[mine] = np.asarray(_in_cell(pop, int(code), jnp.asarray(x)))[mine]
    return found


def _by_name(family: str) -> Fit:
    return lambda x, label, group, **rest: fit_population(
        x, label, group, family=family, **rest
    )


def _bent(kind: type, parameters: tuple[float, ...]) -> Fit:
    start = kind(*parameters)
    return lambda x, label, group, **rest: fit_transformed_population(
        x, label, group, start, **rest
    )
