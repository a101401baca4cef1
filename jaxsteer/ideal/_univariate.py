"""Univariate normal programs: ``T_a(x) = g_a x + c_a``, in closed form or by search.

Shapes here are one problem: moments and weights ``[K, G]``, the reference group in
front. Batches by ``vmap``. Nothing is unrolled over classes or groups.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.families import DiagonalNormal, LowRankNormal, MultivariateNormal, Normal
from jaxsteer.ideal._orbit import Cells, Orbit, at, closed_form_orbit, pin_identity
from jaxsteer.maps import DiagonalMap
from jaxsteer.solvers import (
    Differentiate,
    LocalMinimum,
    final_status,
    minimize_newton,
    search_lattice,
)
from jaxsteer.solvers._lattice_search import mixtures, spread_out

_ONE: Any = np.ones(())  # NumPy: importing creates no JAX array
IDENTITY = DiagonalMap(_ONE, 0 * _ONE)
BASINS = 8  # starts that are refined
FEW = 4  # classes whose terms are added one by one


class _Fit(NamedTuple):
    """Maps of least divergence from one template to every group."""

    gain: Float[Array, " G"]
    shift: Float[Array, " G"]
    pull: Float[Array, " G"]  # ``b`` of the quadratic, times the sign of the gain


def _closest_maps(
    cells: Normal, weights: Array, template: Normal, turn: Any = False
) -> _Fit:
    """Closed form: every group's own best map from a template, batch ``[K]``.

    With ``w_ia = weights / scale^2``, minimizes ``a g^2/2 - b g - W log|g|`` with
    ``a = sum_i w_ia (s_i^2 + (t_i - mean)^2)``, ``b = sum_i w_ia (t_i - mean) (loc_ia -
    mean_a)`` and ``W = sum_i weights_ia``, for a template of means ``t`` and deviations
    ``s``; the positive root of ``a g^2 - b g - W = 0``. The best sign of ``g`` is that of
    ``b``, and `turn` says whether it may be negative.
    """
    precision = weights / jnp.square(cells.scale)
    total = jnp.sum(precision, 0)
    center = jnp.sum(precision * cells.loc, 0) / total
    origin = jnp.sum(precision * template.loc[:, None], 0) / total
    away = template.loc[:, None] - origin
    a = jnp.sum(precision * (jnp.square(template.scale)[:, None] + away * away), 0)
    b = jnp.sum(precision * away * (cells.loc - center), 0)
    mass = jnp.sum(weights, 0)
    sign = jnp.where((b < 0) & turn, -1.0, 1.0).astype(b.dtype)
    b = b * sign
    root = jnp.sqrt(b * b + 4 * a * mass)
    # Two forms of one root: neither subtracts nearly equal numbers.
    positive = b >= 0
    size = jnp.where(
        positive,
        (b + root) / (2 * a),
        2 * mass / jnp.where(positive, 1.0, root - b),
    )
    return _Fit(sign * size, center - sign * size * origin, b)


def affirmative_univariate(
    cells: Normal,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    allow_reflection: bool = False,
) -> Orbit:
    """Closed form: every group takes the shape of the reference group, which stays.

    The best map of each group to the reference group's law is the root of a quadratic,
    of the better sign where reflections are allowed.

    References:
        "On Optimal Steering to Achieve Exact Fairness", Corollary 4.2, for any number of
        classes and groups.
    """
    template = Normal(cells.loc[:, reference], cells.scale[:, reference])
    fit = _closest_maps(cells, weights, template, allow_reflection)
    to_group = pin_identity(DiagonalMap(fit.gain, fit.shift), reference, IDENTITY)
    return closed_form_orbit(template, to_group, cells.loc.dtype)


def all_groups_univariate(
    cells: Normal,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    allow_reflection: bool = False,
    differentiate: Differentiate = "implicit",
) -> Orbit:
    """Every group moves; a search over what their maps leave free.

    Two groups: over their ratio of gains, on 48 points and by Newton's method in the two
    lowest basins. Given the ratio everything else is closed form: template variances
    ``S_i = (sum_a weights_ia) / sum_a w_ia g_a^2``, means and shifts by weighted least
    squares.

    More groups: over the template's shape, ``2 (K - 1)`` numbers however many groups
    there are, since every group's map is closed form given the template. Newton's method
    runs from eight of 512 mixtures of the groups' own shapes (each group's alone among
    them): the lowest ones that lie apart. The divergence may have several minima; this
    finds the lowest almost always, but no bound proves it.

    With reflections each group takes the better sign for the template, again closed
    form, and no pattern of signs is listed: for two groups both are searched, for more
    the starts are mixtures of reflected shapes as well (1,536 in all). The answer is
    never above the one without reflections, whose search is part of it.

    References:
        "On Optimal Steering to Achieve Exact Fairness", Proposition 4.3, for any number
        of classes and groups.
    """
    n_classes, n_groups = weights.shape
    if n_classes == 1:
        # One law: transport of every group from any of them costs nothing.
        return affirmative_univariate(cells, weights, reference)
    # Every group in its own units, those of one class: no square leaves float32's range
    # and shapes compare. The heaviest class, for the shape's numbers are relative to it.
    first = jnp.argmax(jnp.sum(jax.lax.stop_gradient(weights), 1))
    classes = jnp.arange(n_classes)
    order, back = (classes + first) % n_classes, (classes - first) % n_classes
    loc, scale, mass = cells.loc[order], cells.scale[order], weights[order]
    units = DiagonalMap(scale[0], loc[0])
    own = Normal((loc - units.shift) / units.scale, scale / units.scale)
    search = _two_groups if n_groups == 2 else _many_groups
    template, maps, found = search(
        own, mass / jnp.sum(weights), allow_reflection, differentiate
    )
    # From each group's units to the data's; then the reference group's are the template's.
    maps = units.compose(maps)
    home = jax.tree.map(lambda leaf: leaf[reference], maps)
    maps = maps.compose(home.inverse())
    template = template.pushforward(home)
    tolerance = 100 * float(jnp.finfo(loc.dtype).eps) ** 0.75
    return Orbit(
        template=Normal(template.loc[back], template.scale[back]),
        to_group=pin_identity(maps, reference, IDENTITY),
        residual=found.gradient_norm,
        status=final_status(found.gradient_norm, tolerance, found.steps, 0),
        steps=found.steps,
    )


def _best_of(search: Any, choices: Array) -> tuple[LocalMinimum, Array]:
    """The lowest minimum of a few searches side by side, and the choice it is of."""
    if choices.shape[0] == 1:
        return search(choices[0]), choices[0]
    found = jax.vmap(search)(choices)
    best = jnp.argmin(jnp.where(jnp.isnan(found.value), jnp.inf, found.value))
    return jax.tree.map(lambda leaf: leaf[best], found), choices[best]


def _two_groups(
    cells: Normal, weights: Array, turn: bool, differentiate: Differentiate
) -> tuple[Normal, DiagonalMap, LocalMinimum]:
    """Search over the ratio of two groups' gains, of either sign if they may `turn`."""
    low, high = _box(cells)

    def search(sign: Array):
        return search_lattice(
            _pair_cost,
            (cells, weights, sign),
            low,
            high,
            differentiate=differentiate,
            value_and_grad=_pair_slope,
        )

    signs = jnp.asarray([1.0, -1.0] if turn else [1.0], cells.loc.dtype)
    found, sign = _best_of(search, signs)
    gain = sign * jnp.exp(found.x[0])
    pair = _pair(cells, weights, gain)
    template = Normal(pair.loc, jnp.sqrt(pair.variance))
    one = jnp.ones_like(gain)
    maps = DiagonalMap(jnp.stack([one, gain]), jnp.stack([0 * one, pair.shift]))
    return template, maps, found


