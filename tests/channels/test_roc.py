from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsteer.channels._roc import concave_hull, lower_envelope, roc_points

GRID = np.linspace(0, 1, 4001)
DIAGONAL = np.array([[0.0, 0.0], [1.0, 1.0]])
PERFECT = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def law(seed, bins=12, empty=0.2):
    rng = np.random.default_rng(seed)
    mass = rng.dirichlet(np.full(bins, 0.7), 2) * (rng.uniform(size=(2, bins)) > empty)
    mass[:, 0] += 1e-3
    return mass / mass.sum(1, keepdims=True)


def height(points, x):
    """Least concave curve above the points, by every chord over `x` (brute force)."""
    (x0, y0), (x1, y1) = points.T[:, :, None], points.T[:, None, :]
    left, right = x0 + 0 * x1, x1 + 0 * x0
    wide = left < right
    slope = np.where(wide, (y1 - y0) / np.where(wide, right - left, 1), 0)
    at = y0 + slope * (x[:, None, None] - left)
    over = wide & (left <= x[:, None, None]) & (x[:, None, None] <= right)
    chords = np.where(over, at, -np.inf).max((1, 2))
    same = np.where(points[:, 0] == x[:, None], points[:, 1], -np.inf).max(1)
    return np.maximum(chords, same)


def assert_concave(curve):
    np.testing.assert_array_equal(curve[[0, -1]], DIAGONAL)
    steps = np.diff(curve, axis=0)
    assert (steps >= 0).all() and (steps.sum(1) > 0).all()
    turns = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]
    assert (turns < 0).all()


def test_points_start_at_the_highest_score():
    points = roc_points(np.array([0.7, 0.3]), np.array([0.1, 0.9]))
    np.testing.assert_allclose(points, [[0, 0], [0.3, 0.9], [1, 1]], rtol=1e-15)


@pytest.mark.parametrize("seed", range(6))
def test_hull_has_the_upper_vertices_of_scipys(seed):
    from scipy.spatial import ConvexHull

    points = roc_points(*law(seed))
    # The corner (1, 0) closes the hull from below.
    cloud = np.concatenate([points, [[1.0, 0.0]]])
    corners = cloud[ConvexHull(cloud).vertices]
    corners = corners[(corners != [1.0, 0.0]).any(1)]
    corners = corners[np.lexsort((corners[:, 1], corners[:, 0]))]
    np.testing.assert_allclose(concave_hull(points), corners, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bins=st.integers(2, 20))
def test_hull_is_the_least_concave_curve_above_the_points(seed, bins):
    points = roc_points(*law(seed, bins))
    hull = concave_hull(points)
    steps = np.diff(hull, axis=0)
    assert (steps[:-1, 0] * steps[1:, 1] < steps[:-1, 1] * steps[1:, 0]).all()
    x = GRID[::100]
    np.testing.assert_allclose(height(hull, x), height(points, x), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5),
    bins=st.integers(2, 15),
)
def test_envelope_is_the_pointwise_minimum_and_concave(seeds, bins):
    hulls = [concave_hull(roc_points(*law(seed, bins))) for seed in seeds]
    found = lower_envelope(hulls)
    assert_concave(found)
    x = np.unique(np.concatenate([GRID[::50], found[:, 0]]))
    x = x[x < 1 - 1e-9]  # a sum of masses may end a rounding error below 1
    least = np.min([height(hull, x) for hull in hulls], 0)
    np.testing.assert_allclose(height(found, x), least, atol=1e-12)


def test_envelope_has_a_knot_at_each_crossing():
    early = np.array([[0, 0], [0.1, 0.6], [1, 1]])
    late = np.array([[0, 0], [0.5, 0.95], [1, 1]])
    found = lower_envelope([early, late])
    # 0.6 + 4/9 (x - 0.1) = 1.9 x
    x = (0.6 - 0.4 / 9) / (1.9 - 4 / 9)
    np.testing.assert_allclose(found, [[0, 0], [x, 1.9 * x], [1, 1]], atol=1e-14)


@pytest.mark.parametrize(
    ("curves", "expected"),
    [
        ([PERFECT, PERFECT], PERFECT),
        ([PERFECT, DIAGONAL], DIAGONAL),
        ([DIAGONAL], DIAGONAL),
        ([np.array([[0, 0], [0, 0.5], [1, 1]]), PERFECT], [[0, 0], [0, 0.5], [1, 1]]),
        (
            [
                np.array([[0, 0], [0, 0.5], [1, 1]]),
                np.array([[0, 0], [0.5, 1], [1, 1]]),
            ],
            [[0, 0], [1 / 3, 2 / 3], [1, 1]],
        ),
    ],
    ids=["identical", "perfect-blind", "one-curve", "two-starts", "start-crossed"],
)
def test_envelope_with_vertical_starts_and_single_steps(curves, expected):
    np.testing.assert_allclose(lower_envelope(curves), expected, atol=1e-15)


def test_hull_of_an_uninformative_or_inverted_score_is_the_diagonal():
    even = np.full(10, 0.1)
    np.testing.assert_array_equal(concave_hull(roc_points(even, even)).shape, (2, 2))
    worse = roc_points(np.array([0.2, 0.8]), np.array([0.8, 0.2]))
    np.testing.assert_allclose(concave_hull(worse), DIAGONAL, atol=1e-15)
