"""Groups and concepts as truth values are codes 0 and 1, in every baseline."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxsteer import baselines

N = 24
RNG = np.random.default_rng(0)
CODES, LABEL = np.arange(N) % 2, np.arange(N) // 2 % 2
X = RNG.normal(size=(N, 2)) + np.stack([CODES, LABEL], 1)

CALLS = {
    "fit_leace": lambda z, y: baselines.fit_leace(X, z),
    "fit_mean_match": lambda z, y: baselines.fit_mean_match(X, z),
    "fit_mimic": lambda z, y: baselines.fit_mimic(X, z),
    "fit_oracle_leace": lambda z, y: baselines.fit_oracle_leace(X, z)(X, z),
    "fit_quadratic_leace": lambda z, y: baselines.fit_quadratic_leace(X, z),
    "fit_splince": lambda z, y: baselines.fit_splince(X, z, y),
    "fit_inlp": lambda z, y: baselines.fit_inlp(X, z),
    "reweighing": lambda z, y: baselines.reweighing(y, z),
}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_truth_values_are_codes(name):
    expected = CALLS[name](CODES, LABEL)
    found = CALLS[name](CODES.astype(bool), LABEL.astype(bool))
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_array_equal(one, other)
