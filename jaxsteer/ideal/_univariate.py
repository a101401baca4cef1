"""Univariate normal programs: ``T_a(x) = g_a x + c_a``, in closed form or by search.

Shapes here are one problem: moments and weights ``[K, G]``. Batches by ``vmap``.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.families import Normal
from jaxsteer.ideal._orbit import Orbit, closed_form_orbit, pin_identity
from jaxsteer.linalg import solve_small_psd
from jaxsteer.maps import DiagonalMap
from jaxsteer.solvers import Differentiate, final_status, search_lattice

_ONE: Any = np.ones(())  # NumPy: importing creates no JAX array
IDENTITY = DiagonalMap(_ONE, 0 * _ONE)


def _weighted_mean(weights: Array, values: Array) -> Array:
    return jnp.sum(weights * values, 0) / jnp.sum(weights, 0)


def affirmative_univariate(
    cells: Normal,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    allow_reflection: bool = False,
) -> Orbit:
    """Closed form: every group takes the shape of the reference group, which stays.

    With ``w_ia = weights / scale^2``, minimizes ``a g^2/2 - b g - W log|g|`` with
    ``a = sum_i w_ia (scale_ir^2 + (loc_ir - mean)^2)``, ``b = sum_i w_ia (loc_ir -
    mean_r)(loc_ia - mean_a)`` and ``W = sum_i weights_ia``; the positive root of
    ``a g^2 - b g - W = 0``. With reflections the sign of ``b`` is that of ``g``.

    References:
        "On Optimal Steering to Achieve Exact Fairness", Corollary 4.2, for any number of
        classes and groups.
    """
    precision = weights / jnp.square(cells.scale)
    shape, spread = cells.loc[:, reference, None], cells.scale[:, reference, None]
    center = _weighted_mean(precision, cells.loc)
    shape_center = _weighted_mean(precision, shape)
    away = shape - shape_center
    a = jnp.sum(precision * (jnp.square(spread) + jnp.square(away)), 0)
    b = jnp.sum(precision * away * (cells.loc - center), 0)
    mass = jnp.sum(weights, 0)
    sign = jnp.where(b < 0, -1.0, 1.0) if allow_reflection else jnp.ones_like(b)
    b = b * sign
    root = jnp.sqrt(b * b + 4 * a * mass)
    # Two forms of one root: neither subtracts nearly equal numbers.
    positive = b >= 0
    size = jnp.where(
        positive,
        (b + root) / (2 * a),
        2 * mass / jnp.where(positive, 1.0, root - b),
    )
    gain = sign * size
    to_group = DiagonalMap(gain, center - gain * shape_center)
    to_group = pin_identity(to_group, reference, IDENTITY)
    template = Normal(cells.loc[:, reference], cells.scale[:, reference])
    return closed_form_orbit(template, to_group, cells.loc.dtype)


def _mean_template(gain, precision, loc):
    """Template means (the first one 0) that fit all groups best, given the gains."""
    k, n_groups = precision.shape
    if k == 2:
        # One difference, one equation: spelled out, as thousands of searches use it.
        pairs = range(n_groups)
        # Divided before they are multiplied: squared precisions may overflow.
        share = [precision[0, a] / (precision[0, a] + precision[1, a]) for a in pairs]
        pull = [share[a] * precision[1, a] for a in pairs]
        away = [loc[1, a] - loc[0, a] for a in pairs]
        top = sum(gain[a] * pull[a] * away[a] for a in pairs)
        difference = top / sum(gain[a] * gain[a] * pull[a] for a in pairs)
        return jnp.stack([jnp.zeros_like(difference), difference])
    total = jnp.sum(precision, 0)
    laplacian = -precision[:, None, :] * (precision[None, :, :] / total)
    laplacian = (
        laplacian + precision[:, None, :] * jnp.eye(k, dtype=loc.dtype)[..., None]
    )
    gain = jnp.stack(list(gain))
    normal = jnp.sum(jnp.square(gain) * laplacian, -1)
    right = jnp.sum(gain * laplacian * loc[None, :, :], (1, 2))
    solved = solve_small_psd(normal[1:, 1:], right[1:])
    return jnp.concatenate([jnp.zeros(1, loc.dtype), solved])


def _gains(log_gain, sign, reference):
    """Gains of all groups: the reference group's is 1."""
    sizes = [jnp.exp(log_gain[j]) for j in range(log_gain.shape[0])]
    sizes.insert(reference, jnp.ones((), log_gain.dtype))
    return [sign[a] * size for a, size in enumerate(sizes)]