class _Pair(NamedTuple):
    """Everything that is best for two groups, given the second one's gain."""

    mass: Float[Array, " K"]  # precision of the template's means
    harmonic: Float[Array, " K"]  # precision of what the means differ by
    gap: Float[Array, " K"]  # what they differ by
    shift: Float[Array, ""]
    loc: Float[Array, " K"]
    variance: Float[Array, " K"]


def _pair(cells: Normal, weights: Array, gain: Array) -> _Pair:
    precision = weights / jnp.square(cells.scale)
    near, far = precision[:, 0], precision[:, 1]
    mass = near + far * gain * gain
    # Divided before they are multiplied: products of precisions may overflow.
    harmonic = near / mass * far
    gap = cells.loc[:, 1] - gain * cells.loc[:, 0]
    shift = _total(harmonic * gap) / _total(harmonic)
    gap = gap - shift
    loc = cells.loc[:, 0] + far / mass * gain * gap
    both = weights[:, 0] + weights[:, 1]
    return _Pair(mass, harmonic, gap, shift, loc, both / mass)


def _total(terms: Float[Array, " K"]) -> Float[Array, ""]:
    """The sum over the classes: of a few term by term.

    A sum along so short an axis keeps compilers from fusing what is before and behind
    it, at three times the seconds where problems are many.
    """
    if terms.shape[0] > FEW:
        return jnp.sum(terms)
    return sum((terms[i] for i in range(1, terms.shape[0])), terms[0])


