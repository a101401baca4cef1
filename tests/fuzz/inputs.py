"""Rows, codes, scores, weights and populations, mostly good and often spoiled.

Every piece is a function of one :class:`Draw`, so that hypothesis (which shrinks) and the
long run (which counts) make the same input. Shapes are few: most functions compile once
for each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsteer as js

N, D = 24, 2


@dataclasses.dataclass
class Draw:
    """Where the choices of one input come from.

    Attributes:
        choose: Picks one of a sequence; the first is the plainest.
        rng: Numbers, which are not shrunk.
        log: What was chosen, for reports.
    """

    choose: Callable[[Sequence[Any]], Any]
    rng: np.random.Generator
    log: list[str] = dataclasses.field(default_factory=list)

    def pick(self, what: str, choices: Sequence[Any]) -> Any:
        """Choose, and write it down."""
        found = self.choose(choices)
        if found is not choices[0]:
            self.log.append(f"{what}={found!r}")
        return found

    def often(self, what: str, plain: Any, others: Sequence[Any]) -> Any:
        """The plain choice in three of four, else one of the others."""
        if self.choose([True, True, True, False]):
            return plain
        found = self.choose(list(others))
        self.log.append(f"{what}={found!r}")
        return found


def codes(draw: Draw, name: str, n: int, size: int = 2) -> Any:
    """Codes of `n` rows, in types wide and narrow."""
    values = draw.rng.permutation(np.arange(n) % size)
    kind = draw.often(
        name,
        "int64",
        ["int32", "uint8", "int8", "bool", "jax", "list", "negative", "hole", "one value",
         "float", "text", "column", "longer", "huge"],
    )  # fmt: skip
    if kind in ("int32", "uint8", "int8", "bool"):
        return values.astype(kind)
    spoil = {
        "jax": lambda: jnp.asarray(values),
        "list": lambda: values.tolist(),
        "negative": lambda: np.where(np.arange(n) == n - 1, -1, values),
        "hole": lambda: values * 2,
        "one value": lambda: np.zeros(n, int),
        "float": lambda: values.astype(float),
        "text": lambda: values.astype(str),
        "column": lambda: values[:, None],
        "longer": lambda: np.concatenate([values, values[:1], [0]]),
        "huge": lambda: np.where(np.arange(n) == n - 1, 2**40, values),
    }
    return spoil[kind]() if kind in spoil else values


def scores(draw: Draw, n: int, name: str = "score") -> Any:
    """Scores of every precision and size."""
    score = draw.rng.normal(size=n)
    kind = draw.often(
        name,
        "normal",
        ["offset", "large", "vast", "tiny", "integers", "ties", "constant", "float32",
         "float16", "nan", "infinite", "text", "column", "bool", "subnormal", "jax"],
    )  # fmt: skip
    made = {
        "offset": lambda: score + 1e9,
        "large": lambda: score * 1e39,
        "vast": lambda: score * 1e300,
        "tiny": lambda: score * 1e-300,
        "subnormal": lambda: score * 1e-310,
        "integers": lambda: np.asarray(score * 1e6, np.int64) + 2**40,
        "ties": lambda: np.round(score),
        "constant": lambda: np.ones(n),
        "float32": lambda: score.astype(np.float32),
        "float16": lambda: score.astype(np.float16),
        "nan": lambda: np.where(np.arange(n) == n - 1, np.nan, score),
        "infinite": lambda: np.where(np.arange(n) == n - 1, np.inf, score),
        "text": lambda: score.astype(str),
        "column": lambda: score[:, None],
        "bool": lambda: score > 0,
        "jax": lambda: jnp.asarray(score),
    }
    return made[kind]() if kind in made else score


def weights(draw: Draw, n: int) -> Any:
    """Sample weights, or none."""
    values = draw.rng.uniform(0.5, 2, n)
    kind = draw.often(
        "weights",
        "none",
        ["uniform", "integers", "some zero", "all zero", "negative", "nan", "infinite",
         "longer", "vast", "tiny", "column", "text"],
    )  # fmt: skip
    made = {
        "uniform": lambda: values,
        "integers": lambda: np.ones(n, int),
        "some zero": lambda: np.where(np.arange(n) < n // 4, 0.0, values),
        "all zero": lambda: np.zeros(n),
        "negative": lambda: -values,
        "nan": lambda: np.full(n, np.nan),
        "infinite": lambda: np.full(n, np.inf),
        "longer": lambda: np.ones(n + 2),
        "vast": lambda: values * 1e300,
        "tiny": lambda: values * 1e-300,
        "column": lambda: values[:, None],
        "text": lambda: values.astype(str),
    }
    return made[kind]() if kind in made else None


def features(draw: Draw, n: int) -> Any:
    """Rows of two features."""
    x = draw.rng.normal(size=(n, D))
    kind = draw.often(
        "x",
        "normal",
        ["offset", "scaled", "units", "float32", "float16", "integers", "constant",
         "collinear", "nan", "infinite", "vast", "text", "flat", "cube", "jax", "tiny"],
    )  # fmt: skip
    made = {
        "offset": lambda: x + 1e5,
        "scaled": lambda: x * 1e12,
        "tiny": lambda: x * 1e-12,
        "units": lambda: x * np.array([1e-6, 1e6]),
        "float32": lambda: x.astype(np.float32),
        "float16": lambda: x.astype(np.float16),
        "integers": lambda: np.round(10 * x).astype(int),
        "constant": lambda: np.ones((n, D)),
        "collinear": lambda: np.repeat(x[:, :1], D, 1),
        "nan": lambda: np.where(np.arange(n)[:, None] == n - 1, np.nan, x),
        "infinite": lambda: np.where(np.arange(n)[:, None] == n - 1, np.inf, x),
        "vast": lambda: x * 1e300,
        "text": lambda: x.astype(str),
        "flat": lambda: x[:, 0],
        "cube": lambda: x[None],
        "jax": lambda: jnp.asarray(x),
    }
    return made[kind]() if kind in made else x


def n_rows(draw: Draw) -> int:
    """Few lengths: a shape is a compilation."""
    return draw.often("n", N, [0, 1])


def priors(draw: Draw, k: int = 2, g: int = 2) -> Any:
    """Shares of the cells."""
    share = draw.rng.dirichlet(np.full(k * g, 5.0)).reshape(k, g)
    kind = draw.often(
        "priors",
        "good",
        ["zero", "negative", "nan", "sum 2", "shape", "one group", "empty"],
    )
    made = {
        "zero": lambda: np.where(np.arange(g) == 0, share, 0.0),
        "negative": lambda: -share,
        "nan": lambda: share * np.nan,
        "sum 2": lambda: 2 * share,
        "shape": lambda: share.ravel(),
        "one group": lambda: share[:, :1],
        "empty": lambda: share[:0],
    }
    return jnp.asarray(made[kind]() if kind in made else share, jnp.result_type(float))


#: Families by the kind of each parameter: R real, P positive, vectors in lower case.
FAMILIES: dict[str, tuple[Any, str]] = {
    "Normal": (js.Normal, "RP"),
    "DiagonalNormal": (js.DiagonalNormal, "rp"),
    "LogNormal": (js.LogNormal, "RP"),
    "MultivariateNormal": (js.MultivariateNormal, "rC"),
    "Laplace": (js.families.Laplace, "RP"),
    "Gumbel": (js.families.Gumbel, "RP"),
    "Exponential": (js.Exponential, "P"),
    "Gamma": (js.Gamma, "PP"),
    "InverseGamma": (js.families.InverseGamma, "PP"),
    "Rayleigh": (js.families.Rayleigh, "P"),
    "Weibull": (js.Weibull, "PP"),
    "Beta": (js.Beta, "PP"),
    "Dirichlet": (js.Dirichlet, "p"),
    "Bernoulli": (js.Bernoulli, "R"),
    "Categorical": (js.Categorical, "r"),
    "Geometric": (js.families.Geometric, "R"),
    "Poisson": (js.Poisson, "P"),
    "VonMises": (js.families.VonMises, "RP"),
}


def law(draw: Draw, family: str, shape: tuple[int, ...]) -> Any:
    """A law with batch `shape`, its parameters sometimes out of their domain."""
    make, kinds = FAMILIES[family]
    dtype = jnp.result_type(float)
    values = []
    for kind in kinds:
        own = (*shape, D) if kind.islower() or kind == "C" else shape
        if kind in "Rr":
            value = draw.rng.normal(size=own)
        elif kind in "Pp":
            value = draw.rng.uniform(0.5, 2, own)
        else:
            root = draw.rng.normal(size=(*own, D))
            value = root @ root.swapaxes(-1, -2) + 0.3 * np.eye(D)
        values.append(value)
    spoiled = draw.often(
        "law", "good", ["nan", "infinite", "negative", "zero", "offset", "units", "equal",
                        "near", "vast"]
    )  # fmt: skip
    last = len(values) - 1
    scaled = kinds[-1] == "C"
    if spoiled == "nan":
        values[last].flat[0] = np.nan
    elif spoiled == "infinite":
        values[last].flat[0] = np.inf
    elif spoiled == "negative":
        values[last] = -values[last]
    elif spoiled == "zero":
        values[last] = 0 * values[last]
    elif spoiled == "equal" and shape:
        values = [np.repeat(v[:, :1], shape[1], 1) for v in values]
    elif spoiled == "near" and shape:
        values = [v[:, :1] + 1e-4 * np.abs(v) for v in values]
    elif spoiled == "offset" and kinds[0] in "Rr":
        values[0] = values[0] + 1e4
    elif spoiled in ("units", "vast") and (kinds[0] in "Rr" and last):
        by = 1e-9 if spoiled == "units" else 1e18
        values = [values[0] * by, values[1] * (by**2 if scaled else by)]
    with np.errstate(over="ignore"):
        return make(*(jnp.asarray(value, dtype) for value in values))


def population(draw: Draw, families: Sequence[str]) -> js.Population:
    """A population of one of the families."""
    family = draw.pick("family", list(families))
    return js.Population(priors(draw), law(draw, family, (2, 2)))


def key() -> Any:
    """One key for all."""
    return jax.random.key(0)