def _profile(log_gain, args, *, reference):
    """KL, up to a constant, as a function of the log-gains; the rest is optimal.

    Written as sums of scalars: under ``vmap`` over problems and lattice points each
    term is one contiguous array.
    """
    loc, precision, weights, sign = args
    groups = range(loc.shape[1])
    gain = _gains(log_gain, sign, reference)
    template = _mean_template(gain, precision, loc)
    value = jnp.zeros((), loc.dtype)
    for i in range(loc.shape[0]):
        mass = jnp.sum(weights[i])
        spread = sum(precision[i, a] * gain[a] * gain[a] for a in groups)
        value = value + 0.5 * mass * jnp.log(spread / mass)
    for j, a in enumerate(a for a in groups if a != reference):
        value = value - jnp.sum(weights[:, a]) * log_gain[j]
    for a in groups:
        gaps = [loc[i, a] - gain[a] * template[i] for i in range(loc.shape[0])]
        center = sum(precision[i, a] * gap for i, gap in enumerate(gaps))
        center = center / jnp.sum(precision[:, a])
        for i, gap in enumerate(gaps):
            value = value + 0.5 * precision[i, a] * (gap - center) * (gap - center)
    return value


def _box(loc, scale, others, reference):
    """Log-gains outside this box are no stationary points (see the tests).

    At the ratio of scales the variance terms balance; the pull of the means moves a
    stationary point away from it by no more than the classes' effect sizes.
    """
    ratio = jnp.log(scale[:, others]) - jnp.log(scale[:, reference, None])
    effect = (jnp.max(loc, 0) - jnp.min(loc, 0)) / jnp.min(scale, 0)
    near, far = effect[reference], effect[others]
    low = jnp.min(ratio, 0) - jnp.log(2 + 2 * near * (1 + far))
    high = jnp.max(ratio, 0) + jnp.log(2 + 2 * far * (1 + near))
    return low, high


def all_groups_univariate(
    cells: Normal,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    allow_reflection: bool = False,
    differentiate: Differentiate = "implicit",
) -> Orbit:
    """Every group moves; a search over the gains ``g_a`` (1 for the reference).

    Given the gains everything else is closed form: template variances ``S_i = (sum_a
    weights_ia) / sum_a w_ia g_a^2``, template means and shifts by weighted least
    squares. The profile may have several minima: all basins of a lattice are refined,
    for every pattern of signs if reflections are allowed.

    References:
        "On Optimal Steering to Achieve Exact Fairness", Proposition 4.3, for any number
        of classes and groups.
    """
    # Solved in units of one cell's scale, so that no square leaves float32's range; the
    # solution does not depend on the unit.
    unit = jax.lax.stop_gradient(cells.scale[0, reference])
    cells = Normal(cells.loc / unit, cells.scale / unit)
    n_groups = cells.loc.shape[1]
    others = np.array([a for a in range(n_groups) if a != reference])
    dtype = cells.loc.dtype
    signs = list(product((1.0, -1.0), repeat=n_groups - 1))
    patterns = np.ones((len(signs) if allow_reflection else 1, n_groups))
    if allow_reflection:
        patterns[:, others] = signs
    low, high = _box(cells.loc, cells.scale, others, reference)

    precision = weights / jnp.square(cells.scale)

    def search(sign):
        return search_lattice(
            partial(_profile, reference=reference),
            (cells.loc, precision, weights, sign),
            low,
            high,
            differentiate=differentiate,
        )

    if allow_reflection:
        found = jax.vmap(search)(jnp.asarray(patterns, dtype))
        best = jnp.argmin(found.value)
        found = jax.tree.map(lambda leaf: leaf[best], found)
        sign = jnp.asarray(patterns, dtype)[best]
    else:
        sign = jnp.ones(n_groups, dtype)
        found = search(sign)

    gain = jnp.stack(_gains(found.x, sign, reference))
    variance = jnp.sum(weights, 1) / jnp.sum(precision * jnp.square(gain), 1)
    loc = _mean_template(gain, precision, cells.loc)
    shift = _weighted_mean(precision, cells.loc - gain * loc[:, None])
    # The reference group's coordinates are the template's.
    loc, shift = loc + shift[reference], shift - gain * shift[reference]
    to_group = pin_identity(DiagonalMap(gain, unit * shift), reference, IDENTITY)
    residual = found.gradient_norm / jnp.sum(weights)
    tolerance = 100 * float(jnp.finfo(dtype).eps) ** 0.75
    return Orbit(
        template=Normal(unit * loc, unit * jnp.sqrt(variance)),
        to_group=to_group,
        residual=residual,
        status=final_status(residual, tolerance, found.steps, 0),
        steps=found.steps,
    )
