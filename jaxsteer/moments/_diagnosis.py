"""What a sample is too poor for, said before it does harm.

Runs on the host, on concrete values only: inside ``jit`` the same faults end as a
:class:`jaxsteer.Status`.
"""

from __future__ import annotations

import warnings

import numpy as np

from jaxsteer.moments._cells import CellMoments

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


def diagnose(
    moments: CellMoments, n_groups: int, *, full: bool, shrinkage: object
) -> None:
    """Raise or warn, naming cells and columns.

    Args:
        moments: Concrete moments of the cells.
        n_groups: Number of groups, to name cells.
        full: Whether full covariances are needed (else variances only).
        shrinkage: What will be done about small cells; None means nothing.

    Raises:
        ValueError: Empty cells, moments that overflowed, cells or columns without
            variance, and, without shrinkage, cells smaller than the dimension and
            collinear columns.
    """
    mass = np.asarray(moments.mass)
    cov = np.asarray(moments.cov, np.float64)
    rows = np.asarray(moments.effective_count)
    d = cov.shape[-1]
    if (mass <= 0).any():
        raise ValueError(
            f"no rows in the cells {_cells(mass <= 0, n_groups)}: independence of class "
            f"and group cannot be reached there. Merge that group with another, or leave "
            f"out that class."
        )
    if not (np.isfinite(cov).all() and np.isfinite(np.asarray(moments.mean)).all()):
        raise ValueError(
            f"x overflows {moments.cov.dtype} in its moments; standardize the "
            f"features first (they need not keep their units)."
        )
    variances = np.diagonal(cov, axis1=-2, axis2=-1)
    # The spread of a constant column is rounding, relative to its level.
    level = np.square(np.asarray(moments.mean, np.float64))
    tiny = np.finfo(moments.cov.dtype).eps ** 2 * 16 * level
    flat = variances <= tiny
    constant = flat.all(0)
    remedy = "drop them (a steering map leaves them as they are)"
    if not full or shrinkage is None:
        if constant.any():
            raise ValueError(
                f"x has constant columns ({_columns(constant)}) within every cell; "
                f"{remedy}" + (", or pass shrinkage='oas'." if full else ".")
            )
        if flat.any():
            raise ValueError(
                f"x does not vary in columns {_columns(flat.any(0))} within the cells "
                f"{_cells(flat.any(-1), n_groups)}; {remedy}, merge cells"
                + (", or pass shrinkage='oas'." if full else ".")
            )
    if not full:
        return
    lifeless = flat.all(-1)
    if lifeless.any():
        raise ValueError(
            f"the cells {_cells(lifeless, n_groups)} have no spread at all (a single row, "
            f"or identical rows); merge that group with another, or leave out that class."
        )
    if constant.any():
        warnings.warn(
            f"columns {_columns(constant)} of x are constant within every cell; {remedy}.",
            stacklevel=3,
        )
    small = rows < d + 1
    if small.any():
        message = (
            f"the cells {_cells(small, n_groups)} have fewer effective rows "
            f"({rows.min():.0f} at the least) than {d} features plus one"
        )
        if shrinkage is None:
            raise ValueError(
                f"{message}, so their covariances are singular; pass shrinkage='oas' or "
                f"'ledoit-wolf', fewer features, or merge cells."
            )
        warnings.warn(
            f"{message}; their covariances are mostly shrinkage.", stacklevel=3
        )
    pooled = np.einsum("c,cij->ij", mass / mass.sum(), cov)
    combined = (_unexplained(pooled) <= COLLINEAR) & ~constant
    if combined.any():
        message = (
            f"columns {_columns(combined)} of x are linear combinations of earlier ones "
            f"within the cells"
        )
        if shrinkage is None:
            raise ValueError(f"{message}; {remedy}, or pass shrinkage='oas'.")
        warnings.warn(
            f"{message}: maps are ill-determined along them; {remedy}.", stacklevel=3
        )
