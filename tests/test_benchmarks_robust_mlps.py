"""The networks that ROME is compared with, which stand beside the benchmarks."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsteer.latent import neural_data
from tests.latent.test_rome_moe import CODES, ROWS, SMALL, A, S, Y

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def rivals(monkeypatch):
    if not (FOLDER / "_robust_mlps.py").exists():
        pytest.skip("no benchmarks beside these tests")
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module("_robust_mlps")


def test_a_network_sees_what_it_should(rivals):
    a, s = jnp.asarray(A), jnp.asarray(S)
    blind = rivals.PlainMLP(3, 2, hidden=8, sees_sensitive=False, rngs=nnx.Rngs(1))
    assert jnp.array_equal(blind(a, s), blind(a, s + 1))
    seeing = rivals.PlainMLP(3, 2, hidden=8, rngs=nnx.Rngs(1))
    assert not jnp.array_equal(seeing(a, s), seeing(a, s + 1))


def test_group_dro_by_hand(rivals):
    objective = rivals.GroupDRO(step=0.5, n_groups=3)
    _, memory = objective.start(None, 1, 0)
    value, memory = objective.loss(ROWS, (), memory)
    losses = np.array([2.0, 9.0])  # the third group is not in the batch
    np.testing.assert_allclose(memory, [1.0, 4.5, 0.0])
    q = np.exp([1.0, 4.5]) / np.exp([1.0, 4.5]).sum()
    assert float(value) == pytest.approx(float(q @ losses), rel=1e-5)
    assert float(objective.score(ROWS)) == pytest.approx(9.0)


def test_adversary_by_hand(rivals):
    learned = jnp.array([0.3, -0.2])
    value, _ = rivals.Adversary().loss(ROWS, learned, ())
    pull = 1 / (1 + np.exp(-(0.3 - 0.2 * np.arange(4))))
    weights = 1 + 4 * pull / pull.sum()
    expected = (weights * np.array([1.0, 2.0, 3.0, 9.0])).mean()
    assert float(value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["plain", "group_dro", "arl", "jtt"])
def test_baselines_train(rivals, method):
    group = (S[:, 0] > 0).astype(int)
    given = {"group": group} if method == "group_dro" else {}
    options = {**SMALL, "epochs": 20, "hidden": 16}
    if method == "jtt":
        options["first_epochs"] = 2
    fit = rivals.fit_robust_mlp(Y, A, S, method=method, **given, **options)
    assert fit.history["train"][-1] < fit.history["train"][0]
    plain = rivals.fit_robust_mlp(Y, A, S, **{**SMALL, "epochs": 20, "hidden": 16})
    gap = np.abs(np.asarray(fit.predict(A, S)) - np.asarray(plain.predict(A, S))).max()
    assert (gap > 1e-3) == (method != "plain")


@pytest.mark.slow
def test_baselines_take_classes(rivals):
    options = {**SMALL, "epochs": 1, "first_epochs": 1, "method": "jtt"}
    for family, y in (("bernoulli", (Y > 0).astype(int)), ("categorical", CODES)):
        found = rivals.fit_robust_mlp(y, A, S, family=family, **options).predict(A, S)
        assert found.shape == ((160,) if family == "bernoulli" else (160, 3))


@pytest.mark.slow
def test_group_dro_helps_the_smaller_group(rivals):
    """One network, too small for both groups: their losses come closer."""
    rng = np.random.default_rng(1)
    group = (rng.random(800) < 0.1).astype(int)
    a = rng.normal(size=(800, 1))
    y = np.where(group == 1, -a[:, 0], a[:, 0])
    options = {"hidden": 4, "epochs": 30, "sees_sensitive": False, "patience": None}
    data = neural_data(y, a, group[:, None], group=group)
    losses = {}
    for method in ("plain", "group_dro"):
        (fit,) = rivals.fit_robust_mlp_many(
            [data], [0], method=method, step=0.1, **options
        )
        error = (np.asarray(fit.predict(a, group[:, None])) - y) ** 2
        losses[method] = max(error[group == g].mean() for g in (0, 1))
    assert losses["group_dro"] < 0.6 * losses["plain"]


def test_unusable_baselines(rivals):
    with pytest.raises(ValueError, match="group is needed by method='group_dro'"):
        rivals.fit_robust_mlp(Y, A, S, method="group_dro")
    with pytest.raises(ValueError, match="taken by no other"):
        rivals.fit_robust_mlp(Y, A, S, group=(S[:, 0] > 0).astype(int))
    with pytest.raises(ValueError, match="method='dro' is not known"):
        rivals.fit_robust_mlp(Y, A, S, method="dro")
    with pytest.raises(ValueError, match="error_share=1 must be between"):
        rivals.fit_robust_mlp(Y, A, S, method="jtt", error_share=1)
