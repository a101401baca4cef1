"""Front doors beside the main ones: erasers, draws, prices, what Pareto takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxsteer as js
from jaxsteer.baselines import fit_oracle_leace, fit_splince
from jaxsteer.channels import entropic_meet, row_uniform
from jaxsteer.pareto import group_data, nondominated, simplex_grid
from tests.fuzz import inputs
from tests.fuzz.inputs import Draw
from tests.fuzz.judge import Call
from tests.fuzz.rows import finite, host, mass, near, whole

ERASER_NAMES = ("x", "z", "label", "weights", "class", "concept")


def _means_apart(moved, x, code, own) -> np.ndarray:
    """By how many standard deviations of a feature the groups' means differ."""
    values = host(x)
    means = [
        np.average(moved[code == a], axis=0, weights=own[code == a])
        for a in range(code.max() + 1)
        if own[code == a].sum() > 0
    ]
    deviation = values.std(0) + 1e-6 * np.abs(values).max(0) + 1e-30
    return np.ptp(np.stack(means), axis=0) / deviation


def oracle_leace(draw: Draw) -> Call:
    """Every concept ends with the same mean."""
    n = inputs.n_rows(draw)
    x, z, w = inputs.features(draw, n), inputs.codes(draw, "z", n), _weights(draw, n)

    def check(found):
        if np.asarray(z).dtype.kind not in "iub":
            finite(found)
            return "answer"
        code, moved = whole(z), host(found(jnp.asarray(x), jnp.asarray(z)))
        finite(moved)
        if code.max() == 0 or np.abs(host(x)).max() > 1e30:
            return "answer"
        apart = _means_apart(moved, x, code, mass(w, len(code)))
        assert (apart <= 2e-2).all(), f"means {apart} deviations apart"
        return "answer"

    return Call(partial(fit_oracle_leace, x, z, weights=w), check, ERASER_NAMES)


def splince(draw: Draw) -> Call:
    """The concept's means agree, and the map is a projection."""
    n = inputs.n_rows(draw)
    x, w = inputs.features(draw, n), _weights(draw, n)
    z, label = inputs.codes(draw, "z", n), inputs.codes(draw, "label", n)

    def check(found):
        finite(found)
        moved = host(found(jnp.asarray(x)))
        finite(moved)
        if np.asarray(z).dtype.kind not in "iub" or np.abs(host(x)).max() > 1e30:
            return "answer"
        code = whole(z)
        if code.max() == 0:
            return "answer"
        apart = _means_apart(moved, x, code, mass(w, len(code)))
        assert (apart <= 2e-2).all(), f"means {apart} deviations apart"
        return "answer"

    return Call(partial(fit_splince, x, z, label, weights=w), check, ERASER_NAMES)


def _weights(draw: Draw, n: int) -> Any:
    return inputs.weights(draw, n)


def uniform(draw: Draw) -> Call:
    """A number in [0, 1) for each row, the same for the same row."""
    n = inputs.n_rows(draw)
    rows = inputs.features(draw, n)
    ids = draw.often("ids", None, ["codes", "text", "longer"])
    parts = [rows]
    if ids == "codes":
        parts.append(np.arange(n))
    elif ids == "text":
        parts.append(np.arange(n).astype(str))
    elif ids == "longer":
        parts.append(np.arange(n + 1))

    def check(found):
        values = host(found)
        assert values.shape == (len(np.asarray(rows)),)
        assert ((values >= 0) & (values < 1)).all()
        again = host(row_uniform(inputs.key(), *parts))
        np.testing.assert_array_equal(values, again)
        if len(parts) == 2 and len(values) > 2:
            assert len(np.unique(values)) > len(values) / 2, "rows share draws"
        return "answer"

    return Call(lambda: row_uniform(inputs.key(), *parts), check, ("part", "rows"))


def best_models(draw: Draw) -> Call:
    """Which models no other dominates, by trying all pairs."""
    losses = draw.rng.uniform(size=(5, 2)).round(1)
    kind = draw.often(
        "losses",
        "good",
        ["nan", "infinite", "flat", "empty", "text", "equal", "integers"],
    )
    made = {
        "nan": lambda: np.where(losses == losses.max(), np.nan, losses),
        "infinite": lambda: np.where(losses == losses.max(), np.inf, losses),
        "flat": lambda: losses[:, 0],
        "empty": lambda: losses[:0],
        "text": lambda: losses.astype(str),
        "equal": lambda: np.zeros((5, 2)),
        "integers": lambda: (10 * losses).astype(int),
    }
    losses = made[kind]() if kind in made else losses

    def check(found):
        expected = [
            not any((b <= a).all() and (b < a).any() for b in losses) for a in losses
        ]
        assert not np.isnan(losses).any(), "NaN was compared"
        np.testing.assert_array_equal(np.asarray(found), expected)
        return "answer"

    return Call(partial(nondominated, losses), check, ("group_losses",))


def grid(draw: Draw) -> Call:
    """Points of a simplex: they sum to one and are as many as there should be."""
    groups = draw.often("n_groups", 2, [1, 3, 0, -1, 2.5, "a", None])
    points = draw.often("points", 5, [2, 1, 0, -1, 2.5, "a"])

    def check(found):
        rows = host(found)
        assert rows.ndim == 2 and rows.shape[1] == groups
        assert (rows >= 0).all()
        near(rows.sum(1), np.ones(len(rows)))
        assert len(np.unique(rows, axis=0)) == len(rows)
        return "answer"

    return Call(partial(simplex_grid, groups, points), check, ("n_groups", "points"))


