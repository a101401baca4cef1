"""Codes of few bits give what int32 gives: no ``label * G + group`` overflows."""

from __future__ import annotations

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer
from jaxsteer import baselines, moments
from jaxsteer._labels import cell_codes
from jaxsteer.audit import metrics
from jaxsteer.datasets import stratified_split
from jaxsteer.latent import fit_soft_population, neural_data

# 17 x 19 = 323 cells: beyond what 8 bits can count, with codes that fit into them.
K, G, N = 17, 19, 17 * 19 * 6
ROOT = Path(jaxsteer.__file__).parent
RNG = np.random.default_rng(0)
CELL = RNG.permutation(np.arange(N) % (K * G))
LABEL, GROUP = CELL // G, CELL % G
PREDICTED = np.where(RNG.random(N) < 0.5, LABEL, RNG.integers(0, K, N))
X = RNG.normal(size=(N, 2)) + LABEL[:, None] / K
SCORE = RNG.normal(size=N)
WEIGHT = RNG.integers(1, 100, N)
SOFT = np.eye(G)[GROUP]
SIZES = {"n_classes": K, "n_groups": G}


def stream(label, group, predicted, weight):
    state = moments.init(2, **SIZES)
    return moments.update(state, X, label, group, weights=weight).mean


FUNCTIONS = {
    "accuracy": lambda y, g, p, w: metrics.accuracy(y, p, g, weights=w),
    "tpr_gap": lambda y, g, p, w: metrics.tpr_gap(y, p, g, weights=w),
    "equalized_odds": lambda y, g, p, w: metrics.equalized_odds(y, p, g),
    "demographic_parity": lambda y, g, p, w: metrics.demographic_parity(y, p, g),
    "sup_gap": lambda y, g, p, w: metrics.sup_gap(y % 2, SCORE, g, weights=w),
    "bootstrap": lambda y, g, p, w: (
        metrics.bootstrap(["accuracy"], y, p, g, key=jax.random.key(0), n_boot=2)[
            "accuracy"
        ].value
    ),
    "reweighing": lambda y, g, p, w: baselines.reweighing(y, g, weights=w),
    "mean_match": lambda y, g, p, w: baselines.fit_mean_match(X, g, weights=w),
    "leace": lambda y, g, p, w: baselines.fit_leace(X, y, weights=w),
    "fit_population": lambda y, g, p, w: moments.fit_population(
        X, y, g, weights=w, covariance="diagonal"
    ),
    "exponential": lambda y, g, p, w: moments.fit_population(
        np.abs(X[:, 0]), y, g, weights=w, family="exponential"
    ),
    "stream": stream,
    "stratified_split": lambda y, g, p, w: stratified_split(y, g),
    "soft_population": lambda y, g, p, w: fit_soft_population(
        X, y, SOFT, weights=w, covariance="tied", n_classes=K
    ),
    "neural_data": lambda y, g, p, w: (
        neural_data(y, X, X, group=g, weights=w, family="categorical").group
    ),
}


def call(function, dtype):
    codes = [np.asarray(c, dtype) for c in (LABEL, GROUP, PREDICTED, WEIGHT)]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(function(*codes))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_integer_type_gives_what_int32_gives(name):
    right = call(FUNCTIONS[name], np.int32)
    for dtype in (np.uint8, np.int8):
        found = call(FUNCTIONS[name], dtype)
        assert len(found) == len(right)
        for one, other in zip(found, right, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint64, np.bool_])
def test_the_cell_of_every_integer_type(dtype):
    label, group = LABEL.astype(dtype), GROUP.astype(dtype)
    expected = label.astype(np.int64) * G + group.astype(np.int64)
    for array in (np.asarray, jnp.asarray):
        found = cell_codes(array(label), array(group), G)
        assert found.dtype == np.int32 and isinstance(found, type(array(group)))
        np.testing.assert_array_equal(found, expected)
    # Beyond what 16 bits can count.
    wide = label.astype(np.int64) * 5000 + group.astype(np.int64)
    np.testing.assert_array_equal(cell_codes(label, group, 5000), wide)
    traced = jax.jit(cell_codes, static_argnums=2)(label, group, G)
    np.testing.assert_array_equal(traced, expected)


def test_no_file_multiplies_codes_by_itself():
    """``label * n`` and ``group * n`` stand in one place."""
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)):
                continue
            left, right = node.left, ast.unparse(node.right)
            if isinstance(left, ast.BinOp) and isinstance(left.op, ast.Mult):
                first = ast.unparse(left.left)
                if "label" in first and ("group" in right or "prediction" in right):
                    found.add(path.relative_to(ROOT).as_posix())
    # steering.py widens where it computes the cell of a row.
    assert found <= {"_labels.py", "steering.py"}


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8])
def test_fitted_scores_take_codes_of_any_type(dtype):
    """A boolean group is no mask, and a code times the bins does not overflow."""
    rng = np.random.default_rng(0)
    label, group = np.arange(400) % 2, np.arange(400) // 2 % 2
    score, key = rng.normal(size=400), jax.random.key(0)
    roc = jaxsteer.roc_channel(score, label, group, bins=150)
    classes = jaxsteer.multiclass_channel(
        np.stack([score, -score], 1), label, group, bins=4
    )
    levels = jaxsteer.balanced_quantiles(score, label, group)
    for move in (
        lambda codes: roc.transport(score, codes, key=key),
        lambda codes: classes.transport(np.stack([score, -score], 1), codes, key=key),
        lambda codes: levels.transport(score, codes),
    ):
        np.testing.assert_array_equal(move(group), move(group.astype(dtype)))
