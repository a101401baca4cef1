"""Metrics as objects: a formula of one's own gets all that the package's get."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.audit import metrics
from jaxsteer.audit._formulas import METRICS

KEY = jax.random.key(7)


@metrics.metric(support="cells")
def miss_gap(table, positive):
    """Largest difference of a miss rate between groups."""
    missed = 1 - table[positive, positive] / jnp.sum(table[positive], axis=0)
    return jnp.max(missed) - jnp.min(missed)


def test_a_metric_of_ones_own_gets_all_that_ours_get(rows):
    d = rows(300, 2, 3)
    data = d["label"], d["prediction"], d["group"]
    # Missing the positives is what equal opportunity counts, from the other side.
    expected = float(metrics.equal_opportunity(*data))
    assert miss_gap(*data) == pytest.approx(expected, abs=1e-6)
    both = ["equal_opportunity", miss_gap]
    for answer in (
        metrics.bootstrap(both, *data, key=KEY),
        metrics.chance_level(both, *data, key=KEY),
    ):
        ours, own = answer["equal_opportunity"], answer["miss_gap"]
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(own), strict=True):
            if jnp.issubdtype(one.dtype, jnp.floating):
                np.testing.assert_allclose(other, one, atol=1e-5)
    found = jax.jit(functools.partial(miss_gap, n_classes=2, n_groups=3))(*data)
    assert found == pytest.approx(float(miss_gap(*data)), abs=1e-6)
    empty = np.zeros_like(data[0])
    with pytest.raises(ValueError, match=r"miss_gap is undefined: no row of class 1"):
        miss_gap(empty, data[1], data[2])


def test_metrics_look_like_functions():
    for one in METRICS.values():
        assert isinstance(one, metrics.Metric)
        assert one.__name__ == one.name and one.__doc__ != type(one).__doc__
        parameters = list(inspect.signature(one).parameters)
        read = "score" if one.on_scores else "prediction"
        assert parameters[:3] == ["label", read, "group"]
        assert pickle.loads(pickle.dumps(one)) is one
        assert copy.deepcopy(one) is one
    plain = dataclasses.replace(METRICS["accuracy"], name="mine")
    with pytest.raises(ValueError, match="two metrics have one name"):
        metrics.bootstrap(
            [plain, dataclasses.replace(plain, compares=True)],
            *(np.array([0, 1]),) * 3,
            key=KEY,
        )