def laid_out(draw: Draw) -> Call:
    """Group means of the laid-out rows are those of the rows."""
    n = inputs.n_rows(draw)
    x, w = inputs.features(draw, n), inputs.weights(draw, n)
    target, group = inputs.codes(draw, "target", n), inputs.codes(draw, "group", n)

    def check(found):
        code = whole(group)
        own = mass(w, len(code))
        truth = host(target)
        mean = host(found.group_mean(found.target.astype(float)))
        expected = [
            np.average(truth[code == a], weights=own[code == a])
            for a in range(code.max() + 1)
        ]
        finite(found.x)
        return near(mean, expected)

    run = partial(group_data, x, target, group, weights=w)
    return Call(run, check, ("x", "target", "group", "weights", "class"))


def entropic(draw: Draw) -> Call:
    """Kernels of full support whose atoms have one law a class, or a status."""
    counts = draw.rng.integers(1, 30, (2, 2, 6)).astype(float)
    kind = draw.often(
        "counts", "good",
        ["zero bins", "one class", "negative", "nan", "vast", "tiny", "flat", "text"],
    )  # fmt: skip
    made = {
        "zero bins": lambda: np.where(np.arange(6) % 2, counts, 0),
        "one class": lambda: counts * np.array([1.0, 0.0])[:, None],
        "negative": lambda: -counts,
        "nan": lambda: np.where(counts == counts.max(), np.nan, counts),
        "vast": lambda: counts * 1e20,
        "tiny": lambda: counts * 1e-20,
        "flat": lambda: counts[0],
        "text": lambda: counts.astype(str),
    }
    counts = made[kind]() if kind in made else counts

    def check(found):
        if not bool(found.converged):
            return "status"
        kernels = host(found.kernels)
        finite(kernels)
        assert (kernels >= -1e-6).all()
        near(kernels.sum(-1), np.ones(kernels.shape[:-1]), atol=1e-3)
        laws = counts / counts.sum(-1, keepdims=True)
        made = np.einsum("gkb,gbt->gkt", laws, kernels)
        assert np.ptp(made, axis=0).max() <= 1e-3, "the groups' atoms differ"
        return "answer"

    return Call(partial(entropic_meet, counts), check, ("counts",))


def residual(draw: Draw) -> Call:
    """The divergence is that of the nearest ideal population, or none."""
    pop = inputs.population(draw, ("Normal", "Bernoulli"))

    def check(found):
        steering = js.nearest_ideal(pop, reference=0, allow_reflection=True)
        if int(steering.status) != js.Status.CONVERGED:
            bad = int(steering.status) == js.Status.BAD_INPUT
            assert not bad or np.isnan(float(found.kl))
            return "status"
        return near(found.kl, steering.verify().kl, atol=1e-4)

    names = ("pop", "priors", "conditionals", "groups")
    return Call(partial(js.ideal_residual, pop), check, names)


def price(draw: Draw) -> Call:
    """Fairness costs, and what it buys is kept: no gaps on the target."""
    pop = inputs.population(draw, ("Normal",))
    costs = draw.often(
        "costs", np.array([0.5, 2.0]),
        [np.array([0.0, 1.0]), np.array([-1.0, 1.0]), np.array([np.nan, 1.0]),
         np.ones((2, 3, 3)), np.ones((2, 2, 2)), "a"],
    )  # fmt: skip

    def check(found):
        steering = js.nearest_ideal(pop)
        if int(steering.status) != js.Status.CONVERGED:
            return "status"
        assert np.isfinite(np.asarray(costs, float)).all(), "costs that are no numbers"
        finite(found.price)
        for rates in (found.source, found.target, found.transferred):
            values = host(rates.rates)
            assert ((values >= -1e-4) & (values <= 1 + 1e-4)).all()
        assert (host(found.target.rate_gaps) <= 2e-2).all(), "gaps on the target"
        return "answer"

    names = ("pop", "priors", "conditionals", "costs", "groups", "reference")
    return Call(partial(js.price_of_fairness, pop, costs), check, names)


def encode_labels(draw: Draw) -> Call:
    """Names come back."""
    values = draw.pick(
        "values",
        [["b", "a", "b"], [3, 1, 3], [True, False], [1.0, 2.0], [1.5, 2.5], [None, 1],
         [np.nan, 1.0], ["a", 1], [], [[1], [2]], 7, np.array(["x", "y"]),
         np.array([2**60, 1]), [np.datetime64("2020-01-01")], [1e300, 2]],
    )  # fmt: skip
    names = draw.often("names", None, [["a", "b"], (1, 3), [], ["a", "a"]])

    def check(found):
        code, kept = found
        back = [kept[i] for i in code]
        assert back == list(np.asarray(values, object).tolist()), f"{back}"
        assert code.dtype == np.int32
        return "answer"

    run = partial(js.encode_labels, values, names=names)
    return Call(run, check, ("values", "names"))


FURTHER: dict[str, Callable[[Draw], Call]] = {
    "baselines.fit_oracle_leace": oracle_leace,
    "baselines.fit_splince": splince,
    "channels.entropic_meet": entropic,
    "channels.row_uniform": uniform,
    "encode_labels": encode_labels,
    "ideal_residual": residual,
    "pareto.group_data": laid_out,
    "pareto.nondominated": best_models,
    "pareto.simplex_grid": grid,
    "price_of_fairness": price,
}
