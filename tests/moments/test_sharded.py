"""Moments over a mesh: eight simulated devices, in one process of its own."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from moment_rows import close, some_rows

from jaxsteer.moments import accumulate, sharded_moments
from tests.programs import check_ends

X, LABEL, GROUP = some_rows(n=80)


def one_device_mesh():
    return jax.sharding.Mesh(np.array(jax.devices()[:1]), ("rows",))


@pytest.mark.parametrize("scatter", ["cell", "group", "pooled"])
def test_one_device_is_update(scatter):
    sizes = {"n_classes": 2, "n_groups": 2, "scatter": scatter}
    found = sharded_moments(X, LABEL, GROUP, mesh=one_device_mesh(), **sizes)
    expected = accumulate([(X, LABEL, GROUP)], **sizes)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        close(a, b, 500)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mesh": None}, "lies on one device"),
        ({"x": X[:, 0]}, r"shape \[n, d\]"),
        ({"x": X * np.nan}, "x has values that are not finite"),
        ({"label": LABEL + 1}, r"label has codes from 1 to 2, expected 0\.\.1"),
        ({"group": GROUP * 1.0}, "group must hold integer codes"),
        ({"weights": -np.ones(80)}, "weights must be finite and at least 0"),
        ({"scatter": "none"}, "scatter='none' is not known"),
    ],
)
def test_errors_name_the_argument(change, message):
    given = {"x": X, "label": LABEL, "group": GROUP, "mesh": one_device_mesh()} | change
    rows = [given.pop(name) for name in ("x", "label", "group")]
    with pytest.raises(ValueError, match=message):
        sharded_moments(*rows, n_classes=2, n_groups=2, **given)


EIGHT = """
import jax, jax.numpy as jnp, numpy as np, jaxsteer as js
from dataclasses import replace
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxsteer.moments import accumulate, finish, sharded_moments
from jaxsteer.streaming import sharded_sup_gap

def same(left, right, rtol=1e-6):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        a, b = np.asarray(a, float), np.asarray(b, float)
        assert np.linalg.norm(a - b) <= rtol * (1e-30 + np.linalg.norm(b)), (a, b)

def same_states(left, right):
    # Third moments are sums that cancel: rounding is that of their terms, |y|^3.
    terms = left.mean.shape[1] ** 1.5
    assert np.abs(np.asarray(left.third) - np.asarray(right.third)).max() < 1e-6 * terms
    same(replace(left, third=None), replace(right, third=None))

rng = np.random.default_rng(0)
n, d = 1600, 8
label, group = np.arange(n) % 2, np.arange(n) // 2 % 2
x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 2
x += label[:, None] * (1 + group[:, None])
x = np.asarray(x, np.float32)
weights = rng.uniform(0.5, 2, n).astype(np.float32)
sizes = {"n_classes": 2, "n_groups": 2}
devices = np.array(jax.devices())
flat = Mesh(devices, ("rows",))
grid = Mesh(devices.reshape(2, 4), ("rows", "features"))
for scatter in ("cell", "group", "pooled"):
    alone = accumulate([(x, label, group, weights)], **sizes, scatter=scatter)
    found = sharded_moments(
        x, label, group, weights=weights, mesh=grid, features="features",
        **sizes, scatter=scatter)
    same_states(found, alone)
    # Every device holds its block of the scatter and no more.
    block = found.cov.addressable_shards[0].data.shape
    assert block == (alone.cov.shape[0], d // 4, d), block
    np.testing.assert_array_equal(found.cov, np.swapaxes(found.cov, 1, 2))
same_states(
    sharded_moments(x, label, group, weights=weights, mesh=flat, **sizes),
    accumulate([(x, label, group, weights)], **sizes))

# 1,597 rows do not divide by 8: rows of no weight fill up.
same_states(
    sharded_moments(x[:1597], label[:1597], group[:1597], mesh=flat, **sizes),
    accumulate([(x[:1597], label[:1597], group[:1597])], **sizes))
try:
    sharded_moments(x[:, :7], label, group, mesh=grid, features="features", **sizes)
    raise SystemExit("seven columns went onto four devices")
except ValueError as error:
    assert "7 columns" in str(error), error

# fit_population takes rows as they lie; no array of n rows leaves its device.
spread = jax.device_put(x, NamedSharding(flat, P("rows")))
codes = [jax.device_put(v, NamedSharding(flat, P("rows"))) for v in (label, group)]
from jaxsteer.moments import _sharded as inside
text = inside._sharded.lower(
    spread, *codes, jax.device_put(weights, NamedSharding(flat, P("rows"))),
    flat, "rows", None, (2, 2), "cell").compile().as_text()
assert "all-reduce" in text and "all-gather" not in text, text
pops = {}
for options in (
    {}, {"covariance": "tied"}, {"covariance": "diagonal"}, {"family": "lognormal"},
):
    rows = np.exp(x / 8) if "family" in options else x
    pops[str(options)] = js.fit_population(
        jax.device_put(rows, spread.sharding), *codes, **options)
    same(pops[str(options)], js.fit_population(rows, label, group, **options))
first = spread[:, 0]
same(js.fit_population(first, *codes), js.fit_population(x[:, 0], label, group))
for options, word in (
    ({"covariance": "low_rank"}, "low_rank"), ({"prior": 1.0}, "prior"),
):
    try:
        js.fit_population(spread, *codes, **options)
        raise SystemExit(word)
    except ValueError as error:
        assert word in str(error), error

# Gaps and certificates of the population, and the maps.
one = js.fit_population(x, label, group)
gap = js.ideality_gap(pops["{}"], maps="shared_covariance", reference=1)
same(gap, js.ideality_gap(one, maps="shared_covariance", reference=1), 1e-5)
found = js.nearest_ideal(pops["{}"], maps="shared_covariance", reference=1)
alone = js.nearest_ideal(one, maps="shared_covariance", reference=1)
# A bias is the small difference of large numbers; where rows go is what counts.
same(found.group_maps.weight, alone.group_maps.weight)
same(*(np.asarray(f.transport(x, group)) for f in (found, alone)))
same(js.certificate(found).safe_error, js.certificate(alone).safe_error, 1e-5)

# The exact sup gap, ties and weights included, from scores that stay where they are.
score = np.round(rng.normal(size=n) + 0.3 * label * group, 1).astype(np.float32)
lie = jax.device_put(score, spread.sharding)
for rate in ("tpr", "fpr", "dp"):
    for given in (None, weights):
        a = sharded_sup_gap(*codes[:1], lie, codes[1], n_groups=2, rate=rate, weights=given)
        b = js.metrics.sup_gap(label, score, group, rate=rate, weights=given)
        same(a, b, 2e-6)
# Metrics that sort nothing take decisions where they lie.
decided = (score > 0).astype(np.int32)
there = jax.device_put(decided, spread.sharding)
for gap in ("accuracy", "tpr_gap", "demographic_parity", "equalized_odds"):
    gap = getattr(js.metrics, gap)
    same(gap(codes[0], there, codes[1]), gap(label, decided, group))
bad = jax.device_put(np.where(np.arange(n) == 7, np.nan, score), spread.sharding)
assert jnp.isnan(sharded_sup_gap(*codes[:1], bad, codes[1], n_groups=2))
print("ended")
"""


@pytest.mark.slow
def test_eight_devices_are_one():
    check_ends(EIGHT, timeout=240, devices=8)
