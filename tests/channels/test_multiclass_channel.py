from __future__ import annotations

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

import jaxsteer as js
from jaxsteer.channels import multiclass_channel
from jaxsteer.channels._multiclass_channel import common_experiment
from jaxsteer.channels._roc import concave_hull, lower_envelope, roc_points
from jaxsteer.channels._rows import soft_labels
from jaxsteer.channels._score_ranks import find_bins, fit_score_tree, tree_size

EPS = float(jnp.finfo(jnp.result_type(float)).eps)
KEY = jax.random.key


def simulate(n, n_classes, n_groups=2, seed=0, decimals=None):
    """Posteriors that are sharper in some groups than in others."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, n)
    share = np.exp(0.5 * rng.normal(size=(n_groups, n_classes)))
    share /= share.sum(1, keepdims=True)
    label = (rng.uniform(size=(n, 1)) > share.cumsum(1)[group]).sum(1)
    label = np.minimum(label, n_classes - 1)
    logits = np.eye(n_classes)[label] * (1 + group)[:, None] * 1.2
    score = np.exp(logits + rng.normal(size=logits.shape))
    score /= score.sum(1, keepdims=True)
    return score if decimals is None else score.round(decimals), label, group


def walk(channel, row, code):
    """Bin of one row, node by node."""
    columns, thresholds, children = (
        np.asarray(v)[code]
        for v in (channel.columns, channel.thresholds, channel.children)
    )
    node = int(np.argmax(row))
    while children[node] >= 0:
        node = children[node] + int(row[columns[node]] >= thresholds[node])
    return -1 - children[node]


def laws(channel, score, label, group, weights=None):
    """Law of the bin ``[G, K, B]``, from the fields and the data alone."""
    score = np.asarray(score, float)
    weights = np.ones(len(score)) if weights is None else weights
    n_groups, n_bins, _ = channel.kernels.shape
    mass = np.zeros((n_groups, channel.atoms.shape[0], n_bins))
    for row, y, a, w in zip(score, label, group, weights, strict=True):
        mass[a, y, walk(channel, row, a)] += w
    return mass / mass.sum(-1, keepdims=True)


def total_variation(law):
    """Largest between two groups, over classes."""
    return np.abs(law[:, None] - law).sum(-1).max() / 2


def accuracy(law, mix):
    return mix @ np.diag(law)


@pytest.mark.parametrize(("n_classes", "n_groups"), [(2, 2), (3, 2), (5, 3)])
@pytest.mark.parametrize("decimals", [None, 1])
def test_every_group_has_one_law_of_the_atom(n_classes, n_groups, decimals):
    data = simulate(4000, n_classes, n_groups, seed=n_classes, decimals=decimals)
    channel = multiclass_channel(*data, bins=16)
    assert channel.gap < 1e-9
    assert channel.kernels.shape == (n_groups, 16, n_classes)
    np.testing.assert_allclose(channel.kernels.sum(-1), 1, atol=30 * EPS)
    assert channel.kernels.min() >= 0
    delivered = laws(channel, *data) @ np.asarray(channel.kernels, float)
    assert total_variation(delivered) < max(1e-9, 100 * EPS)
    np.testing.assert_allclose(delivered, [channel.atoms] * n_groups, atol=100 * EPS)
    mix = np.bincount(data[1]) / len(data[1])
    value = accuracy(delivered[0], mix)
    np.testing.assert_allclose(channel.utility_value, value, rtol=100 * EPS)
    assert value > mix.max() + 0.05
    joint = mix[:, None] * delivered[0]
    used = joint.sum(0) > 1e-9
    post = (joint / np.where(used, joint.sum(0), 1)).T
    np.testing.assert_allclose(channel.posteriors[used], post[used], atol=1e3 * EPS)
    counts = [[np.sum((data[1] == y) & (data[2] == a)) for a in range(n_groups)]
              for y in range(n_classes)]  # fmt: skip
    np.testing.assert_array_equal(channel.cell_counts, counts)


def test_rules_of_random_costs_have_equal_outcomes():
    data = simulate(5000, 4, 3, seed=2)
    utility = np.random.default_rng(1).uniform(size=(4, 6))
    channel = multiclass_channel(*data, bins=16, utility=utility)
    delivered = laws(channel, *data) @ np.asarray(channel.kernels, float)
    raw = laws(channel, *data)
    post = np.asarray(channel.posteriors, float)
    rng = np.random.default_rng(0)
    unfair = []
    for _ in range(50):
        cost = rng.uniform(size=(4, 5))
        decision = np.eye(5)[(post @ cost).argmin(1)]
        outcome = delivered @ decision
        assert np.ptp(outcome, axis=0).max() < max(1e-9, 100 * EPS)
        by_bin = np.eye(5)[(raw.mean(0).T @ cost).argmin(1)]
        unfair.append(np.ptp(raw @ by_bin, axis=0).max())
    assert np.median(unfair) > 0.05


@pytest.mark.parametrize("seed", range(3))
def test_no_kernels_have_a_higher_utility(seed):
    cp = pytest.importorskip("cvxpy", reason="cvxpy is not installed")
    rng = np.random.default_rng(seed)
    law = rng.dirichlet(np.full(6, 0.5), (3, 4))  # 3 groups, 4 classes, 6 bins
    utility = rng.normal(size=(4, 5))
    kernels, goal = common_experiment(law, utility)
    np.testing.assert_allclose(law @ kernels, [goal] * 3, atol=1e-9)
    unknown = [cp.Variable((6, 5), nonneg=True) for _ in law]
    constraints = [cp.sum(k, axis=1) == 1 for k in unknown]
    first = law[0] @ unknown[0]
    constraints += [
        one @ k == first for one, k in zip(law[1:], unknown[1:], strict=True)
    ]
    program = cp.Problem(cp.Maximize(cp.sum(cp.multiply(utility, first))), constraints)
    best = program.solve(solver=cp.CLARABEL)
    np.testing.assert_allclose((utility * goal).sum(), best, atol=1e-7)


def test_two_classes_reach_the_best_point_of_the_meet():
    for seed in range(3):
        data = simulate(3000, 2, 3, seed=seed)
        channel = multiclass_channel(*data, bins=8)
        law = laws(channel, *data)
        # The hulls of the bins in the order of their likelihood ratios.
        ranked = [one[:, np.argsort(one[1] / one.sum(0))] for one in law]
        roc = lower_envelope([concave_hull(roc_points(*one)) for one in ranked])
        mix = np.bincount(data[1]) / len(data[1])
        best = (mix[0] * (1 - roc[:, 0]) + mix[1] * roc[:, 1]).max()
        np.testing.assert_allclose(channel.utility_value, best, atol=1e-8 + 10 * EPS)


def test_two_classes_agree_with_the_roc_channel():
    # Few distinct scores, so that both have the same bins; the likelihood increases.
    rng = np.random.default_rng(0)
    group, label = rng.integers(0, 2, 8000), rng.integers(0, 2, 8000)
    rank = label * (1 + group) + 1.5 * rng.normal(size=8000)
    score = np.clip(np.round(rank), -1, 2) / 5 + 0.25
    channel = multiclass_channel(np.stack([1 - score, score], 1), label, group, bins=8)
    meet = js.roc_channel(score, label, group, bins=40)
    roc, mix = np.asarray(meet.roc, float), np.bincount(label) / 8000
    best = (mix[0] * (1 - roc[:, 0]) + mix[1] * roc[:, 1]).max()
    np.testing.assert_allclose(channel.utility_value, best, atol=1e-8 + 30 * EPS)


def test_groups_with_one_law_lose_nothing():
    score, label, _ = simulate(3000, 3)
    both = [np.concatenate([v, v]) for v in (score, label)]
    channel = multiclass_channel(*both, np.repeat([0, 1], 3000), bins=16)
    law = laws(channel, *both, np.repeat([0, 1], 3000))[0]
    mix = np.bincount(label) / 3000
    best = (mix[:, None] * law).max(0).sum()
    np.testing.assert_allclose(channel.utility_value, best, rtol=10 * EPS + 1e-9)


def test_a_group_without_information_leaves_the_commonest_class():
    score, label, group = simulate(3000, 3)
    score = np.where(group[:, None] == 0, 1 / 3, score)
    channel = multiclass_channel(score, label, group, bins=8)
    share = np.bincount(label).max() / 3000
    np.testing.assert_allclose(channel.utility_value, share, rtol=10 * EPS)
    commonest = np.bincount(label).argmax()
    drawn = channel.transport(score, group, key=KEY(0))
    np.testing.assert_array_equal(drawn, commonest)


def test_the_utility_chooses_and_may_abstain():
    data = simulate(4000, 3, seed=1)
    plain = multiclass_channel(*data, bins=16)
    same = multiclass_channel(*data, bins=16, utility=np.eye(3))
    np.testing.assert_array_equal(plain.kernels, same.kernels)
    abstain = np.concatenate([np.eye(3), np.full((3, 1), 0.8)], 1)
    careful = multiclass_channel(*data, bins=16, utility=abstain)
    assert careful.kernels.shape[-1] == careful.posteriors.shape[0] == 4
    assert careful.utility_value > max(0.8, float(plain.utility_value))
    mix = np.bincount(data[1]) / len(data[1])
    mass = mix @ np.asarray(careful.atoms)
    assert 0.05 < mass[3] < 0.95
    value = mix @ (np.asarray(careful.atoms) * abstain).sum(1)
    np.testing.assert_allclose(careful.utility_value, value, rtol=100 * EPS)


def test_weights_count_as_repeated_rows():
    score, label, group = simulate(1500, 3, decimals=1)
    weights = np.random.default_rng(11).integers(0, 4, 1500).astype(float)
    some = weights > 0
    weighted = multiclass_channel(score, label, group, 8, None, weights)
    assert total_variation(
        laws(weighted, score, label, group, weights)
        @ np.asarray(weighted.kernels, float)
    ) < max(1e-9, 100 * EPS)
    # Bins are those of the rows with weight; the laws are the repeated rows'.
    rows = [v[some] for v in (score, label, group)]
    unweighted = multiclass_channel(*rows, bins=8)
    np.testing.assert_array_equal(weighted.thresholds, unweighted.thresholds)
    assert np.abs(weighted.atoms - unweighted.atoms).max() > 1e-4
    mix = np.bincount(label, weights) / weights.sum()
    value = accuracy(np.asarray(weighted.atoms, float), mix)
    np.testing.assert_allclose(weighted.utility_value, value, rtol=100 * EPS)


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_a_trees_lookup_is_its_fit(decimals):
    score, _, _ = simulate(2000, 4, decimals=decimals)
    score = np.asarray(jnp.asarray(score), float)
    tree, found = fit_score_tree(score, 16)
    assert [len(v) for v in tree] == [tree_size(4, 16)] * 3
    looked_up = jax.jit(find_bins)(
        type(tree)(*map(jnp.asarray, tree)), jnp.asarray(score)
    )
    np.testing.assert_array_equal(looked_up, found)
    sizes = np.bincount(found, minlength=16)
    best = score.argmax(1)
    assert all(len(np.unique(best[found == b])) == 1 for b in np.unique(found))
    if decimals is None:
        assert (sizes > 0).all() and sizes.max() < 6 * sizes.min()
    if decimals == 0:
        # As many bins as distinct rows; each of them alone.
        assert len(np.unique(score, axis=0)) == (sizes > 0).sum() < 16


def test_draws_follow_the_kernel_rows():
    data = simulate(3000, 3)
    channel = multiclass_channel(*data, bins=8)
    row = np.array([0.4, 0.35, 0.25])
    kernel = np.asarray(channel.kernels, float)[1, walk(channel, row, 1)]
    drawn = channel.transport(
        np.tile(row, (20_000, 1)), np.ones(20_000, int), key=KEY(3)
    )
    counts = np.bincount(drawn, minlength=3)
    assert (counts[kernel == 0] == 0).all() and (kernel > 0).sum() > 1
    used = kernel > 0
    expected = kernel[used] / kernel[used].sum() * 20_000
    assert stats.chisquare(counts[used], expected).pvalue > 1e-3


def test_new_rows_have_nearly_equal_confusion_matrices():
    channel = multiclass_channel(*simulate(20_000, 3, seed=3), bins=16)
    rng_rows = simulate(20_000, 3, seed=3)
    fresh = np.random.default_rng(9)
    score, label, group = rng_rows
    # New noise, the same law: rows of a second draw.
    logits = np.eye(3)[label] * (1 + group)[:, None] * 1.2
    score = np.exp(logits + fresh.normal(size=logits.shape))
    score /= score.sum(1, keepdims=True)

    def gap(codes):
        table = np.zeros((2, 3, 3))
        np.add.at(table, (group, label, codes), 1)
        return total_variation(table / table.sum(-1, keepdims=True))

    fair = np.asarray(channel.transport(score, group, key=KEY(0)))
    assert gap(fair) < 0.05 and gap(score.argmax(1)) > 0.2


def test_randomness_is_the_keys_alone_under_jit_and_vmap():
    score, label, group = simulate(600, 3)
    channel = multiclass_channel(score, label, group, bins=8)
    keys = jax.random.split(KEY(0), 2)
    one = [channel.transport(score, group, key=key) for key in keys]
    np.testing.assert_array_equal(channel.transport(score, group, key=keys[0]), one[0])
    assert one[0].dtype == jnp.int32 and (one[0] != one[1]).mean() > 0.01
    move = jax.vmap(lambda c, key: c.transport(score, group, key=key), (None, 0))
    np.testing.assert_array_equal(jax.jit(move)(channel, keys), one)
    codes = jnp.where(jnp.arange(600) < 5, 7, group)
    holes = jnp.asarray(score).at[10, 1].set(jnp.nan)
    traced = jax.jit(lambda c, s, g: c.transport(s, g, key=keys[0]))
    found = traced(channel, holes, codes)
    assert (found[:5] == -1).all() and found[10] == -1
    kept = np.r_[5:10, 11:600]
    np.testing.assert_array_equal(found[kept], one[0][kept])


N = 240
SCORE, LABEL, GROUP = simulate(N, 3, seed=5)


def fit(**changes):
    return multiclass_channel(
        **{"score": SCORE, "label": LABEL, "group": GROUP, "bins": 4, **changes}
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": SCORE[:, 0]}, "score has shape (240,), expected [rows, classes]"),
        ({"score": SCORE[:, :1]}, "use jaxsteer.roc_channel"),
        ({"score": SCORE * np.nan}, "score has 720 values that are not finite"),
        ({"score": SCORE[:, :2]}, "label has codes from 0 to 2, expected 0..1"),
        ({"group": GROUP * 0}, "group has one value; there is nothing to make equal"),
        ({"label": np.where(GROUP == 0, 0, LABEL)}, "no rows of class 1 in group 0"),
        ({"n_groups": 3}, "no rows of class 0 in group 2"),
        ({"bins": 2}, "bins=2 must be at least the 3 classes"),
        ({"bins": 4.5}, "bins=4.5 must be a whole number"),
        ({"utility": np.eye(2)}, "utility has shape (2, 2), expected [3, T]"),
        ({"utility": np.ones((3, 1))}, "utility has shape (3, 1)"),
        (
            {"utility": np.full((3, 3), np.inf)},
            "utility has 9 values that are not finite",
        ),
        ({"weights": np.ones(3)}, "weights has 3"),
    ],
)
def test_bad_input_is_named(changes, message):
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(ValueError, match=re.escape(message)),
    ):
        fit(**changes)


def test_few_rows_are_said():
    with pytest.warns(
        UserWarning, match=r"class \d of group \d has \d+ rows for 200 b"
    ):
        channel = fit(bins=200)
    assert channel.gap < 1e-9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(bins=4)


def test_fitting_inside_jit_is_refused():
    with pytest.raises(ValueError, match="multiclass_channel is fitted on the host"):
        jax.jit(lambda v: fit(score=v).gap)(SCORE)


@pytest.mark.parametrize(
    ("score", "group", "message"),
    [
        (SCORE, GROUP + 1, "group has codes from 1 to 2, expected 0..1"),
        (SCORE[:, :2], GROUP, "score has shape (240, 2), expected [rows, 3]"),
        (SCORE[1:], GROUP, "score has 239, group has 240"),
        (SCORE * np.nan, GROUP, "score has 720 values that are not finite"),
    ],
)
def test_bad_rows_are_named_at_transport(score, group, message):
    channel = fit()
    with pytest.raises(ValueError, match=re.escape(message)):
        channel.transport(score, group, key=KEY(0))


def test_a_missing_key_is_named():
    with pytest.raises(ValueError, match=r"key is missing.*jax.random.key"):
        fit().transport(SCORE, GROUP)


def test_soft_counts_are_sums_of_a_regressions_probabilities():
    rng = np.random.default_rng(0)
    columns, label = rng.normal(size=(600, 3)), rng.integers(0, 3, 600)
    weights = rng.uniform(0.5, 2, 600)
    found = soft_labels(columns, label, weights, 3)
    spread = (columns - columns.mean(0)) / columns.std(0)
    # scikit-learn's objective is half of the ridge too: C = 1.
    peer = LogisticRegression(C=1.0, tol=1e-8, max_iter=2000)
    peer.fit(spread, label, sample_weight=weights)
    np.testing.assert_allclose(found, peer.predict_proba(spread), atol=1e-4)
    shares = np.bincount(label, weights) / weights.sum()
    np.testing.assert_allclose(weights @ found / weights.sum(), shares, atol=1e-6)


def test_soft_counts_do_not_fit_noise():
    gaps, accuracies = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        data = []
        for _ in range(2):
            group, label = rng.integers(0, 2, 2000), rng.integers(0, 3, 2000)
            tell = np.array([2.0, 1.4])[group][:, None]
            odds = np.exp(1.5 * (np.eye(3)[label] * tell + rng.normal(size=(2000, 3))))
            data.append((odds / odds.sum(1, keepdims=True), label, group))
        for counts in ("hard", "soft"):
            channel = multiclass_channel(*data[0], bins=32, counts=counts)
            law = laws(channel, *data[1]) @ np.asarray(channel.kernels, float)
            gaps.append(total_variation(law))
            accuracies.append(accuracy(law[0], np.full(3, 1 / 3)))
            assert (channel.gap < 1e-9) == (counts == "hard")
    gaps, accuracies = (np.reshape(v, (4, 2)).mean(0) for v in (gaps, accuracies))
    assert gaps[1] < gaps[0] and accuracies[1] > accuracies[0]
    with pytest.raises(ValueError, match="counts='few' is not known"):
        multiclass_channel(*data[0], bins=32, counts="few")


def test_shrinkage_draws_the_laws_of_small_cells_together():
    score, label, group = simulate(2000, 3, 2, seed=3)
    plain = multiclass_channel(score, label, group, bins=12)
    assert float(plain.gap) < 1e-6 and not np.asarray(plain.shrinkage).any()
    auto = multiclass_channel(score, label, group, bins=12, shrinkage="auto")
    amount = np.asarray(auto.shrinkage)
    assert amount.shape == (3, 2) and (amount > 0).all() and amount.max() <= 1
    # Two groups lie on two sides of the pooled law: one share of noise for both.
    np.testing.assert_allclose(amount[:, 0], amount[:, 1], rtol=1e-3)
    assert 1e-4 < float(auto.gap) < 0.2
    every = multiclass_channel(score, label, group, bins=12, shrinkage=1.0)
    np.testing.assert_allclose(every.kernels[0], every.kernels[1], atol=1e-6)
    assert float(every.utility_value) > float(auto.utility_value)
    with pytest.raises(ValueError, match="shrinkage=2"):
        multiclass_channel(score, label, group, bins=12, shrinkage=2.0)


def test_a_tolerance_is_kept_for_every_pair_and_buys_utility():
    score, label, group = simulate(900, 3, 3, seed=5)
    found = [
        multiclass_channel(score, label, group, bins=9, tolerance=tolerance)
        for tolerance in (0.0, 0.3, 1.0)
    ]
    assert float(found[0].gap) < 1e-6
    values = [float(channel.utility_value) for channel in found]
    assert values[0] < values[1] - 1e-3 < values[2] - 2e-3
    counts = np.asarray(found[0].cell_counts)
    for channel, tolerance in zip(found, (0.0, 0.3, 1.0), strict=True):
        delivered = np.zeros((3, 3, 3))
        bins = np.asarray(channel._rows_on_host(score, group)) % 9
        for a in range(3):
            for i in range(3):
                mine = (group == a) & (label == i)
                delivered[a, i] = np.asarray(channel.kernels)[a, bins[mine]].mean(0)
        for a, b in ((0, 1), (0, 2), (1, 2)):
            limit = tolerance * np.sqrt(1 / counts[:, a] + 1 / counts[:, b])
            away = np.abs(delivered[a] - delivered[b]).max(-1)
            assert (away <= limit + 1e-5).all()
    with pytest.raises(ValueError, match="tolerance=-1"):
        multiclass_channel(score, label, group, bins=9, tolerance=-1.0)
