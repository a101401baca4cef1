"""Laws, divergences and moves in NumPy float64: a second hand that checks the first.

Textbook formulas, written without a look at the JAX code and sharing none of it, so that
one mistake is not made twice. They cancel where laws are nearly equal; what they are
compared with allows for that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from jaxsteer import families, maps

Values = dict[str, np.ndarray]
_EULER = 0.5772156649015329


class HostLaw(NamedTuple):
    """The laws of all cells, in one family of independent features or of vectors.

    Attributes:
        kind: A name in :data:`KL`.
        values: The parameters, batch ``[K, G]``, float64.
    """

    kind: str
    values: Values


def read_laws(law: Any) -> list[HostLaw]:
    """The blocks of a law on the host; a shared bijection is seen through.

    Raises:
        KeyError: For a family without a formula here.
    """
    if isinstance(law, families.SharedBijection):
        return read_laws(law.base)
    if isinstance(law, families.Product):
        return [found for block in law.blocks for found in read_laws(block)]
    fields = dataclasses.fields(law)
    values = {f.name: np.asarray(getattr(law, f.name), np.float64) for f in fields}
    if isinstance(law, families.LowRankNormal):
        factor, diagonal = values["factor"], values["diagonal"]
        dense = factor @ factor.swapaxes(-1, -2)
        dense = dense + diagonal[..., None] * np.eye(diagonal.shape[-1])
        return [HostLaw("MultivariateNormal", {"mean": values["mean"], "cov": dense})]
    kind = type(law).__name__
    if kind not in KL:
        raise KeyError(kind)
    return [HostLaw(kind, values)]


def read_maps(law: Any, map_: Any) -> list[Values]:
    """The maps of every group, one entry a block of `law`, as gains and shifts."""
    if isinstance(law, families.SharedBijection):
        return read_maps(law.base, map_.base)
    if isinstance(law, families.Product):
        pairs = zip(law.blocks, map_.maps, strict=True)
        return [found for pair in pairs for found in read_maps(*pair)]
    if isinstance(map_, maps.ConjugatedMap):  # Weibull's powers
        map_ = map_.base
    if isinstance(map_, maps.IdentityMap):
        return [{}]
    if isinstance(map_, maps.LowRankMap):
        map_ = map_.to_dense()
    fields = [
        np.asarray(getattr(map_, f.name), float) for f in dataclasses.fields(map_)
    ]
    if isinstance(map_, maps.AffineMap):
        return [{"weight": fields[0], "bias": fields[1]}]
    gain, shift = fields
    if isinstance(law, families.MultivariateNormal | families.LowRankNormal):
        return [{"weight": gain[..., None] * np.eye(gain.shape[-1]), "bias": shift}]
    return [{"gain": gain, "shift": shift}]


def _normal(p: Values, q: Values) -> np.ndarray:
    ratio, away = p["scale"] / q["scale"], (p["loc"] - q["loc"]) / q["scale"]
    return 0.5 * (ratio**2 - 1 + away**2) - np.log(ratio)


def _vectors(p: Values, q: Values) -> np.ndarray:
    batch = np.broadcast_shapes(p["mean"].shape, q["mean"].shape)
    pairs = [np.broadcast_to(law["mean"], batch) for law in (p, q)]
    covs = [np.broadcast_to(law["cov"], (*batch, batch[-1])) for law in (p, q)]
    result = np.empty(batch[:-1])
    for at in np.ndindex(result.shape):
        try:
            roots = [np.linalg.cholesky(cov[at]) for cov in covs]
        except np.linalg.LinAlgError:
            result[at] = np.nan
            continue
        inner = np.linalg.solve(roots[1], roots[0])
        away = np.linalg.solve(roots[1], pairs[0][at] - pairs[1][at])
        logs = np.log(np.diag(roots[0])) - np.log(np.diag(roots[1]))
        excess = np.sum(inner**2) - batch[-1] + away @ away
        result[at] = 0.5 * excess - np.sum(logs)
    return result


def _laplace(p: Values, q: Values) -> np.ndarray:
    away = np.abs(p["loc"] - q["loc"])
    moved = (p["scale"] * np.exp(-away / p["scale"]) + away) / q["scale"]
    return np.log(q["scale"] / p["scale"]) + moved - 1


def _gumbel(p: Values, q: Values) -> np.ndarray:
    ratio, away = p["scale"] / q["scale"], (q["loc"] - p["loc"]) / q["scale"]
    tail = np.exp(away + special.gammaln(ratio + 1))
    return -np.log(ratio) + _EULER * (ratio - 1) + tail - 1 - away


def _weibull(p: Values, q: Values) -> np.ndarray:
    # -log x has a Gumbel law.
    return _gumbel(*({"loc": -np.log(law["scale"]), "scale": 1 / law["concentration"]}
                     for law in (p, q)))  # fmt: skip


def _gamma_rate(rate: str) -> Callable[[Values, Values], np.ndarray]:
    def kl(p: Values, q: Values) -> np.ndarray:
        a, b, ratio = p["concentration"], q["concentration"], q[rate] / p[rate]
        shape = (a - b) * special.digamma(a) - special.gammaln(a) + special.gammaln(b)
        return shape - b * np.log(ratio) + a * (ratio - 1)

    return kl


def _exponential(p: Values, q: Values) -> np.ndarray:
    ratio = q["rate"] / p["rate"]
    return ratio - 1 - np.log(ratio)


def _rayleigh(p: Values, q: Values) -> np.ndarray:
    ratio = (p["scale"] / q["scale"]) ** 2
    return ratio - 1 - np.log(ratio)


def _dirichlet(p: Values, q: Values) -> np.ndarray:
    a, b = p["concentration"], q["concentration"]
    total = a.sum(-1)
    logs = special.gammaln(total) - special.gammaln(b.sum(-1))
    logs = logs + np.sum(special.gammaln(b) - special.gammaln(a), -1)
    slope = special.digamma(a) - special.digamma(total)[..., None]
    return logs + np.sum((a - b) * slope, -1)


def _beta(p: Values, q: Values) -> np.ndarray:
    names = ("concentration1", "concentration0")
    p, q = ({"concentration": np.stack([law[n] for n in names], -1)} for law in (p, q))
    return _dirichlet(p, q)


def _bernoulli(p: Values, q: Values) -> np.ndarray:
    a, b = p["logits"], q["logits"]
    return special.expit(a) * (a - b) - np.logaddexp(0, a) + np.logaddexp(0, b)


def _geometric(p: Values, q: Values) -> np.ndarray:
    return _bernoulli(p, q) / special.expit(p["logits"])


def _categorical(p: Values, q: Values) -> np.ndarray:
    logs = [special.log_softmax(law["logits"], -1) for law in (p, q)]
    return np.sum(np.exp(logs[0]) * (logs[0] - logs[1]), -1)


def _poisson(p: Values, q: Values) -> np.ndarray:
    return special.rel_entr(p["rate"], q["rate"]) - p["rate"] + q["rate"]


def _von_mises(p: Values, q: Values) -> np.ndarray:
    k, other = p["concentration"], q["concentration"]
    mean = special.ive(1, k) / special.ive(0, k)
    logs = [np.log(special.ive(0, value)) + value for value in (k, other)]
    pull = k - other * np.cos(p["loc"] - q["loc"])
    return mean * pull + logs[1] - logs[0]


#: ``KL(p || q)`` of every family with a program, feature by feature for DiagonalNormal.
KL: dict[str, Callable[[Values, Values], np.ndarray]] = {
    "Bernoulli": _bernoulli,
    "Beta": _beta,
    "Categorical": _categorical,
    "DiagonalNormal": lambda p, q: _normal(p, q).sum(-1),
    "Dirichlet": _dirichlet,
    "Exponential": _exponential,
    "Gamma": _gamma_rate("rate"),
    "Geometric": _geometric,
    "Gumbel": _gumbel,
    "InverseGamma": _gamma_rate("scale"),
    "Laplace": _laplace,
    "MultivariateNormal": _vectors,
    "Normal": _normal,
    "Poisson": _poisson,
    "Rayleigh": _rayleigh,
    "VonMises": _von_mises,
    "Weibull": _weibull,
}
LOCATION_SCALE = ("DiagonalNormal", "Gumbel", "Laplace", "Normal")
#: The parameter that a gain multiplies, or divides where it is a rate.
GAINED = {"Exponential": "rate", "Gamma": "rate", "InverseGamma": "scale"}
GAINED |= {"Rayleigh": "scale"}


def divergence(p: HostLaw, q: HostLaw) -> np.ndarray:
    """``KL(p || q)`` in nats, of every cell."""
    return KL[p.kind](p.values, q.values)


def move(law: HostLaw, map_: Values) -> HostLaw:
    """The law of the moved features; maps have the batch of the laws, or none at all."""
    values = law.values
    if not map_:
        return law
    if law.kind == "MultivariateNormal":
        weight = map_["weight"]
        mean = np.einsum("...ij,...j->...i", weight, values["mean"]) + map_["bias"]
        cov = weight @ values["cov"] @ weight.swapaxes(-1, -2)
        return HostLaw(law.kind, {"mean": mean, "cov": cov})
    gain, shift = map_["gain"], map_["shift"]
    if law.kind in LOCATION_SCALE:
        loc, scale = gain * values["loc"] + shift, np.abs(gain) * values["scale"]
        return HostLaw(law.kind, {"loc": loc, "scale": scale})
    if law.kind == "Weibull":  # x -> exp(shift) x^gain
        scale = np.exp(gain * np.log(values["scale"]) + shift)
        shape = values["concentration"] / gain
        return HostLaw(law.kind, {"concentration": shape, "scale": scale})
    name = GAINED[law.kind]
    gained = values[name] / gain if name == "rate" else values[name] * gain
    return HostLaw(law.kind, {**values, name: gained})


def inverse(map_: Values) -> Values:
    """The map back."""
    if "weight" in map_:
        weight = np.linalg.inv(map_["weight"])
        return {
            "weight": weight,
            "bias": -np.einsum("...ij,...j->...i", weight, map_["bias"]),
        }
    if not map_:
        return map_
    return {"gain": 1 / map_["gain"], "shift": -map_["shift"] / map_["gain"]}