def _pair_cost(log_gain: Float[Array, "1"], args: Any) -> Float[Array, ""]:
    """The divergence, up to a constant, by the log-ratio of gains; the rest is best."""
    return _pair_slope(log_gain, args)[0]


def _pair_slope(log_gain: Array, args: Any) -> tuple[Array, Array]:
    """:func:`_pair_cost` and its slope: that by the gain alone, for the rest is best."""
    cells, weights, sign = args
    gain = sign * jnp.exp(log_gain[0])
    pair = _pair(cells, weights, gain)
    moving, both = _total(weights[:, 1]), weights[:, 0] + weights[:, 1]
    cost = both * jnp.log(pair.mass) + pair.harmonic * pair.gap**2
    value = 0.5 * _total(cost) - moving * log_gain[0]
    far = weights[:, 1] / jnp.square(cells.scale[:, 1])
    misses = gain * pair.loc + pair.shift - cells.loc[:, 1]
    spread = gain * gain * pair.variance + misses * gain * pair.loc
    return value, _total(far * spread)[None] - moving


def _box(cells: Normal) -> tuple[Array, Array]:
    """Log-ratios of gains outside this box are no stationary points (see the tests).

    At the ratio of scales the variance terms balance; the pull of the means moves a
    stationary point away from it by no more than the classes' effect sizes.
    """
    ratio = jnp.log(cells.scale[:, 1:] / cells.scale[:, :1])
    effect = (jnp.max(cells.loc, 0) - jnp.min(cells.loc, 0)) / jnp.min(cells.scale, 0)
    near, far = effect[:1], effect[1:]
    low = jnp.min(ratio, 0) - jnp.log(2 + 2 * near * (1 + far))
    high = jnp.max(ratio, 0) + jnp.log(2 + 2 * far * (1 + near))
    return low, high


def _many_groups(
    cells: Normal, weights: Array, turn: bool, differentiate: Differentiate
) -> tuple[Normal, DiagonalMap, LocalMinimum]:
    """Search over the template's shape, with and without reflections if they may be."""
    fixed = jax.lax.stop_gradient((cells, weights))
    shapes = jnp.concatenate([fixed[0].loc[1:], jnp.log(fixed[0].scale[1:])]).T
    candidates = mixtures(shapes, jnp.sum(fixed[1], 0), reflect=turn)

    def search(turn: Any) -> Any:
        values = jax.vmap(lambda x: _shape_cost(x, (*fixed, turn)))(candidates)
        return minimize_newton(
            _shape_cost,
            spread_out(candidates, values, BASINS),
            (cells, weights, turn),
            differentiate=differentiate,
            value_and_grad=_shape_slope,
        )

    found, turned = _best_of(search, jnp.asarray([False, True] if turn else [False]))
    template = _template(found.x)
    fit = _closest_maps(cells, weights, template, turned)
    return template, DiagonalMap(fit.gain, fit.shift), found


