from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxsteer.latent import (
    RomeMoE,
    fit_rome_moe,
    fit_rome_moe_many,
    load_network,
    neural_data,
)
from jaxsteer.latent._objectives import RowLosses, WorstExpert
from jaxsteer.storage import load

RNG = np.random.default_rng(0)
A, S = RNG.normal(size=(160, 3)), RNG.normal(size=(160, 2))
Y = A[:, 0] * np.sign(S[:, 0]) + 0.1 * RNG.normal(size=160)
CODES = (Y > 0).astype(int) + (Y > 1)
SMALL = {"hidden": 8, "epochs": 3, "batch_size": 32}
MOE = {**SMALL, "n_experts": 3, "gate_hidden": 4}


def test_output_is_the_mixture_of_experts():
    sizes = {"n_experts": 3, "hidden": 8, "gate_hidden": 4}
    model = RomeMoE(3, 2, **sizes, rngs=nnx.Rngs(0))
    a, s = jnp.asarray(A), jnp.asarray(S)
    log_gates, experts = model.parts(a, s)
    assert experts.shape == (160, 3)
    np.testing.assert_allclose(jnp.exp(log_gates).sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        model(a, s), (jnp.exp(log_gates) * experts).sum(1), rtol=1e-4, atol=1e-5
    )
    classes = RomeMoE(3, 2, 3, **sizes, rngs=nnx.Rngs(0))
    log_gates, experts = classes.parts(a, s)
    mixture = (jnp.exp(log_gates)[..., None] * jnp.exp(experts)).sum(1)
    np.testing.assert_allclose(jnp.exp(classes(a, s)), mixture, rtol=1e-4)
    np.testing.assert_allclose(mixture.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("variant", "experts_see_s", "gate_sees_a"),
    [("standard", True, False), ("fair_s", False, False), ("fair_as", False, True)],
)
def test_variants_see_what_they_should(variant, experts_see_s, gate_sees_a):
    sizes = {"n_experts": 3, "hidden": 8, "gate_hidden": 4}
    model = RomeMoE(3, 2, **sizes, variant=variant, rngs=nnx.Rngs(1))
    a, s = jnp.asarray(A), jnp.asarray(S)
    gates, experts = model.parts(a, s)
    moved_gates, _ = model.parts(a + 1, s)
    _, moved_experts = model.parts(a, s + 1)
    assert bool(jnp.any(moved_gates != gates)) == gate_sees_a
    assert bool(jnp.any(moved_experts != experts)) == experts_see_s
    with pytest.raises(ValueError, match="variant='fair' is not known"):
        RomeMoE(3, 2, variant="fair", rngs=nnx.Rngs(0))


ROWS = RowLosses(
    losses=jnp.array([1.0, 2.0, 3.0, 9.0, 50.0]),
    gates=jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8], [0.5, 0.5]]),
    weights=jnp.array([1.0, 1.0, 1.0, 1.0, 0.0]),
    group=jnp.array([0, 0, 0, 1, 1]),
    inputs=jnp.arange(5.0)[:, None],
)


def test_worst_expert_loss_by_hand():
    # Experts: rows 0-1 (mean 1.5) and 2-3 (mean 6); the last row is padding.
    assert float(WorstExpert(alpha=0.0).score(ROWS)) == pytest.approx(3.75)
    assert float(WorstExpert(alpha=1.0).score(ROWS)) == pytest.approx(6.0)
    mixed = WorstExpert(alpha=0.2).loss(ROWS, (), ())[0]
    assert float(mixed) == pytest.approx(0.8 * 3.75 + 0.2 * 6.0)
    soft = WorstExpert(alpha=1.0, assignment="soft").score(ROWS)
    # Shares above .1: expert 1 has .2, .7, .8 of rows 1, 2, 3.
    expected = (0.2 * 2 + 0.7 * 3 + 0.8 * 9) / 1.7
    assert float(soft) == pytest.approx(expected)
    empty = ROWS._replace(gates=ROWS.gates.at[:, 0].set(1.0))
    assert float(WorstExpert(alpha=1.0).score(empty)) == pytest.approx(3.75)


def test_the_gate_is_not_pushed_by_the_assignment():
    def worst(gates):
        objective = WorstExpert(alpha=1.0, assignment="soft")
        return objective.score(ROWS._replace(gates=gates))

    assert not jax.grad(worst)(ROWS.gates).any()


def test_training_lowers_the_loss_and_keeps_the_best_epoch():
    fit = fit_rome_moe(Y, A, S, **{**MOE, "epochs": 40})
    scores = fit.history["score"]
    assert fit.best_epoch == int(scores.argmin()) + 1
    assert fit.best_score == pytest.approx(scores.min(), rel=1e-6)
    assert fit.history["train"][-1] < 0.5 * fit.history["train"][0]
    gap = np.asarray(fit.predict(A, S)) - Y
    assert np.mean(gap**2) < 0.5 * Y.var()
    assert fit.gates(A, S).shape == (160, 3)


