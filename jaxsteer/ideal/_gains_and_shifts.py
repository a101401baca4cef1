"""Programs of the one-feature families that gains and shifts act on, or gains alone.

A family gives its divergence and its pushforward; the rest is one objective: move the
template to every group and add up the divergences. For log-concave densities of a
location-scale family, and for scale families, the affirmative objective has one minimum;
with a free template it is searched from each group's own shape and from their mean.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.families import Carried, require_traits
from jaxsteer.ideal._orbit import Orbit, at, pin_identity
from jaxsteer.ideal._univariate import IDENTITY
from jaxsteer.maps import DiagonalMap
from jaxsteer.solvers import (
    Differentiate,
    LocalMinimum,
    final_status,
    minimize_newton,
)

NEWTON_STEPS = 40
FLIPS = 2  # rounds in which each group's sign is turned


def moved_orbit(
    cells: Any,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    all_groups: bool,
    allow_reflection: bool,
    differentiate: Differentiate,
) -> Orbit:
    """Minimize ``sum_ia weights_ia KL((T_a)_# f_i || f_ia)`` over maps and template.

    ``T_a x = g_a x + c_a`` for "location_scale" families, ``T_a x = g_a x`` for
    "scale" ones, with ``g_a > 0`` unless reflections are allowed and the family is
    symmetric. The signs are then exact for a fixed template, where each group's is
    chosen alone. With a free one they are those of each group's shape as the template,
    improved by turning one group at a time: no list of all patterns, never above the
    answer without reflections, but not proven lowest.

    Args:
        cells: The source's cells, batch ``[K, G]``.
        weights: ``[K, G]`` new priors.
        reference: 0; the group whose coordinates the template uses is in front.
        all_groups: Whether the template is chosen too, or is the reference group's.
        allow_reflection: Allow negative gains.
        differentiate: How derivatives pass through.

    Returns:
        The orbit, with :class:`DiagonalMap`.
    """
    home = at(cells, slice(None), reference)
    traits = require_traits(cells)
    unit = _unit(cells, reference)
    back = unit.inverse()
    cells = cells.pushforward(unit)
    program = _Program(type(cells), all_groups)
    turn = allow_reflection and traits.symmetric and weights.shape[1] > 1
    found, sign = program.search(cells, weights, turn, differentiate)
    template, maps = program.unpack(found.x, cells, sign)
    residual = found.gradient_norm / jnp.sum(weights)
    tolerance = 100 * float(jnp.finfo(weights.dtype).eps) ** 0.75
    return Orbit(
        template=template.pushforward(back) if all_groups else home,
        to_group=pin_identity(back.compose(maps).compose(unit), reference, IDENTITY),
        residual=residual,
        status=final_status(residual, tolerance, found.steps, 0),
        steps=found.steps,
    )


def carried_orbit(
    cells: Any,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    carried: Carried,
    all_groups: bool,
    **options: Any,
) -> Orbit:
    """:func:`moved_orbit` of the family that carries this one.

    A Weibull law's ``-log x`` has a Gumbel law, so that ``T_a x = g_a x^k_a``.
    """
    orbit = moved_orbit(
        carried.to(cells), weights, reference, all_groups=all_groups, **options
    )
    home = at(cells, slice(None), reference)
    return dataclasses.replace(
        orbit,
        template=carried.back(orbit.template) if all_groups else home,
        to_group=carried.maps(orbit.to_group),
    )


def _unit(cells: Any, reference: int) -> DiagonalMap:
    """Coordinates in which one cell is near 0 and 1: the solution does not see them."""
    cell = jax.lax.stop_gradient(at(cells, 0, reference))
    traits = require_traits(cells)
    size = traits.size(cell)
    shifts = traits.maps == "location_scale"
    shift = -cell.loc / size if shifts else 0 * size
    return DiagonalMap(1 / size, shift)


@dataclasses.dataclass(frozen=True)
class _Program:
    """The objective as a function of one vector: log-gains, shifts, template.

    Attributes:
        family: The class of the cells.
        all_groups: Whether the vector holds a template.
    """

    family: type
    all_groups: bool

    @property
    def shifts(self) -> bool:
        """Whether the maps have shifts."""
        return require_traits(self.family).maps == "location_scale"

    def is_log(self, name: str) -> bool:
        """Whether the vector holds the logarithm of a template's parameter."""
        return require_traits(self.family).domain[name] != "real"

    def search(
        self, cells: Any, weights: Array, turn: bool, differentiate: Differentiate
    ) -> tuple[LocalMinimum, Array]:
        """The lowest minimum and the signs ``[G]`` of the gains, all 1 unless `turn`."""

        def minimum(start: Array, sign: Array):
            return minimize_newton(
                self.objective,
                start,
                (cells, weights, sign),
                steps=NEWTON_STEPS,
                differentiate=differentiate,
                value_and_grad=self.value_and_grad,
            )

        upright = jnp.ones(weights.shape[1], weights.dtype)
        if turn and not self.all_groups:
            upright = self._better_signs(cells, weights)
        found = minimum(self._starts(cells, weights, upright), upright)
        if not turn or not self.all_groups:
            return found, upright
        groups = jnp.arange(weights.shape[1])

        def from_group(group: Array):
            order = (groups + group) % len(groups)
            rolled = at(cells, slice(None), order)
            signs = self._better_signs(rolled, weights[:, order])
            return signs[(groups - group) % len(groups)]

        def visit(best: tuple[LocalMinimum, Array], patterns: Array):
            found, sign = best
            template, maps = self.unpack(found.x, cells, sign)
            # First the groups' comparisons, then one sign at a time.
            flipped = sign * jnp.where(groups == groups[:, None], -1.0, 1.0)
            patterns = jnp.where(jnp.isnan(patterns), flipped, patterns)
            patterns = patterns * patterns[:, :1]
            size = jnp.abs(maps.scale)

            def starts(group: Array, signs: Array):
                # The template found, the group's shape, the mean of all, the narrow one.
                gain = signs * size
                shift = _mean(cells.loc - gain * template.loc[:, None], weights)
                start = self.pack(template, DiagonalMap(gain, shift))
                others = self._starts(cells, weights, signs)
                return jnp.stack([start, others[group], others[-2], others[-1]])

            tried = jax.vmap(minimum)(jax.vmap(starts)(groups, patterns), patterns)
            lowest = jnp.argmin(jnp.where(jnp.isnan(tried.value), jnp.inf, tried.value))
            new = jax.tree.map(lambda leaf: leaf[lowest], tried), patterns[lowest]
            lower = new[0].value < found.value
            return jax.tree.map(partial(jnp.where, lower), new, best), None

        own = jax.vmap(from_group)(groups)
        rounds = jnp.concatenate([own[None], jnp.full((FLIPS, *own.shape), jnp.nan)])
        return jax.lax.scan(visit, (found, upright), rounds.astype(own.dtype))[0]

    def _better_signs(self, cells: Any, weights: Array) -> Float[Array, " G"]:
        """Each group's better sign where the first group's law is the template."""
        program = dataclasses.replace(self, all_groups=False)

        def costs(sign: Array):
            args = (cells, weights, sign)
            x = minimize_newton(
                program.objective,
                program._starts(*args),
                args,
                steps=NEWTON_STEPS,
                differentiate="none",
                value_and_grad=program.value_and_grad,
            ).x
            return jnp.sum(weights * program.moved(x, cells, sign).kl(cells), 0)

        up = jnp.ones(weights.shape[1], weights.dtype)
        down = (-up).at[0].set(1.0)
        both = jax.vmap(costs)(jnp.stack([up, down]))
        return jnp.where(both[1] < both[0], down, up)

    def unpack(self, x: Array, cells: Any, sign: Array) -> tuple[Any, DiagonalMap]:
        """The template, batch ``[K]``, and the maps, ``[G]``."""
        k, n_groups = jax.tree.leaves(cells)[0].shape
        moving = n_groups - 1
        zero = jnp.zeros(1, x.dtype)
        gain = sign * jnp.exp(jnp.concatenate([zero, x[:moving]]))
        shift, x = jnp.zeros_like(gain), x[moving:]
        if self.shifts:
            shift, x = jnp.concatenate([zero, x[:moving]]), x[moving:]
        maps = DiagonalMap(gain, shift)
        if not self.all_groups:
            return at(cells, slice(None), 0), maps
        names = [field.name for field in dataclasses.fields(self.family)]
        parts = x.reshape(len(names), k)
        leaves = [
            jnp.exp(part) if self.is_log(name) else part
            for name, part in zip(names, parts, strict=True)
        ]
        return self.family(*leaves), maps

    def pack(self, template: Any, maps: DiagonalMap) -> Array:
        """The vector of a template and its maps."""
        parts = [jnp.log(jnp.abs(maps.scale))[1:]]
        if self.shifts:
            parts.append(maps.shift[1:])
        if self.all_groups:
            for field in dataclasses.fields(self.family):
                leaf = getattr(template, field.name)
                parts.append(jnp.log(leaf) if self.is_log(field.name) else leaf)
        return jnp.concatenate(parts)

    def moved(self, x: Array, cells: Any, sign: Array) -> Any:
        """The laws ``[K, G]`` that the template is moved to."""
        template, maps = self.unpack(x, cells, sign)
        return jax.tree.map(lambda leaf: leaf[:, None], template).pushforward(maps)

    def objective(self, x: Array, args: Any) -> Float[Array, ""]:
        """The weighted divergence of the moved template from the cells."""
        cells, weights, sign = args
        return jnp.sum(weights * self.moved(x, cells, sign).kl(cells))

    def value_and_grad(self, x: Array, args: Any) -> tuple[Array, Array]:
        """:meth:`objective` and its gradient, by the slopes of the divergences."""
        cells, weights, sign = args
        moved, pull = jax.vjp(lambda y: self.moved(y, cells, sign), x)
        value, slope = require_traits(cells).kl_and_slope(moved, cells)
        (gradient,) = pull(jax.tree.map(lambda leaf: weights * leaf, slope))
        return jnp.sum(weights * value), gradient

    def _starts(self, cells: Any, weights: Array, sign: Array) -> Float[Array, "s m"]:
        """The reference group's shape; with a free template every group's, the mean."""
        usual, narrow = _start_maps(cells, weights, sign)
        home = at(cells, slice(None), 0)
        last = self.pack(home, narrow)[None]
        if not self.all_groups:
            return jnp.concatenate([self.pack(home, usual)[None], last])
        # Every group's shape, brought to the reference group's coordinates.
        brought = cells.pushforward(usual.inverse())
        every = jax.vmap(self.pack, in_axes=(1, None))(brought, usual)
        size = jnp.sum(weights, 0) / jnp.sum(weights)
        return jnp.concatenate([every, (size @ every)[None], last])


def _mean(values: Array, mass: Array) -> Array:
    """Weighted means over the classes, the first axis."""
    return jnp.sum(mass * values, 0) / jnp.sum(mass, 0)


def _start_maps(
    cells: Any, weights: Array, sign: Array
) -> tuple[DiagonalMap, DiagonalMap]:
    """Maps by the classes' mean log-ratio of sizes, and by their least one.

    Laws with light tails diverge without bound where a moved cell is too wide: from
    there Newton's method takes a step for every factor e. The least ratio is never so.
    """
    traits = require_traits(cells)
    size = traits.size(cells)
    log_ratio = jnp.log(size / size[:, :1])

    def maps(log_gain: Array, mass: Array):
        gain = sign * jnp.exp(log_gain)
        shift = jnp.zeros_like(gain)
        if traits.maps == "location_scale":
            shift = _mean(cells.loc - gain * cells.loc[:, :1], mass)
        return DiagonalMap(gain, shift)

    usual = maps(_mean(log_ratio, weights), weights)
    return usual, maps(jnp.min(log_ratio, 0), weights / size)