def _template(shape: Float[Array, " 2(K-1)"]) -> Normal:
    """The laws of the classes, the first one standard normal."""
    means, log_scales = jnp.pad(shape.reshape(2, -1), ((0, 0), (1, 0)))
    return Normal(means, jnp.exp(log_scales))


def _shape_cost(shape: Float[Array, " 2(K-1)"], args: Any) -> Float[Array, ""]:
    """The divergence, up to a constant, by the template's shape; the maps are best."""
    return _shape_slope(shape, args)[0]


def _shape_slope(shape: Array, args: Any) -> tuple[Array, Array]:
    """:func:`_shape_cost` and its slope: that by the template alone, at the best maps.

    At the best gain ``a g^2 = b g + W``, which leaves ``-b g / 2 - W log g`` of a group.
    With reflections this is the lower of two smooth functions: it has minima where
    either has, and its kinks are none.
    """
    cells, weights, turn = args
    template = _template(shape)
    fit = _closest_maps(cells, weights, template, turn)
    size = jnp.abs(fit.gain)
    mass = jnp.sum(weights, 1)
    costs = -0.5 * fit.pull * size - jnp.sum(weights, 0) * jnp.log(size)
    value = jnp.sum(costs) - jnp.sum((mass * jnp.log(template.scale))[1:])
    precision = weights / jnp.square(cells.scale)
    misses = fit.gain * template.loc[:, None] + fit.shift - cells.loc
    by_loc = jnp.sum(precision * misses * fit.gain, 1)
    gained = jnp.sum(precision * fit.gain * fit.gain, 1)
    by_scale = gained * jnp.square(template.scale) - mass
    return value, jnp.concatenate([by_loc[1:], by_scale[1:]])


def per_feature(
    program: Callable[[Normal], Orbit], cells: DiagonalNormal | Cells
) -> Orbit:
    """Run a univariate program on every feature at once and join the maps.

    For diagonal covariances this is the nearest ideal population under diagonal maps.
    For full covariances the maps are those of the marginals and the template keeps the
    reference group's covariances: ideal all the same, though not the nearest.

    Args:
        program: From a :class:`Normal` with batch ``[K, G]`` to an orbit.
        cells: Cells with batch ``[K, G]`` in ``d`` features.

    Returns:
        The orbit, with diagonal maps.
    """
    mean: Any = cells.mean
    features = jax.vmap(program, in_axes=-1)(Normal(mean, _scale(cells)))
    to_group = jax.tree.map(lambda leaf: leaf.T, features.to_group)
    loc, spread = features.template.loc.T, features.template.scale.T
    return Orbit(
        template=DiagonalNormal(loc, spread),
        to_group=to_group,
        residual=jnp.max(features.residual),
        status=jnp.max(features.status),
        steps=jnp.max(features.steps),
    )


def _scale(cells: DiagonalNormal | Cells) -> Float[Array, "... d"]:
    """Standard deviations of the features."""
    if isinstance(cells, DiagonalNormal):
        return cells.scale
    if isinstance(cells, LowRankNormal):
        return jnp.sqrt(cells.diagonal + jnp.sum(cells.factor**2, -1))
    return jnp.sqrt(jnp.diagonal(cells.cov, axis1=-2, axis2=-1))


def with_reference_correlations(orbit: Orbit, cells: Cells, reference: int) -> Orbit:
    """Give a per-feature orbit the reference group's correlations within classes.

    Diagonal maps keep low-rank covariances what they are.
    """
    home = at(cells, slice(None), reference)
    ratio: Float[Array, "K d"] = orbit.template.scale / _scale(home)
    mean = orbit.template.loc
    if isinstance(home, LowRankNormal):
        factor = ratio[:, :, None] * home.factor
        template = LowRankNormal(mean, factor, ratio**2 * home.diagonal)
        return dataclasses.replace(orbit, template=template)
    cov = ratio[:, :, None] * home.cov * ratio[:, None, :]
    return dataclasses.replace(
        orbit,
        template=MultivariateNormal(mean, cov),
        to_group=orbit.to_group.to_affine(),
    )
