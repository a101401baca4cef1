"""What each ``covariance`` of ``fit_population`` refuses, warns of, and lets pass."""

from __future__ import annotations

import warnings

import jax
import numpy as np
import pytest
from moment_rows import some_rows

from jaxsteer.moments import fit_population

X, LABEL, GROUP = some_rows(d=5)
SMALL = some_rows(24, d=8)  # 6 rows a cell, 12 a group
TINY = some_rows(16, d=8)  # 4 rows a cell, 8 a group
CONSTANT = np.column_stack([X, np.full(len(X), 0.1)])
COLLINEAR = np.column_stack([X, X @ np.arange(1.0, 6.0)])
SINGLE = np.where(GROUP == 0, np.where(np.arange(80) == 1, 1, 0), LABEL)
SELF_KL = jax.jit(lambda pop: pop.kl(pop))

REFUSED = {
    "unknown": (
        (X, LABEL, GROUP),
        {"covariance": "spherical"},
        "covariance='spherical' is not known; choose one of 'full', 'tied', 'diagonal'",
    ),
    "one feature": (
        (X[:, 0], LABEL, GROUP),
        {"covariance": "tied"},
        r"covariance='tied' needs x of shape \[n, d\], got \(80,\); leave it out",
    ),
    "one column": (
        (X[:, :1], LABEL, GROUP),
        {"covariance": "low_rank"},
        "covariance='low_rank' needs two columns at least, x has 1; use cov",
    ),
    "contradiction": (
        (X, LABEL, GROUP, "diagonal_normal"),
        {"covariance": "low_rank"},
        "covariance='low_rank' contradicts family='diagonal_normal'.*family='normal'",
    ),
    "rank alone": (
        (X, LABEL, GROUP),
        {"rank": 2},
        "rank=2 is for covariance='low_rank', got 'full'",
    ),
    "rank too small": (
        (X, LABEL, GROUP),
        {"covariance": "low_rank", "rank": 0},
        "rank=0 is out of range for 5 features; give 1 to 4",
    ),
    "rank too large": (
        (X, LABEL, GROUP),
        {"covariance": "low_rank", "rank": 5},
        "rank=5 is out of range for 5 features; give 1 to 4",
    ),
    "rank no number": (
        (X, LABEL, GROUP),
        {"covariance": "low_rank", "rank": 2.0},
        r"rank=2\.0 must be a whole number",
    ),
    "rank beyond the rows": (
        SMALL,
        {"covariance": "low_rank", "rank": 5},
        r"cells \(class 0, group 0\), .* \(6 at the least\) than rank=5 plus two; pass a "
        r"smaller rank, covariance='tied' or 'diagonal', or merge cells",
    ),
    "small groups": (
        TINY,
        {"covariance": "tied", "shrinkage": None},
        r"the groups 0, 1 have fewer effective rows \(8 at the least\) than 8 features "
        r"plus 2 classes, so .* pass shrinkage='oas' or .* covariance='low_rank' or",
    ),
    "small cells": (
        TINY,
        {"shrinkage": None},
        "are singular; pass shrinkage='oas' .*, covariance='tied', 'low_rank' or 'diag",
    ),
    "empty cell": (
        (X, LABEL, np.where(LABEL == 1, 0, GROUP)),
        {"covariance": "tied"},
        r"no rows in the cells \(class 1, group 1\)",
    ),
    "single row": (
        (X, SINGLE, GROUP),
        {"covariance": "low_rank"},
        r"the cells \(class 1, group 0\) have no spread at all .* covariance='tied'",
    ),
    "constant, tied": (
        (CONSTANT, LABEL, GROUP),
        {"covariance": "tied", "shrinkage": None},
        r"x has constant columns \(5\) within every cell",
    ),
    "constant, low rank": (
        (CONSTANT, LABEL, GROUP),
        {"covariance": "low_rank", "shrinkage": None},
        r"x has constant columns \(5\) within every cell; .* shrinkage='oas'",
    ),
    "constant, diagonal": (
        (CONSTANT, LABEL, GROUP),
        {"covariance": "diagonal"},
        r"x has constant columns \(5\) within every cell; drop them .* are\)\.$",
    ),
    "constant in a group, tied": (
        (np.column_stack([X, np.where(GROUP == 1, 3.0, X[:, 0])]), LABEL, GROUP),
        {"covariance": "tied", "shrinkage": None},
        "does not vary in columns 5 within the groups 1;",
    ),
    "collinear, tied": (
        (COLLINEAR, LABEL, GROUP),
        {"covariance": "tied", "shrinkage": None},
        "columns 5 of x are linear combinations .* or covariance='low_rank'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_message(case):
    arguments, options, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        fit_population(*arguments, **options)


PASSES = {
    "tied, small cells": (SMALL, {"covariance": "tied"}),
    "tied, small cells, unshrunk": (SMALL, {"covariance": "tied", "shrinkage": None}),
    "tied, a cell of a single row": ((X, SINGLE, GROUP), {"covariance": "tied"}),
    "low rank, small cells": (TINY, {"covariance": "low_rank"}),
    "low rank, largest": (SMALL, {"covariance": "low_rank", "rank": 4}),
    "low rank, collinear": ((COLLINEAR, LABEL, GROUP), {"covariance": "low_rank"}),
    "diagonal, small cells": (TINY, {"covariance": "diagonal"}),
    "diagonal, collinear": ((COLLINEAR, LABEL, GROUP), {"covariance": "diagonal"}),
}


@pytest.mark.parametrize("case", PASSES)
def test_small_and_collinear_cells_pass_without_a_word(case):
    arguments, options = PASSES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pop = fit_population(*arguments, **options)
    assert np.isfinite(SELF_KL(pop))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pop))
    variances = np.linalg.eigvalsh(np.asarray(pop.conditionals.cov, float))
    assert variances.min() > 1e-8 * variances.max()


WARNED = {
    "small groups": (
        TINY,
        {"covariance": "tied"},
        "the groups 0, 1 have fewer .* mostly shrinkage .covariance='low_rank' or",
    ),
    "constant, tied": (
        (CONSTANT, LABEL, GROUP),
        {"covariance": "tied"},
        "columns 5 of x are constant",
    ),
    "constant, low rank": (
        (CONSTANT, LABEL, GROUP),
        {"covariance": "low_rank"},
        "columns 5 of x are constant",
    ),
    "collinear, tied": (
        (COLLINEAR, LABEL, GROUP),
        {"covariance": "tied"},
        "columns 5 of x are linear combinations",
    ),
}


@pytest.mark.parametrize("case", WARNED)
def test_shrinkage_goes_on_with_a_warning(case):
    arguments, options, message = WARNED[case]
    with pytest.warns(UserWarning, match=message) as seen:
        pop = fit_population(*arguments, **options)
    assert len(seen) == 1
    assert seen[0].filename == __file__  # points at the caller
    assert np.isfinite(SELF_KL(pop))


def some_shapes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (v.aval.shape for v in equation.outvars)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from some_shapes(inner)


@pytest.mark.parametrize("covariance", ["low_rank", "diagonal", "full"])
def test_few_rows_form_no_matrix_of_all_columns(covariance):
    x, label, group = some_rows(88, d=29)

    def program(x):
        return fit_population(
            x, label, group, n_classes=2, n_groups=2, covariance=covariance
        )

    shapes = list(some_shapes(jax.make_jaxpr(program)(x).jaxpr))
    square = [s for s in shapes if sum(n == 29 for n in s) > 1]
    assert bool(square) == (covariance == "full")
