"""Programs of the one-feature families that gains and shifts act on, or gains alone.

A family gives its divergence and its pushforward; the rest is one objective: move the
template to every group and add up the divergences. For log-concave densities of a
location-scale family, and for scale families, the affirmative objective has one minimum;
with a free template it is searched from each group's own shape and from their mean.
"""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.families import (
    Exponential,
    Gamma,
    Gumbel,
    InverseGamma,
    Laplace,
    Rayleigh,
    Weibull,
)
from jaxsteer.ideal._orbit import Orbit, pin_identity
from jaxsteer.ideal._stacks import at
from jaxsteer.ideal._univariate import IDENTITY
from jaxsteer.maps import ConjugatedMap, DiagonalMap, Exp
from jaxsteer.solvers import Differentiate, final_status, minimize_newton

LOCATION_SCALE = (Laplace, Gumbel)
SCALE = (Exponential, Gamma, InverseGamma, Rayleigh)
SYMMETRIC = (Laplace,)  # a reflection stays within the family
NEWTON_STEPS = 40


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

    ``T_a x = g_a x + c_a`` for :data:`LOCATION_SCALE`, ``T_a x = g_a x`` for
    :data:`SCALE`, with ``g_a > 0`` unless reflections are allowed and the family is
    symmetric.

    Args:
        cells: The source's cells, batch ``[K, G]``.
        weights: ``[K, G]`` new priors.
        reference: The group whose coordinates the template uses.
        all_groups: Whether the template is chosen too, or is the reference group's.
        allow_reflection: Allow negative gains.
        differentiate: How derivatives pass through.

    Returns:
        The orbit, with :class:`DiagonalMap`.
    """
    home = at(cells, slice(None), reference)
    unit = _unit(cells, reference)
    back = unit.inverse()
    cells = cells.pushforward(unit)
    n_groups = weights.shape[1]
    others = np.array([a for a in range(n_groups) if a != reference])
    signs = np.ones((1, n_groups))
    if allow_reflection and isinstance(cells, SYMMETRIC):
        patterns = list(product((1.0, -1.0), repeat=n_groups - 1))
        signs = np.ones((len(patterns), n_groups))
        signs[:, others] = patterns

    program = _Program(type(cells), reference, all_groups)

    def search(sign):
        starts = _starts(cells, weights, sign, program)
        return minimize_newton(
            program.objective,
            starts,
            (cells, weights, sign),
            steps=NEWTON_STEPS,
            differentiate=differentiate,
        )

    found = [search(jnp.asarray(sign, weights.dtype)) for sign in signs]
    best = jnp.argmin(jnp.stack([one.value for one in found]))
    chosen = jax.tree.map(lambda *leaves: jnp.stack(leaves)[best], *found)
    sign = jnp.asarray(signs, weights.dtype)[best]
    template, maps = program.unpack(chosen.x, cells, sign)
    residual = chosen.gradient_norm / jnp.sum(weights)
    tolerance = 100 * float(jnp.finfo(weights.dtype).eps) ** 0.75
    return Orbit(
        template=template.pushforward(back) if all_groups else home,
        to_group=pin_identity(back.compose(maps).compose(unit), reference, IDENTITY),
        residual=residual,
        status=final_status(residual, tolerance, chosen.steps, 0),
        steps=chosen.steps,
    )


def weibull_orbit(
    cells: Weibull,
    weights: Float[Array, "K G"],
    reference: int,
    *,
    all_groups: bool,
    **options: Any,
) -> Orbit:
    """:func:`moved_orbit` for Weibull cells: ``T_a x = g_a x^k_a``, log-location-scale.

    ``-log x`` has a Gumbel law, on which the same maps are gains and shifts.
    """
    gumbel = Gumbel(-jnp.log(cells.scale), 1 / cells.concentration)
    orbit = moved_orbit(gumbel, weights, reference, all_groups=all_groups, **options)
    loc, scale = orbit.template.loc, orbit.template.scale
    home = at(cells, slice(None), reference)
    maps = DiagonalMap(orbit.to_group.scale, -orbit.to_group.shift)
    return dataclasses.replace(
        orbit,
        template=Weibull(1 / scale, jnp.exp(-loc)) if all_groups else home,
        to_group=ConjugatedMap(maps, Exp()),
    )


def _unit(cells: Any, reference: int) -> DiagonalMap:
    """Coordinates in which one cell is near 0 and 1: the solution does not see them."""
    cell = jax.lax.stop_gradient(at(cells, 0, reference))
    size = _size(cell)
    shift = -cell.loc / size if isinstance(cells, LOCATION_SCALE) else 0 * size
    return DiagonalMap(1 / size, shift)


def _size(law: Any) -> Array:
    """What a gain multiplies."""
    return law.scale if hasattr(law, "scale") else 1 / law.rate


@dataclasses.dataclass(frozen=True)
class _Program:
    """The objective as a function of one vector: log-gains, shifts, template.

    Attributes:
        family: The class of the cells.
        reference: The group whose map is the identity.
        all_groups: Whether the vector holds a template.
    """

    family: type
    reference: int
    all_groups: bool

    def unpack(self, x: Array, cells: Any, sign: Array) -> tuple[Any, DiagonalMap]:
        """The template, batch ``[K]``, and the maps, ``[G]``."""
        k, n_groups = jax.tree.leaves(cells)[0].shape
        others = np.array([a for a in range(n_groups) if a != self.reference])
        zero = jnp.zeros(n_groups, x.dtype)
        log_gain = zero.at[others].set(x[: n_groups - 1])
        x = x[n_groups - 1 :]
        shift = zero
        if issubclass(self.family, LOCATION_SCALE):
            shift = zero.at[others].set(x[: n_groups - 1])
            x = x[n_groups - 1 :]
        maps = DiagonalMap(sign * jnp.exp(log_gain), shift)
        if not self.all_groups:
            return at(cells, slice(None), self.reference), maps
        names = [field.name for field in dataclasses.fields(self.family)]
        parts = x.reshape(len(names), k)
        leaves = [
            part if name == "loc" else jnp.exp(part)
            for name, part in zip(names, parts, strict=True)
        ]
        return self.family(*leaves), maps

    def pack(self, template: Any, maps: DiagonalMap) -> Array:
        """The vector of a template and its maps."""
        n_groups = maps.scale.shape[0]
        others = np.array([a for a in range(n_groups) if a != self.reference])
        parts = [jnp.log(jnp.abs(maps.scale))[others]]
        if issubclass(self.family, LOCATION_SCALE):
            parts.append(maps.shift[others])
        if self.all_groups:
            for field in dataclasses.fields(self.family):
                leaf = getattr(template, field.name)
                parts.append(leaf if field.name == "loc" else jnp.log(leaf))
        return jnp.concatenate(parts)

    def objective(self, x: Array, args: Any) -> Float[Array, ""]:
        """The weighted divergence of the moved template from the cells."""
        cells, weights, sign = args
        template, maps = self.unpack(x, cells, sign)
        moved = jax.tree.map(lambda leaf: leaf[:, None], template).pushforward(maps)
        return jnp.sum(weights * moved.kl(cells))


def _starts(cells: Any, weights: Array, sign: Array, program: _Program) -> Array:
    """The reference group's shape; with a free template, every group's and the mean."""
    usual, narrow = _start_maps(cells, weights, sign, program.reference)
    home = at(cells, slice(None), program.reference)
    rows = [program.pack(home, maps) for maps in (usual, narrow)]
    if not program.all_groups:
        return jnp.stack(rows)
    # Every group's shape, brought to the reference group's coordinates.
    brought = cells.pushforward(usual.inverse())
    every = jnp.stack(
        [
            program.pack(at(brought, slice(None), a), usual)
            for a in range(weights.shape[1])
        ]
    )
    size = jnp.sum(weights, 0) / jnp.sum(weights)
    return jnp.concatenate([every, (size @ every)[None], rows[1][None]])


def _start_maps(
    cells: Any, weights: Array, sign: Array, reference: int
) -> tuple[DiagonalMap, DiagonalMap]:
    """Maps by the classes' mean log-ratio of sizes, and by their least one.

    Laws with light tails diverge without bound where a moved cell is too wide: from
    there Newton's method takes a step for every factor e. The least ratio is never so.
    """
    size = _size(cells)
    log_ratio = jnp.log(size) - jnp.log(size[:, reference, None])

    def mean(values, mass):
        return jnp.sum(mass * values, 0) / jnp.sum(mass, 0)

    def maps(log_gain, mass):
        gain = sign * jnp.exp(log_gain)
        shift = jnp.zeros_like(gain)
        if isinstance(cells, LOCATION_SCALE):
            shift = mean(cells.loc - gain * cells.loc[:, reference, None], mass)
        return DiagonalMap(gain, shift)

    usual = maps(mean(log_ratio, weights), weights)
    return usual, maps(jnp.min(log_ratio, 0), weights / size)
