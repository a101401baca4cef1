"""The families besides the normal ones: random members and references."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from family_cases import DTYPE, as_numbers
from scipy import stats

from jaxsteer import families


def _locs(rng, batch):
    return rng.normal(size=batch)


def _scales(low, high):
    def draw(rng, batch):
        return np.exp(rng.uniform(np.log(low), np.log(high), batch))

    return draw


def _logits(rng, batch):
    return 2 * rng.normal(size=batch)


def _rows(draw, m=4):
    return lambda rng, batch: draw(rng, (*batch, m))


SHAPES = _scales(0.3, 30)
SCALES = _scales(0.2, 8)
# Weibull divergences grow like the factorial of the ratio of the shapes.
MILD = _scales(0.5, 4)
PARAMETERS = {
    "Laplace": (_locs, SCALES),
    "Exponential": (SCALES,),
    "Gamma": (SHAPES, SCALES),
    "InverseGamma": (SHAPES, SCALES),
    "InverseGaussian": (SCALES, SCALES),
    "Weibull": (MILD, SCALES),
    "Gumbel": (_locs, MILD),
    "Rayleigh": (SCALES,),
    "Pareto": (SHAPES, SCALES),
    "Beta": (SHAPES, SHAPES),
    "Dirichlet": (_rows(SHAPES),),
    "Bernoulli": (_logits,),
    "Categorical": (_rows(_logits),),
    "Poisson": (SCALES,),
    "Geometric": (_logits,),
    "VonMises": (_locs, _scales(0.05, 300)),
}
DISCRETE = ("Bernoulli", "Categorical", "Poisson", "Geometric")
CONTINUOUS = tuple(name for name in PARAMETERS if name not in DISCRETE)
VECTORS = ("Dirichlet", "Categorical")


def draw(name, seed, batch=()):
    """Return random parameters, as float64 values that the dtype can hold."""
    rng = np.random.default_rng(seed)
    return [as_numbers(fn(rng, batch)) for fn in PARAMETERS[name]]


def make(name, values):
    """Return the member with these parameters."""
    return getattr(families, name)(*(jnp.asarray(v, DTYPE) for v in values))


def pair_of_parameters(name, seed, batch=()):
    """Return the parameters of two members with a finite divergence."""
    p, q = draw(name, seed, batch), draw(name, seed + 10_000, batch)
    if name == "Pareto":  # the support of q must hold that of p
        p[1], q[1] = np.maximum(p[1], q[1]), np.minimum(p[1], q[1])
    return p, q


def scipy_law(name, values):
    """Return SciPy's frozen distribution of the same law."""
    a, *rest = values
    b = rest[0] if rest else None
    return {
        "Laplace": lambda: stats.laplace(a, b),
        "Exponential": lambda: stats.expon(scale=1 / a),
        "Gamma": lambda: stats.gamma(a, scale=1 / b),
        "InverseGamma": lambda: stats.invgamma(a, scale=b),
        "InverseGaussian": lambda: stats.invgauss(a / b, scale=b),
        "Weibull": lambda: stats.weibull_min(a, scale=b),
        "Gumbel": lambda: stats.gumbel_r(a, b),
        "Rayleigh": lambda: stats.rayleigh(scale=a),
        "Pareto": lambda: stats.pareto(a, scale=b),
        "Beta": lambda: stats.beta(a, b),
        "Bernoulli": lambda: stats.bernoulli(1 / (1 + np.exp(-a))),
        "Poisson": lambda: stats.poisson(a),
        "Geometric": lambda: stats.geom(1 / (1 + np.exp(-a)), loc=-1),
        "VonMises": lambda: stats.vonmises(b, a),
    }[name]()


def exact_kl(name, p, q):
    """``KL(p || q)`` of one pair by the textbook formula, in 60 digits."""
    import mpmath as mp

    def gamma_law(a, r, b, s):
        shapes = (a - b) * mp.digamma(a) - mp.loggamma(a) + mp.loggamma(b)
        return shapes + b * mp.log(r / s) + a * (s - r) / r

    def shares(a, b):
        total, other = sum(a), sum(b)
        constant = mp.loggamma(total) - mp.loggamma(other)
        for x, y in zip(a, b, strict=True):
            constant += mp.loggamma(y) - mp.loggamma(x)
            constant += (x - y) * (mp.digamma(x) - mp.digamma(total))
        return constant

    def discrete(a, b):
        totals = [sum(map(mp.exp, v)) for v in (a, b)]
        terms = []
        for x, y in zip(a, b, strict=True):
            log_ratio = x - y - mp.log(totals[0] / totals[1])
            terms.append(mp.exp(x) / totals[0] * log_ratio)
        return sum(terms)

    def gumbel(m, s, n, t):
        r, w = s / t, (n - m) / t
        return mp.euler * (r - 1) - mp.log(r) - w - 1 + mp.exp(w) * mp.gamma(1 + r)

    def von_mises(m, a, n, b):
        mean = mp.besseli(1, a) / mp.besseli(0, a)
        log_ratio = mp.log(mp.besseli(0, b) / mp.besseli(0, a))
        return log_ratio + mean * (a - b * mp.cos(m - n))

    def laplace(m, s, n, t):
        d = abs(m - n)
        return mp.log(t / s) + d / t + s / t * mp.exp(-d / s) - 1

    def inverse_gaussian(m, a, n, b):
        return (mp.log(a / b) - 1 + b * (m / n**2 - 2 / n + 1 / m + 1 / a)) / 2

    formulas = {
        "Laplace": laplace,
        "Exponential": lambda r, s: mp.log(r / s) + s / r - 1,
        "Gamma": gamma_law,
        "InverseGamma": gamma_law,
        "InverseGaussian": inverse_gaussian,
        "Weibull": lambda k, s, j, t: gumbel(-mp.log(s), 1 / k, -mp.log(t), 1 / j),
        "Gumbel": gumbel,
        "Rayleigh": lambda s, t: 2 * mp.log(t / s) + (s / t) ** 2 - 1,
        "Pareto": lambda a, s, b, t: mp.log(a / b) + b * mp.log(s / t) + b / a - 1,
        "Beta": lambda a, b, c, d: shares([a, b], [c, d]),
        "Dirichlet": shares,
        "Bernoulli": lambda x, y: discrete([0, x], [0, y]),
        "Categorical": discrete,
        "Poisson": lambda r, s: r * mp.log(r / s) + s - r,
        "Geometric": lambda x, y: discrete([0, x], [0, y]) * (1 + mp.exp(-x)),
        "VonMises": von_mises,
    }
    with mp.workdps(60):
        values = [
            [mp.mpf(float(u)) if isinstance(u, float) else u for u in np.ravel(v)]
            for v in (*p, *q)
        ]
        if name not in VECTORS:
            values = [v[0] for v in values]
        return formulas[name](*values)