def test_early_stopping():
    fit = fit_rome_moe(Y, A, S, **{**MOE, "epochs": 40}, patience=1, learning_rate=0.3)
    done = len(fit.history["score"])
    assert done < 40 and done == fit.best_epoch + 2
    whole = fit_rome_moe(Y, A, S, **{**MOE, "epochs": 4}, patience=None)
    assert len(whole.history["score"]) == 4


def test_progress_and_checkpoints(tmp_path):
    seen, path = [], tmp_path / "run.npz"

    def progress(epoch, figures):
        seen.append(epoch)
        assert set(figures) == {"train", "validation", "score"}
        if epoch == 2 and len(seen) == 2:
            raise KeyboardInterrupt

    options = {**MOE, "checkpoint": path}
    with pytest.raises(KeyboardInterrupt):
        fit_rome_moe(Y, A, S, progress=progress, **options)
    resumed = fit_rome_moe(Y, A, S, progress=progress, **options)
    assert seen == [1, 2, 3]
    whole = fit_rome_moe(Y, A, S, **MOE)
    np.testing.assert_array_equal(resumed.predict(A, S), whole.predict(A, S))
    with pytest.raises(ValueError, match="written with other seeds"):
        fit_rome_moe(Y, A, S, **options, seed=3)
    path.write_bytes(b"not a file of ours")
    with pytest.raises(ValueError, match=r"no file that jaxsteer\.latent wrote"):
        fit_rome_moe(Y, A, S, **options)


def test_saved_networks_predict_the_same(tmp_path):
    fit, path = fit_rome_moe(Y, A, S, **MOE), tmp_path / "moe.npz"
    fit.save(path)
    loaded = load_network(path)
    np.testing.assert_array_equal(loaded.predict(A, S), fit.predict(A, S))
    assert loaded.best_epoch == fit.best_epoch
    assert loaded.history["score"].tolist() == fit.history["score"].tolist()
    checkpoint = tmp_path / "checkpoint.npz"
    fit_rome_moe(Y, A, S, **MOE, checkpoint=checkpoint)
    with pytest.raises(ValueError, match="holds no network"):
        load_network(checkpoint)
    assert list(load(path).objects) == ["leaves"]
    with pytest.raises(ValueError, match=r"a must have shape \[n, 3\]"):
        fit.predict(A[:, :2], S)


@pytest.mark.slow
def test_runs_side_by_side_are_those_alone():
    data = neural_data(Y, A, S)
    together = fit_rome_moe_many([data, data], [0, 1], **MOE)
    for seed, fit in enumerate(together):
        alone = fit_rome_moe(Y, A, S, seed=seed, **MOE)
        np.testing.assert_allclose(
            fit.predict(A, S), alone.predict(A, S), rtol=1e-3, atol=1e-3
        )
    with pytest.raises(ValueError, match="equal shapes"):
        fit_rome_moe_many([data, neural_data(Y[1:], A[1:], S[1:])], [0, 1], **MOE)
    with pytest.raises(ValueError, match="1 seeds for 2 data sets"):
        fit_rome_moe_many([data, data], [0], **MOE)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("variant", "fair_s"),
        ("alpha", 0.05),
        ("assignment", "hard"),
        ("n_experts", 2),
        ("gate_hidden", 8),
        ("weights", np.linspace(0.1, 2, 160)),
        ("learning_rate", 0.003),
        ("weight_decay", 1.0),
        ("decay", True),
        ("batch_size", 16),
        ("validation", 0.4),
        ("seed", 5),
        ("optimizer", optax.sgd(0.01)),
    ],
)
@pytest.mark.slow
def test_every_option_changes_the_fit(option, value):
    # Soft: a young gate's largest share may be the same expert's for every row.
    base = {**MOE, "epochs": 2, "alpha": 0.5, "assignment": "soft"}
    changed = fit_rome_moe(Y, A, S, **{**base, option: value})
    plain = fit_rome_moe(Y, A, S, **base)
    gap = np.asarray(changed.predict(A, S)) - np.asarray(plain.predict(A, S))
    assert np.abs(gap).max() > 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 1.5}, "alpha=1.5 must be from 0 to 1"),
        ({"assignment": "random"}, "assignment='random' is not known"),
        ({"validation": 1.0}, "validation=1.0 must be"),
        ({"family": "poisson"}, "family='poisson' is not known"),
        ({"n_classes": 3}, "n_classes=3 is for classes"),
        ({"y": Y[:-1]}, "one entry a row"),
        ({"a": np.full((160, 1), np.nan)}, "a has 160 values"),
        ({"family": "bernoulli", "y": np.zeros(160)}, "y must hold integer codes"),
        ({"family": "categorical", "y": np.zeros(160, int)}, "one class only"),
    ],
)
def test_unusable_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        fit_rome_moe(**{"y": Y, "a": A, "s": S, **MOE, **change})
