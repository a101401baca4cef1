"""What a sample is too poor for, said before it does harm.

Runs on the host, on concrete values only: inside ``jit`` the same faults end as a
:class:`jaxsteer.Status`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxsteer.moments._cells import CellMoments
from jaxsteer.moments._columns import CellColumns

# A column counts as a combination of earlier ones when they explain all but this part
# of its variance within cells: beyond it a map amplifies noise a thousandfold.
COLLINEAR = 1e-6


def _cells(mask: np.ndarray, n_groups: int) -> str:
    codes = np.flatnonzero(mask)
    named = [f"(class {c // n_groups}, group {c % n_groups})" for c in codes[:8]]
    more = f" and {len(codes) - 8} more" if len(codes) > 8 else ""
    return ", ".join(named) + more


def _columns(mask: np.ndarray) -> str:
    found = np.flatnonzero(mask)
    return ", ".join(map(str, found[:12])) + (", ..." if len(found) > 12 else "")


def _unexplained(cov: np.ndarray) -> np.ndarray:
    """Share of each column's variance that earlier columns leave unexplained."""
    scale = np.sqrt(np.where(np.diag(cov) > 0, np.diag(cov), 1.0))
    left = cov / np.outer(scale, scale)
    shares = np.empty(len(cov))
    for j in range(len(cov)):
        shares[j] = left[j, j]
        # A combined column explains nothing more. Eliminating it would blow up the
        # rounding of float32, which can leave its share a little below 0.
        if shares[j] > COLLINEAR:
            column = left[j + 1 :, j] / np.sqrt(shares[j])
            left[j + 1 :, j + 1 :] -= np.outer(column, column)
    return shares


class _Units(NamedTuple):
    """What has a covariance of its own: the cells, or the groups where it is tied."""

    names: Callable[[np.ndarray], str]
    rows: np.ndarray
    variances: np.ndarray
    level: np.ndarray
    needed: int
    why: str


def _units(
    columns: CellColumns,
    n_groups: int,
    covariance: str,
    groups: Any,
    rank: int,
) -> _Units:
    # The spread of a constant column is rounding, relative to its level.
    level = np.square(np.asarray(columns.mean, np.float64))
    d = level.shape[-1]
    if covariance == "tied":
        level = level.reshape(-1, n_groups, d)
        return _Units(
            names=lambda mask: f"the groups {_columns(mask)}",
            rows=np.asarray(groups.effective_count),
            variances=np.diagonal(np.asarray(groups.cov, np.float64), 0, -2, -1),
            level=level.max(0),
            needed=d + len(level),
            why=f"{d} features plus {len(level)} classes",
        )
    low_rank = covariance == "low_rank"
    return _Units(
        names=lambda mask: f"the cells {_cells(mask, n_groups)}",
        rows=np.asarray(columns.effective_count),
        variances=np.asarray(columns.variance, np.float64),
        level=level,
        needed=rank + 2 if low_rank else d + 1,
        why=f"rank={rank} plus two" if low_rank else f"{d} features plus one",
    )


