"""The nouns of the package as protocols: every class that is one offers what it must."""

from __future__ import annotations

import dataclasses
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.channels import Channel
from jaxsteer.compare import LEARNERS, Learner, get_learner
from jaxsteer.families import registered

K, G, N = 2, 2, 80


def maps():
    one = jnp.ones(())
    diagonal = js.maps.DiagonalMap(2 * one, one)
    affine = js.AffineMap(2 * jnp.eye(2), jnp.ones(2))
    return [
        affine,
        js.maps.LowRankMap.identity(2, 1),
        diagonal,
        js.maps.DiagonalMap(2 * jnp.ones(2), jnp.ones(2)),
        js.maps.IdentityMap(0 * one),
        js.maps.ConjugatedMap.alike(
            jax.tree.map(lambda leaf: leaf[None], diagonal), js.maps.Exp(), (1,), None
        ),
        js.maps.ProductMap((affine, diagonal), (2, None)),
    ]


def offered(package, suffix):
    module = importlib.import_module(f"jaxsteer.{package}")
    return {
        cls
        for name, cls in vars(module).items()
        if inspect.isclass(cls) and name.endswith(suffix)
    }


def test_every_map_is_one():
    found = maps()
    assert {type(move) for move in found} == offered("maps", "Map") - {js.maps.Map}
    for move in found:
        assert isinstance(move, js.maps.Map)
        assert dataclasses.is_dataclass(move)
    assert not isinstance(js.Normal(0.0, 1.0), js.maps.Map)


def test_every_bijection_is_one():
    kinds = {cls for cls in vars(js.maps).values() if hasattr(cls, "log_slope")}
    kinds -= {js.maps.Bijection}
    assert len(kinds) == 7
    for cls in kinds:
        empty = object.__new__(cls)  # what it offers does not depend on its parameters
        assert isinstance(empty, js.maps.Bijection)


def test_maps_do_what_the_protocol_says():
    for move in maps():
        if isinstance(move, js.maps.ConjugatedMap):
            move = jax.tree.map(lambda leaf: leaf[0], move)
        size = move.n_features(0)
        x = jnp.asarray(0.7 if size is None else np.linspace(0.3, 1.2, size))
        np.testing.assert_allclose(move.inverse()(move(x)), x, rtol=1e-5)
        np.testing.assert_allclose(move.compose(move)(x), move(move(x)), rtol=1e-5)
        np.testing.assert_allclose(move.interpolate(0.0)(x), x, rtol=1e-6)
        np.testing.assert_allclose(move.interpolate(1.0)(x), move(x), rtol=1e-6)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    label, group = np.arange(N) % 2, np.arange(N) // 2 % 2
    score = 1 / (1 + np.exp(-rng.normal(label + 0.5 * group)))
    return score, label, group


def test_every_channel_is_one(rows):
    score, label, group = rows
    both = np.stack([1 - score, score], 1)
    key = jax.random.key(0)
    found = [
        (js.roc_channel(score, label, group, bins=4), score, group),
        (
            js.blind_channel(score, 0.8 * group + 0.1, label, group, bins=(2, 2)),
            score,
            0.5 + 0 * score,
        ),
        (js.multiclass_channel(both, label, group, bins=4), both, group),
        (js.balanced_quantiles(score, label, group), score, group),
    ]
    kinds = offered("channels", "Channel") - {Channel} | {js.ScoreMap}
    assert {type(channel) for channel, *_ in found} == kinds
    for channel, *given in found:
        assert isinstance(channel, Channel)
        options = {} if isinstance(channel, js.ScoreMap) else {"key": key}
        np.testing.assert_array_equal(
            channel(*given, **options), channel.transport(*given, **options)
        )


def test_a_steering_is_a_channel_and_can_be_called():
    cells = js.Normal(jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.ones((2, 2)))
    steering = js.nearest_ideal(js.Population(jnp.full((2, 2), 0.25), cells))
    assert isinstance(steering, Channel)
    x, group, label = np.array([0.1, 0.9]), np.array([0, 1]), np.array([1, 0])
    np.testing.assert_array_equal(steering(x, group), steering.transport(x, group))
    np.testing.assert_array_equal(
        steering(x, group, label), steering.transport(x, group, label)
    )


def test_every_family_is_one():
    for cls in registered():
        missing = [
            name for name in ("kl", "log_prob", "sample") if not hasattr(cls, name)
        ]
        assert not missing, f"{cls.__name__} lacks {missing}"
    assert isinstance(js.Normal(0.0, 1.0), js.families.Family)


def test_every_metric_is_one():
    named = [getattr(js.metrics, name) for name in js.metrics.__all__]
    found = [one for one in named if isinstance(one, js.metrics.Metric)]
    assert len(found) == 8  # sup_gap, of three of them, is a function


def test_every_learner_is_one():
    for name, learner in LEARNERS.items():
        assert isinstance(learner, Learner)
        assert get_learner(learner) is learner is get_learner(name)


def test_a_learner_of_ones_own_is_taken(rows):
    from sklearn.tree import DecisionTreeClassifier

    @dataclasses.dataclass(frozen=True)
    class Stump:
        name: str = "stump"
        title: str = "a stump"
        weight_name: str = "sample_weight"

        def build(self):
            return DecisionTreeClassifier(max_depth=1, random_state=0)

        def fit(self, x, label, weights=None):
            return self.build().fit(x, label, sample_weight=weights)

    score, label, group = rows
    half = (np.arange(N) // 4) % 2 == 0
    split = js.compare.Split(
        x_train=score[half, None].astype(np.float32),
        label_train=label[half],
        group_train=group[half],
        x_test=score[~half, None].astype(np.float32),
        label_test=label[~half],
        group_test=group[~half],
    )
    assert isinstance(Stump(), Learner)
    table = js.compare.compare(split, learners=[Stump()], methods=["raw"], n_boot=5)
    assert [row.learner for row in table.rows] == ["stump"]
