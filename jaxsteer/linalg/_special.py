"""Special functions whose small differences keep their digits and their gradients.

Divergences are differences of large numbers near ``p = q``. Each function here is a sum
of terms of one sign instead, or loses no more digits than it says.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# Stirling's series is used from here on; smaller arguments are shifted by as much.
SHIFT = 10
# c_1, c_3, ..., c_15 of lgamma(x) = (x - 1/2) log x - x + log(2 pi)/2 + sum c_m / x^m;
# the first one left out adds less than 2e-15 to a remainder at x = 10, relatively.
STIRLING = (
    *(1 / 12, -1 / 360, 1 / 1260, -1 / 1680),
    *(1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400),
)


def log_quotient(
    a: Float[Array, "..."],
    b: Float[Array, "..."],
    step: Float[Array, "..."] | None = None,
) -> Array:
    """``log(a / b)``, to the last digits of a quotient near 1 too.

    Args:
        a: ``[...]``, positive.
        b: Broadcasts against `a`, positive.
        step: ``a - b`` where the caller knows more of its digits.
    """
    return _log_step(b, a, a - b if step is None else step)


def _log_step(start: Array, end: Array, step: Array) -> Array:
    """``log(end / start)`` with ``step = end - start``, which a caller may know better.

    A difference of near numbers is exact, a difference of their logarithms is not.
    """
    # XLA's log1p on CPUs loses two digits of float64 below -0.4.
    near = jnp.abs(step) < 0.3 * start
    excess = jnp.where(near, step, 0.0) / jnp.where(near, start, 1.0)
    start, end = jnp.where(near, 1.0, start), jnp.where(near, 1.0, end)
    quotient = end / start
    # Where the quotient leaves the range of its dtype, its logarithm does not.
    within = (quotient > 1e-30) & (quotient < 1e30)
    of_quotient = jnp.log(jnp.where(within, quotient, 1.0))
    far = jnp.where(within, of_quotient, jnp.log(end) - jnp.log(start))
    return jnp.where(near, jnp.log1p(excess), far)


def entropy_remainder(
    p: Float[Array, "..."],
    q: Float[Array, "..."],
    log_ratio: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """Elementwise ``q - p - p log(q / p)``, at least 0, without cancellation.

    The divergence of Poisson rates, and after a sum over the values that of discrete
    laws. ``q`` where ``p = 0`` (gradient 0 in ``p`` there), inf where ``p > 0 = q``.

    Args:
        p: ``[...]``, at least 0.
        q: Broadcasts against `p`, at least 0.
        log_ratio: ``log(q / p)`` where the caller knows it better than the quotient;
            not finite where `p` or `q` is 0.

    Example:
        >>> entropy_remainder(0.0, 2.0).item(), entropy_remainder(1.0, 0.0).item()
        (2.0, inf)
    """
    p, q = jnp.asarray(p), jnp.asarray(q)
    if log_ratio is None:
        both = (p > 0) & (q > 0)
        log_ratio = log_quotient(jnp.where(both, q, 1.0), jnp.where(both, p, 1.0))
    else:  # which is finite where p or q has only left the range of its dtype
        both = jnp.isfinite(log_ratio)
    log_ratio = jnp.where(both, log_ratio, 0.0)
    # Beyond 1 the plain form loses nothing, and the exponential could overflow.
    small = log_ratio < 1
    near = p * expm1_minus(jnp.where(small, log_ratio, 0.0))
    inside = jnp.where(small, near, q - p - p * log_ratio)
    edge = jnp.where(p > 0, q + jnp.inf, q + jax.lax.stop_gradient(p))
    return jnp.where(both, inside, edge)


def lgamma_bregman(
    a: Float[Array, "..."],
    b: Float[Array, "..."],
    step: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """``lgamma(b) - lgamma(a) - digamma(a) (b - a)``, at least 0, for positive a and b.

    Without cancellation however near or far ``a`` and ``b`` are, and with exact
    gradients: 0 with zero gradient at ``a = b``. Neither ``lgamma`` nor ``digamma`` is
    evaluated: ``lgamma(x) = lgamma(x + 1) - log x`` and Stirling's series make it a sum
    of remainders of ``x log x``, ``-log x`` and ``1 / x^m``, which are not negative.

    Args:
        a: ``[...]``, where the tangent touches.
        b: Broadcasts against `a`.
        step: ``b - a`` where the caller knows more of its digits.

    Returns:
        ``[...]`` remainders. About 30 elementary functions each.

    Example:
        >>> round(lgamma_bregman(1.0, 3.0).item(), 4)  # log 2 + 2 * 0.5772
        1.8476
    """
    step = b - a if step is None else step
    log_ratio = -_log_step(a, b, step)
    return gamma_excess(a, b, step) + entropy_remainder(b, a, log_ratio)


def gamma_excess(
    a: Float[Array, "..."],
    b: Float[Array, "..."],
    step: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """The same remainder of ``lgamma(x) - x log x + x``, which is convex as well.

    It is :func:`lgamma_bregman` less ``entropy_remainder(b, a)``, the part that a
    divergence of gamma or Dirichlet laws shares between its shape and its mean.
    """
    step = b - a if step is None else step
    a, b, step = jnp.broadcast_arrays(a, b, step)
    small = jnp.minimum(a, b) < SHIFT
    # One call of each elementary function, for all shifts in a first axis.
    k = _ranks(SHIFT + 1, a)
    logs = _log_step(a[None] + k, b[None] + k, step[None])
    u, v = logs[0], jnp.where(small, logs[SHIFT], logs[0])
    shift = jnp.where(small, 1.0 * SHIFT, 0.0)
    low, high = a + shift, b + shift
    near = jnp.abs(step) < 0.5 * a
    ends = (v, jnp.where(near, -v, 0.0), jnp.where(near, -u, 0.0))
    remainders = expm1_minus(jnp.stack([*logs[:SHIFT], *ends]))
    # The remainder of x log x from low to high, less the one from a to b. Far apart, the
    # linear parts (equal, for the steps are) would swamp the rest.
    entropy = jnp.where(
        near,
        high * remainders[SHIFT + 1] - b * remainders[SHIFT + 2],
        high * v - b * u,
    )
    shifted = jnp.where(small, jnp.sum(remainders[:SHIFT], 0) + entropy, 0.0)
    return shifted + 0.5 * remainders[SHIFT] + _stirling_bregman(low, high, step)


def _ranks(n: int, x: Array) -> np.ndarray:
    """``0..n-1`` in a first axis that `x` has not."""
    return np.arange(n, dtype=x.dtype).reshape(n, *(1,) * x.ndim)


def _stirling_bregman(a: Array, b: Array, step: Array) -> Array:
    """``s(b) - s(a) - s'(a) (b - a)`` of ``s(x) = sum c_m / x^m``, for a, b >= 10.

    For one power it is ``step^2 / (a b) sum_i i a^-i b^(i - m)`` over ``i = 1..m``.
    """
    x, y = 1 / a, 1 / b
    power, inner, total = jnp.ones_like(x), jnp.zeros_like(x), 0.0
    for m in range(1, 2 * len(STIRLING)):
        power = power * x
        inner = y * inner + m * power
        if m % 2:
            total = total + STIRLING[m // 2] * inner
    return (step * x) * (step * y) * total


def stirling_remainder(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``lgamma(x) - (x - 1/2) log x + x - log(2 pi)/2``, Binet's function, ``x > 0``."""
    x = jnp.asarray(x)
    small = x < SHIFT
    low = jnp.where(small, x, 1.0)
    direct = jax.lax.lgamma(low) - (low - 0.5) * jnp.log(low) + low - HALF_LOG_2PI
    y = 1 / jnp.where(small, 1.0 * SHIFT, x)
    series = jnp.zeros_like(y)
    for c in reversed(STIRLING):
        series = series * y * y + c
    return jnp.where(small, direct, series * y)


