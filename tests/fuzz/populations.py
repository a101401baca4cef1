"""Front doors that take populations and laws, verified by a second hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

import jaxsteer as js
from jaxsteer import _host_laws as second_hand
from tests.fuzz import inputs
from tests.fuzz.inputs import Draw
from tests.fuzz.judge import Call
from tests.fuzz.rows import host, near

#: Programs that compile in a second.
QUICK = (
    "Normal", "DiagonalNormal", "LogNormal", "Beta", "Dirichlet", "Bernoulli",
    "Categorical", "Geometric", "Poisson", "VonMises",
)  # fmt: skip
SEARCHED = ("Laplace", "Gumbel", "Exponential", "Gamma", "InverseGamma", "Rayleigh",
            "Weibull")  # fmt: skip
NAMES = ("pop", "priors", "conditionals", "reference", "maps", "intervention", "pivot")


def _options(draw: Draw) -> dict:
    return {
        "intervention": draw.often(
            "intervention", "affirmative", ["all_groups", "all", None, 3]
        ),
        "priors": draw.often(
            "priors", "reweigh", ["balanced", "reference", "keep", "free"]
        ),
        "reference": draw.often(
            "reference", None, [0, 1, 2, -1, 0.5, "a", np.int64(1)]
        ),
    }


def _verified(found: js.Steering) -> str:
    if int(found.status) != js.Status.CONVERGED:
        return "status"
    verified = found.verify()
    assert verified.ok, str(verified)
    return "answer"


def nearest(families: tuple[str, ...], maps: tuple[str, ...], draw: Draw) -> Call:
    """The nearest ideal population of a family."""
    pop, options = inputs.population(draw, families), _options(draw)
    kind = draw.pick("maps", maps)
    run = partial(js.nearest_ideal, pop, maps=kind, **options)
    return Call(run, _verified, NAMES)


def batch(draw: Draw) -> Call:
    """Three problems at once; a bad one leaves the others alone."""
    pops = [inputs.population(draw, ["Normal"]) for _ in range(3)]
    size = draw.often("batch_size", None, [1, 2, 2**31 - 1, 2**40, 0, -1, 1.5])

    def check(found):
        states = []
        for row in range(3):
            one = jax.tree.map(lambda leaf, row=row: leaf[row], found)
            states.append(_verified(one))
        return "answer" if "answer" in states else "status"

    run = partial(js.nearest_ideal_batch, pops, batch_size=size)
    return Call(run, check, (*NAMES, "batch_size"))


def gap(draw: Draw) -> Call:
    """A divergence with its status."""
    pop = inputs.population(draw, QUICK[:3])

    def check(found):
        value, status = found
        if int(status) != js.Status.CONVERGED:
            return "status"
        steering = js.nearest_ideal(pop)
        return near(value, steering.verify().kl, atol=1e-4)

    return Call(partial(js.ideality_gap, pop, return_status=True), check, NAMES)


def is_ideal(draw: Draw) -> Call:
    """True only where the divergence from the nearest ideal is rounding."""
    pop = inputs.population(draw, QUICK[:2])

    def check(found):
        steering = js.nearest_ideal(pop, reference=0, allow_reflection=True)
        if int(steering.status) != js.Status.CONVERGED:
            assert not bool(found), "an unusable population is called ideal"
            return "status"
        if bool(found):
            assert float(steering.kl) < 1e-3
        return "answer"

    return Call(partial(js.is_ideal, pop), check, NAMES)


def bayes_rates(draw: Draw) -> Call:
    """Rates are probabilities, add up, and give the error; or are all NaN."""
    pop = inputs.population(draw, ("Normal", "Bernoulli", "Poisson"))
    cost = draw.often("cost", None, [np.ones((2, 2)), np.zeros(3), 1 - np.eye(2)])

    def check(found):
        rates = host(found.rates)
        usable = np.isfinite(host(pop.priors)).all()
        if not np.isfinite(rates).all():
            bad = [
                not np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(pop)
            ]
            positive = (host(pop.priors) >= 0).all()
            scale = getattr(pop.conditionals, "scale", np.ones(1))
            outside = (host(scale) <= 0).any()
            outside = (
                outside
                or (host(getattr(pop.conditionals, "rate", np.ones(1))) < 0).any()
            )
            empty = (host(pop.priors).sum(-2) == 0).any() or (
                host(pop.priors) == 0
            ).any()
            assert any(bad) or not positive or outside or empty, (
                "NaN from a usable population"
            )
            return "status"
        assert usable
        assert ((rates >= -1e-4) & (rates <= 1 + 1e-4)).all(), f"{rates}"
        near(rates.sum(0), np.ones(rates.shape[1:]), atol=1e-3)
        return "answer"

    return Call(partial(js.bayes_rates, pop, cost), check, (*NAMES, "cost"))


def certificate(draw: Draw) -> Call:
    """Bounds on what was verified: exact ones are below safe ones."""
    pop = inputs.population(draw, ["Normal"])

    def check(found):
        steering = js.nearest_ideal(pop)
        if int(steering.status) != js.Status.CONVERGED:
            return "status"
        assert float(found.exact_error) <= float(found.safe_error) + 1e-3
        return near(found.kl, steering.verify().kl, atol=1e-4)

    def run():
        return js.certificate(js.nearest_ideal(pop))

    return Call(run, check, NAMES)


def gaussian_channel(draw: Draw) -> Call:
    """A channel of vectors, its steered cells where it says."""
    pop = inputs.population(draw, ["MultivariateNormal"])
    subspace = draw.often("subspace", "discriminant", ["all", "none"])
    run = partial(js.gaussian_channel, pop, subspace)
    return Call(run, _verified, (*NAMES, "subspace", "classes"))


def divergence(draw: Draw) -> Call:
    """Every family's divergence, by textbook formulas."""
    family = draw.pick("family", list(inputs.FAMILIES))
    p, q = inputs.law(draw, family, (2, 2)), inputs.law(draw, family, (2, 2))
    made = dict(zip("pq", (p, q), strict=True))

    def check(found):
        from jaxsteer.families import parameters_valid

        laws = [second_hand.read_laws(law)[0] for law in made.values()]
        expected = second_hand.divergence(*laws)
        found = host(found)
        assert found.shape == expected.shape
        if not all(bool(parameters_valid(law)) for law in made.values()):
            return "status"  # a formula: parameters_valid tells
        sure = np.isfinite(expected) & (np.abs(expected) < 1e30)
        assert np.isfinite(found[sure]).all(), f"{found} for {expected}"
        size = 1e-3 * np.abs(expected[sure]) + 1e-3
        assert (np.abs(found[sure] - expected[sure]) <= size).all(), (
            f"{found}, {expected}"
        )
        assert not np.isnan(found).any()
        return "answer"

    return Call(partial(js.kl_divergence, p, q), check, ("p", "q"))


