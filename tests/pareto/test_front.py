"""The front: no sampled model dominates another, and dominance finds what does."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer import Status, pareto

from .problems import make

METRIC = pareto.DemographicParity()
MODEL = pareto.Logistic(0.05)


def test_a_front_is_a_front():
    data = make(1)
    front = pareto.sample_front(data, MODEL, METRIC)
    assert front.group_losses.shape == (101, 2)
    assert pareto.nondominated(front.group_losses, tolerance=1e-6).all()
    # The more a group weighs the smaller is its loss.
    assert (np.diff(front.group_losses[:, 0]) <= 1e-6).all()
    assert (np.diff(front.group_losses[:, 1]) >= -1e-6).all()
    fairest = front.fairest()
    assert fairest.value == front.value.min()
    assert fairest.params["coef"].shape == (3,)
    assert fairest.predict(data.x).shape == data.target.shape


def test_grids_are_on_the_simplex():
    for groups, points in [(2, 11), (3, 66), (5, 40)]:
        grid = pareto.simplex_grid(groups, points)
        assert len(grid) <= points and len(np.unique(grid, axis=0)) == len(grid)
        np.testing.assert_allclose(grid.sum(1), 1)
        for corner in np.eye(groups):
            assert np.abs(grid - corner).sum(1).min() < 1e-12
    # Neighbors in a lattice are near each other, so that fits are warm.
    grid = pareto.simplex_grid(3, 66)
    assert np.abs(np.diff(grid, axis=0)).sum(1).max() <= 0.4 + 1e-9


def test_nondominated_is_the_definition():
    losses = np.random.default_rng(0).integers(0, 4, (40, 3)).astype(float)
    expected = [
        not any((other <= own).all() and (other < own).any() for other in losses)
        for own in losses
    ]
    assert pareto.nondominated(losses).tolist() == expected


def test_models_on_the_front_are_not_dominated():
    data = make(2, sizes=(60, 50, 40))
    weights = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    front = pareto.sample_front(data, MODEL, METRIC, group_weights=weights)
    for losses in front.group_losses:
        found = pareto.dominance(data, MODEL, losses)
        assert abs(float(found.margin)) < 1e-5
        assert not found.dominated(1e-4)


def test_a_dominated_model_is_told_and_by_how_much():
    data = make(2, sizes=(60, 50, 40))
    losses = pareto.fit_balanced(data, MODEL, METRIC).group_losses
    found = pareto.dominance(data, MODEL, losses + 0.01)
    assert found.dominated()
    assert float(found.margin) == pytest.approx(-0.01, abs=1e-4)
    assert (found.group_losses < losses + 0.01 - 0.009).all()
    assert int(found.status) in (Status.CONVERGED, Status.STALLED)
    # Out of the family's reach, by the same amount.
    beyond = pareto.dominance(data, MODEL, losses - 0.01)
    assert float(beyond.margin) == pytest.approx(0.01, abs=1e-4)


@pytest.mark.slow
def test_a_strong_penalty_on_unfairness_harms_every_group():
    data = make(2, sizes=(60, 50, 40))
    path = pareto.fit_regularization_path(data, MODEL, METRIC, [0.0, 300.0])
    margins = [
        float(pareto.dominance(data, MODEL, losses).margin)
        for losses in path.group_losses
    ]
    assert abs(margins[0]) < 1e-4
    assert margins[1] < -1e-3


def test_unusable_arguments():
    data = make(0)
    with pytest.raises(ValueError, match=r"shape \[m, 2\]"):
        pareto.sample_front(data, MODEL, METRIC, group_weights=np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"shape \[2\]"):
        pareto.dominance(data, MODEL, jnp.ones(3))
    own = pareto.CustomModel(
        initial=lambda data: jnp.zeros(3),
        row_score=lambda params, x: x @ params,
        row_loss=lambda s, y: (s - y) ** 2,
    )
    with pytest.raises(ValueError, match="needs a convex model"):
        pareto.dominance(data, own, jnp.ones(2))