def log_minus_digamma(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``log x - digamma(x)``, about ``1 / (2 x)``: positive, decreasing, for ``x > 0``.

    Loses at most a factor of 10 of relative accuracy (near ``x = 10``).
    """
    x = jnp.asarray(x)
    small = x < SHIFT
    low = jnp.where(small, x, 1.0)
    rising = jnp.sum(1 / (low[None] + _ranks(SHIFT, low)), 0) - jnp.log(
        (low + SHIFT) / low
    )
    high = x + jnp.where(small, 1.0 * SHIFT, 0.0)
    y = 1 / high
    series = jnp.zeros_like(y)
    for m in reversed(range(len(STIRLING))):
        # The slope of c / x^(2 m + 1), with its sign turned.
        series = (series + (2 * m + 1) * STIRLING[m]) * y * y
    return jnp.where(small, rising, 0.0) + 0.5 * y + series


def log_or_zero(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``log x`` where ``x > 0`` and 0 elsewhere, with gradient 0 there.

    The argument is guarded as well as the value: a guard on the value alone leaves
    ``0 * inf = nan`` in the gradient.
    """
    positive = x > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, x, 1.0)), 0.0)


def relative_entropy(
    p: Float[Array, "..."], q: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Elementwise ``p log(p / q)``: 0 (gradient 0) at ``p = 0``, inf at ``p > 0 = q``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> jax.grad(lambda p: relative_entropy(p, jnp.array(0.5)))(0.0).item()
        0.0
    """
    # The masked log-ratio, not the masked product: at p = 0 the slope of the product
    # would be -log q.
    ratio = jnp.where(p > 0, log_or_zero(p) - log_or_zero(q), 0.0)
    return jnp.where((p > 0) & (q <= 0), jnp.inf, p * ratio)


@jax.custom_jvp
def expm1_minus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``exp(x) - 1 - x`` without the cancellation at small ``x``.

    It is the variance part of a Gaussian KL divergence (``x`` the log-ratio of the
    variances), which near ``x = 0`` would lose all digits in float32.
    """
    small = jnp.abs(x) < 0.5
    t = jnp.where(small, x, 0.0)
    # The first term left out, relative to x^2/2, is 2 * 0.5^k / (k + 2)!: 4e-8 at k = 7
    # and 6e-18 at k = 14, below one rounding of float32 and float64. Beyond 0.5 the
    # difference loses no more than a factor of 5.
    terms = 14 if jnp.finfo(t.dtype).bits > 32 else 7
    tail = jnp.ones_like(t)
    for k in range(terms - 1, 0, -1):
        tail = 1 + t / (k + 2) * tail
    return jnp.where(small, t * t / 2 * tail, jnp.expm1(x) - x)


@expm1_minus.defjvp
def _expm1_minus_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    (x,), (dx,) = primals, tangents
    return expm1_minus(x), jnp.expm1(x) * dx