def transport(draw: Draw) -> Call:
    """Rows go where the maps take them; what no float holds is refused or not finite."""
    n = inputs.n_rows(draw)
    x, group = inputs.features(draw, n), inputs.codes(draw, "group", n)
    label = draw.often("label", None, ["codes"])
    label = None if label is None else inputs.codes(draw, "label", n)
    steering = _steering()
    strength = draw.often("strength", 1.0, [0.0, 0.5])

    def check(moved):
        values, found = host(x), host(moved)
        if strength == 1.0 and label is None:
            weight, bias = (
                host(steering.group_maps.weight),
                host(steering.group_maps.bias),
            )
            code = np.asarray(group).astype(int)
            expected = np.einsum("nij,nj->ni", weight[code], values) + bias[code]
            values, expected = np.nan_to_num(values), np.nan_to_num(expected)
            size = 1e-4 * (1 + np.abs(values).max())
            found = np.where(np.isfinite(host(x)).all(-1)[:, None], found, expected)
            np.testing.assert_allclose(found, expected, atol=size)
            found = host(moved)
        usable = np.isfinite(host(x)).all(-1)
        assert np.isfinite(found[usable]).all(), "rows that were numbers are none"
        return "answer" if usable.all() else "status"

    run = partial(steering.transport, x, group, label, strength=strength)
    return Call(run, check, ("x", "group", "label", "rows"))


@functools.cache
def _steering() -> js.Steering:
    rng = np.random.default_rng(0)
    draw = Draw(lambda choices: choices[0], rng)
    law = inputs.law(draw, "MultivariateNormal", (2, 2))
    pop = js.Population(inputs.priors(draw), law)
    return js.nearest_ideal(pop, maps="shared_covariance")


POPULATIONS: dict[str, Callable[[Draw], Call]] = {
    "nearest_ideal": partial(nearest, QUICK, ("general", "diagonal", "any")),
    "nearest_ideal_batch": batch,
    "ideality_gap": gap,
    "is_ideal": is_ideal,
    "bayes_rates": bayes_rates,
    "certificate": certificate,
    "kl_divergence": divergence,
    "Steering.transport": transport,
}
#: Programs that take long to compile: for the long run only.
SLOW: dict[str, Callable[[Draw], Call]] = {
    "nearest_ideal (searches of one feature)": partial(nearest, SEARCHED, ("general",)),
    "nearest_ideal (vectors)": partial(
        nearest,
        ("MultivariateNormal",),
        ("positive_definite", "pivot", "shared_covariance", "diagonal", "general"),
    ),
    "gaussian_channel": gaussian_channel,
}