def diagnose(
    columns: CellColumns,
    n_groups: int,
    *,
    covariance: str,
    shrinkage: float | str | None,
    moments: CellMoments | None = None,
    rank: int = 0,
    judge_size: bool = True,
) -> None:
    """Raise or warn, naming cells and columns.

    What counts as too few rows depends on what is fitted: a full covariance needs more
    rows a cell than columns, a tied one more rows a group than columns and classes, a
    low-rank one two rows a cell more than its rank, variances alone need two.

    Args:
        columns: Concrete moments of the columns of the cells.
        n_groups: Number of groups, to name cells.
        covariance: "full", "tied", "low_rank" or "diagonal" (variances only).
        shrinkage: What will be done about small cells; None means nothing.
        moments: Of the cells ("full") or groups ("tied"), else not needed.
        rank: Of "low_rank".
        judge_size: Whether to compare rows with what is fitted to them; pseudo-rows
            stand in for those that are missing.

    Raises:
        ValueError: Empty cells, moments that overflowed, cells or columns without
            variance, cells with too few rows for a rank, and, without shrinkage, cells
            (or groups) smaller than the dimension and collinear columns.
    """
    mass = np.asarray(columns.mass)
    if (mass <= 0).any():
        raise ValueError(
            f"no rows in the cells {_cells(mass <= 0, n_groups)}: independence of class "
            f"and group cannot be reached there. Merge that group with another, or leave "
            f"out that class."
        )
    known = [columns.mean, columns.variance] + ([moments.cov] if moments else [])
    if not all(np.isfinite(np.asarray(k)).all() for k in known):
        raise ValueError(
            f"x overflows {columns.mean.dtype} in its moments; standardize the "
            f"features first (they need not keep their units)."
        )
    units = _units(columns, n_groups, covariance, moments, rank)
    shrinkable = covariance != "diagonal"
    tiny = np.finfo(columns.mean.dtype).eps ** 2 * 16 * units.level
    flat = units.variances <= tiny
    constant = flat.all(0)
    remedy = "drop them (a steering map leaves them as they are)"
    if not shrinkable or shrinkage is None:
        if constant.any():
            raise ValueError(
                f"x has constant columns ({_columns(constant)}) within every cell; "
                f"{remedy}" + (", or pass shrinkage='oas'." if shrinkable else ".")
            )
        if flat.any():
            raise ValueError(
                f"x does not vary in columns {_columns(flat.any(0))} within "
                f"{units.names(flat.any(-1))}; {remedy}, merge cells"
                + (", or pass shrinkage='oas'." if shrinkable else ".")
            )
    if not shrinkable:
        return
    if not flat.shape[-1]:
        raise ValueError("x has no columns; at least one feature is needed.")
    lifeless = flat.all(-1)
    if lifeless.any():
        tied = "" if covariance == "tied" else ", or pass covariance='tied'"
        dtype = columns.mean.dtype
        least = float(np.finfo(dtype).tiny) ** 0.5
        raise ValueError(
            f"{units.names(lifeless)} have no spread at all (a single row, identical "
            f"rows, or differences below {least:.0e}, whose squares {dtype} does not "
            f"hold: standardize these); merge that group with another, leave out that "
            f"class{tied}."
        )
    if constant.any():
        warnings.warn(
            f"columns {_columns(constant)} of x are constant within every cell; {remedy}.",
            stacklevel=3,
        )
    if judge_size:
        _judge_size(units, covariance, shrinkage)
    if moments is not None:
        _judge_columns(moments, constant, shrinkage, remedy)


def _judge_size(units: _Units, covariance: str, shrinkage: float | str | None):
    # Kish's count of equal weights may be a rounding below the number of rows.
    small = units.rows * (1 + 1e-5) < units.needed
    if not small.any():
        return
    message = (
        f"{units.names(small)} have fewer effective rows ({units.rows.min():.0f} at the "
        f"least) than {units.why}"
    )
    others = "covariance='tied', 'low_rank' or 'diagonal'"
    if covariance == "tied":
        others = "covariance='low_rank' or 'diagonal'"
    if covariance == "low_rank":
        raise ValueError(
            f"{message}; pass a smaller rank, covariance='tied' or 'diagonal', or merge "
            f"cells."
        )
    if shrinkage is None:
        raise ValueError(
            f"{message}, so their covariances are singular; pass shrinkage='oas' or "
            f"'ledoit-wolf', {others} (which need fewer rows), fewer features, or merge "
            f"cells."
        )
    warnings.warn(
        f"{message}; their covariances are mostly shrinkage ({others} need fewer rows).",
        stacklevel=4,
    )


def _judge_columns(
    moments: CellMoments,
    constant: np.ndarray,
    shrinkage: float | str | None,
    remedy: str,
):
    mass = np.asarray(moments.mass)
    cov = np.asarray(moments.cov, np.float64)
    pooled = np.einsum("c,cij->ij", mass / mass.sum(), cov)
    combined = (_unexplained(pooled) <= COLLINEAR) & ~constant
    if not combined.any():
        return
    message = (
        f"columns {_columns(combined)} of x are linear combinations of earlier ones "
        f"within the cells"
    )
    if shrinkage is None:
        raise ValueError(
            f"{message}; {remedy}, or pass shrinkage='oas' or covariance='low_rank'."
        )
    warnings.warn(
        f"{message}: maps are ill-determined along them; {remedy}.", stacklevel=4
    )
