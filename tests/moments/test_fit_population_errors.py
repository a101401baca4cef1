from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moment_rows import some_rows

from jaxsteer.moments import fit_population

X, LABEL, GROUP = some_rows()
NO_SHRINKAGE = {"shrinkage": None}


def with_value(value, row=3, column=1):
    x = X.copy()
    x[row, column] = value
    return x


def with_columns(*columns):
    return np.column_stack([X, *columns])


def moved(codes, value, row=5):
    codes = codes.copy()
    codes[row] = value
    return codes


CONSTANT = with_columns(np.full(len(X), 0.1))
COLLINEAR = with_columns(X @ [1.0, 2.0, 0.5])
HALF_CONSTANT = with_columns(np.where((LABEL == 1) & (GROUP == 0), 7.0, X[:, 0] ** 2))
NAMES = np.array(["no", "yes"])[LABEL]

REFUSED = {
    "empty cell": (
        (X, LABEL, np.where(LABEL == 1, 0, GROUP)),
        {},
        r"no rows in the cells \(class 1, group 1\): .* Merge that group",
    ),
    "zero weights": (
        (X, LABEL, GROUP),
        {"weights": ((LABEL == 0) | (GROUP == 0)).astype(float)},
        r"no rows in the cells \(class 1, group 1\)",
    ),
    "too many groups": (
        (X, LABEL, GROUP),
        {"n_groups": 3},
        r"cells \(class 0, group 2",
    ),
    "small cells": (
        tuple(v[:12] for v in (X, LABEL, GROUP)),
        NO_SHRINKAGE,
        r"\(class 1, group 1\) have fewer effective rows \(3 at the least\) than 3 "
        r"features plus one, so their covariances are singular; pass shrinkage='oas'",
    ),
    "small cells, 0": (
        tuple(v[:12] for v in (X, LABEL, GROUP)),
        {"shrinkage": 0.0},
        "fewer effective rows .* pass shrinkage='oas'",
    ),
    "constant": (
        (CONSTANT, LABEL, GROUP),
        NO_SHRINKAGE,
        r"x has constant columns \(3\) within every cell; drop them .*shrinkage='oas'",
    ),
    "constant, diagonal": (
        (CONSTANT, LABEL, GROUP),
        {"family": "diagonal_normal"},
        r"x has constant columns \(3\) within every cell; drop them .* are\)\.$",
    ),
    "constant in a cell": (
        (HALF_CONSTANT, LABEL, GROUP),
        NO_SHRINKAGE,
        r"does not vary in columns 3 within the cells \(class 1, group 0\)",
    ),
    "collinear": (
        (COLLINEAR, LABEL, GROUP),
        NO_SHRINKAGE,
        "columns 3 of x are linear combinations of earlier ones .* shrinkage='oas'",
    ),
    "nan": (
        (with_value(np.nan), LABEL, GROUP),
        {},
        r"1 values .* index 3, 1 \(nan\)",
    ),
    "inf": ((with_value(np.inf), LABEL, GROUP), {}, r"index 3, 1 \(inf\); impute"),
    "names": (
        (X, NAMES, GROUP),
        {},
        r"label must hold integer codes.*encode_labels\(lab",
    ),
    "floats": ((X, LABEL, GROUP * 1.0), {}, "group must hold integer codes .* float64"),
    "negative code": ((X, moved(LABEL, -1), GROUP), {}, "label has codes from -1 to 1"),
    "large code": (
        (X, LABEL, moved(GROUP, 2)),
        {"n_groups": 2},
        r"group has codes from 0 to 2, expected 0\.\.1; an unknown value cannot",
    ),
    "lengths": (
        (X, LABEL[:-1], GROUP),
        {},
        "x has 80, label has 79, group has 80 rows",
    ),
    "weight lengths": (
        (X, LABEL, GROUP),
        {"weights": np.ones(3)},
        "weights has 3 rows",
    ),
    "no rows": ((X[:0], LABEL[:0], GROUP[:0]), {}, "x, label, group: no rows"),
    "scalar": ((X, 0, GROUP), {}, "label: expected one entry a row, got a scalar"),
    "cube": ((X[None].repeat(80, 0), LABEL, GROUP), {}, r"x must have shape \[n\] or"),
    "column of codes": (
        (X, LABEL[:, None], GROUP),
        {},
        r"label must have shape \[n\], g",
    ),
    "column of weights": (
        (X, LABEL, GROUP),
        {"weights": np.ones((80, 1))},
        r"weights must have shape \[n\], got \(80, 1\)",
    ),
    "negative weight": (
        (X, LABEL, GROUP),
        {"weights": moved(np.ones(80), -2.0)},
        r"weights must be at least 0 .* minimum of -2\.0",
    ),
    "no weight": ((X, LABEL, GROUP), {"weights": np.zeros(80)}, "a sum of 0"),
    "nan weight": (
        (X, LABEL, GROUP),
        {"weights": moved(np.ones(80), np.nan)},
        "weights has 1 values that are not finite, the first at index 5",
    ),
    "zero": (
        (with_value(0.0) ** 2, LABEL, GROUP, "lognormal"),
        {},
        "at or below 0, which",
    ),
    "family": (
        (X, LABEL, GROUP, "gauss"),
        {},
        "family='gauss' is not known; choose one",
    ),
    "shrinkage": (
        (X, LABEL, GROUP),
        {"shrinkage": "no"},
        "shrinkage='no' is not known",
    ),
    "shrinkage, 1-D": ((X[:, 0], LABEL, GROUP), {"shrinkage": 2}, "shrinkage=2 is not"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_message(case):
    arguments, options, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        fit_population(*arguments, **options)


def test_overflow_is_named():
    x = jnp.asarray(X * 1e30, jnp.float32)
    with pytest.raises(ValueError, match=r"x overflows float32 .*standardize"):
        fit_population(x, LABEL, GROUP)


SINGLE = np.where(np.arange(80) == 1, 1, 0)


@pytest.mark.parametrize("x", [X, X[:, 0]], ids=["matrix", "line"])
def test_cell_of_a_single_row(x):
    message = (
        r"the cells \(class 1, group 0\) have no spread at all \(a single row"
        if x.ndim == 2
        else r"does not vary in columns 0 within the cells \(class 1, group 0\)"
    )
    label = np.where(GROUP == 0, SINGLE, LABEL)
    with pytest.raises(ValueError, match=message):
        fit_population(x, label, GROUP)


WARNED = {
    "small cells": (
        tuple(v[:12] for v in (X, LABEL, GROUP)),
        r"fewer effective rows .* mostly shrinkage",
    ),
    "constant": ((CONSTANT, LABEL, GROUP), "columns 3 of x are constant within every"),
    "collinear": ((COLLINEAR, LABEL, GROUP), "columns 3 of x are linear combinations"),
}


@pytest.mark.parametrize("shrinkage", ["oas", "ledoit-wolf", 0.1])
@pytest.mark.parametrize("case", WARNED)
def test_shrinkage_goes_on_with_a_warning(case, shrinkage):
    arguments, message = WARNED[case]
    with pytest.warns(UserWarning, match=message) as seen:
        pop = fit_population(*arguments, shrinkage=shrinkage)
    assert len(seen) == 1
    assert seen[0].filename == __file__  # points at the caller
    assert np.isfinite(pop.kl(pop))
    cov = np.asarray(pop.conditionals.cov, float)
    assert np.linalg.eigvalsh(cov).min() > 0


def test_clean_rows_give_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_population(X, LABEL, GROUP)
        fit_population(HALF_CONSTANT, LABEL, GROUP)


@pytest.mark.parametrize("seed", range(8))
def test_collinear_columns_in_float32_are_found_not_a_crash(seed):
    # Rounding leaves the pooled covariance of such columns slightly indefinite.
    x, label, group = some_rows(300, 5, seed)
    x = np.c_[x, x @ np.random.default_rng(seed).normal(size=(5, 2))]
    with pytest.raises(ValueError, match="columns 5, 6 of x are linear combinations"):
        fit_population(x.astype(np.float32), label, group, shrinkage=None)


def test_traced_codes_need_their_number():
    fit = jax.jit(lambda label, group: fit_population(X, label, group).priors)
    with pytest.raises(ValueError, match=r"label is traced.*pass n_classes=\.\.\."):
        fit(LABEL, GROUP)
