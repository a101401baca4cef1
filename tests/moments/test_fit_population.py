from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moment_rows import close, some_rows

from jaxsteer.families import (
    DiagonalNormal,
    LogNormal,
    MultivariateLogNormal,
    MultivariateNormal,
    Normal,
)
from jaxsteer.moments import fit_population

X, LABEL, GROUP = some_rows()


def cell_of(i, a):
    return X[(i == LABEL) & (a == GROUP)]


@pytest.mark.parametrize(
    ("family", "ndim", "kind"),
    [
        ("normal", 1, Normal),
        ("normal", 2, MultivariateNormal),
        ("diagonal_normal", 2, DiagonalNormal),
        ("lognormal", 1, LogNormal),
        ("lognormal", 2, MultivariateLogNormal),
    ],
)
def test_family_decides_what_is_fitted(family, ndim, kind):
    x = X if ndim == 2 else X[:, 0]
    data = np.exp(x) if family == "lognormal" else x
    pop = fit_population(data, LABEL, GROUP, family, shrinkage=None)
    law = pop.conditionals
    assert type(law) is kind
    close(pop.priors, np.full((2, 2), 0.25))
    base = law.base if family == "lognormal" else law
    for i, a in np.ndindex(2, 2):
        mine = cell_of(i, a)[:, :1] if ndim == 1 else cell_of(i, a)
        cov = np.atleast_2d(np.cov(mine.T, ddof=0))
        if kind is DiagonalNormal:
            cov = np.diag(np.diag(cov))
        close(np.atleast_1d(base.mean[i, a]), mine.mean(0))
        close(np.atleast_2d(base.cov[i, a]), cov)


def test_diagonal_family_of_a_single_column():
    law = fit_population(X[:, :1], LABEL, GROUP, "diagonal_normal").conditionals
    flat = fit_population(X[:, 0], LABEL, GROUP).conditionals
    close(law.loc[..., 0], flat.loc)
    close(law.scale[..., 0], flat.scale)


def test_every_shrinkage_gives_another_answer():
    kinds = (None, "oas", "ledoit-wolf", 0.4, 1.0)
    covs = [
        np.asarray(fit_population(X, LABEL, GROUP, shrinkage=k).conditionals.cov)
        for k in kinds
    ]
    for one in range(len(kinds)):
        for other in range(one):
            assert np.abs(covs[one] - covs[other]).max() > 1e-3
    default = fit_population(X, LABEL, GROUP).conditionals.cov
    np.testing.assert_array_equal(default, covs[1])
    trace = np.trace(covs[0], axis1=-2, axis2=-1)
    for cov in covs:
        close(np.trace(cov, axis1=-2, axis2=-1), trace)


def test_variances_alone_are_never_shrunk():
    one, other = (
        fit_population(X[:, 0], LABEL, GROUP, shrinkage=s) for s in (None, 1.0)
    )
    np.testing.assert_array_equal(one.conditionals.scale, other.conditionals.scale)


@pytest.mark.parametrize("shrinkage", [None, 0.3])
def test_weights_count_as_repeated_rows(shrinkage):
    times = np.random.default_rng(1).integers(1, 4, len(X))
    weighted = fit_population(X, LABEL, GROUP, shrinkage=shrinkage, weights=times)
    many = [np.repeat(v, times, axis=0) for v in (X, LABEL, GROUP)]
    repeated = fit_population(*many, shrinkage=shrinkage)
    for found, expected in zip(
        jax.tree.leaves(weighted), jax.tree.leaves(repeated), strict=True
    ):
        close(found, expected)
    plain = fit_population(X, LABEL, GROUP, shrinkage=shrinkage)
    assert np.abs(weighted.conditionals.mean - plain.conditionals.mean).max() > 1e-3
    assert np.abs(weighted.priors - plain.priors).max() > 1e-3


def test_shrinkage_sees_the_effective_number_of_rows():
    # Weights that are all alike say nothing about the number of rows; a few large ones
    # leave fewer effective rows, and so more shrinkage.
    uneven = np.where(np.arange(len(X)) % 16 < 4, 10.0, 1.0)
    plain, doubled, heavy = (
        fit_population(X, LABEL, GROUP, weights=w).conditionals.cov
        for w in (None, np.full(len(X), 2.0), uneven)
    )
    close(doubled, plain)
    raw = fit_population(X, LABEL, GROUP, "normal", None, uneven)
    spread = [
        np.abs(c[0, 0] - np.trace(c[0, 0]) / 3 * np.eye(3)).max()
        for c in (np.asarray(heavy), np.asarray(raw.conditionals.cov))
    ]
    assert spread[0] < spread[1]


def test_one_group_and_one_class_are_fine():
    pop = fit_population(X, LABEL, np.zeros_like(GROUP))
    assert pop.priors.shape == (2, 1)
    single = fit_population(X[:, 0], np.zeros_like(LABEL), np.zeros_like(GROUP))
    close(single.conditionals.loc, [[X[:, 0].mean()]])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "bool", "int32", "int64"])
def test_codes_of_any_integer_type(dtype):
    found = fit_population(X, LABEL.astype(dtype), GROUP.astype(dtype))
    np.testing.assert_array_equal(
        found.conditionals.mean, fit_population(X, LABEL, GROUP).conditionals.mean
    )


def test_narrow_codes_do_not_overflow():
    # 30 classes in 5 groups are 150 cells, more than int8 can count.
    label = np.repeat(np.arange(30), 10).astype(np.int8)
    group = np.tile(np.arange(5), 60).astype(np.int8)
    x = 10.0 * label + group + np.tile(np.repeat([-1, 1], 5), 30)
    loc = fit_population(x, label, group).conditionals.loc
    close(loc, 10.0 * np.arange(30)[:, None] + np.arange(5))


def test_whole_and_half_precision_features():
    whole = np.arange(16).reshape(8, 2) ** 2
    label, group = np.repeat([0, 1], 4), np.tile([0, 0, 1, 1], 2)
    found, half, listed, expected = (
        fit_population(x, label, group, "diagonal_normal")
        for x in (whole, whole.astype(np.float16), whole.tolist(), whole.astype(float))
    )
    assert jnp.issubdtype(found.conditionals.loc.dtype, jnp.floating)
    np.testing.assert_array_equal(found.conditionals.loc, expected.conditionals.loc)
    np.testing.assert_array_equal(listed.conditionals.loc, expected.conditionals.loc)
    assert half.conditionals.loc.dtype == jnp.float32
    np.testing.assert_array_equal(half.conditionals.loc, expected.conditionals.loc)
