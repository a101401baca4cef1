"""``nearest_ideal``: the front door of the programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_choice
from jaxsteer._types import Array
from jaxsteer.families import (
    DiagonalNormal,
    MultivariateNormal,
    Normal,
    SharedBijection,
)
from jaxsteer.ideal._diagonal import per_feature, with_reference_correlations
from jaxsteer.ideal._orbit import Orbit
from jaxsteer.ideal._priors import PRIORS, fixed_priors, joint_priors
from jaxsteer.ideal._steering import Steering
from jaxsteer.ideal._tied import affirmative_tied
from jaxsteer.ideal._univariate import affirmative_univariate, all_groups_univariate
from jaxsteer.maps import ConjugatedMap
from jaxsteer.population import Population, kl_parts
from jaxsteer.solvers import DIFFERENTIATE, Differentiate, Status

INTERVENTIONS = ("affirmative", "all_groups")
GAUGES = ("full", "symmetric", "monge", "tied", "diagonal")

# From cells with batch [K, G] and weights [K, G] to an orbit.
Program = Callable[[Any, Array], Orbit]


def nearest_ideal(
    pop: Population,
    intervention: str = "affirmative",
    reference: int = 1,
    gauge: str = "full",
    priors: str = "reweigh",
    allow_reflection: bool = False,
    solver: Any = None,
    differentiate: Differentiate = "implicit",
) -> Steering:
    """Find the ideal population nearest in KL divergence, and the maps that lead there.

    Minimizes ``KL(D~ || D)`` over populations ``D~`` on which the Bayes rule of every
    cost-sensitive risk has equal outcomes across groups (demographic parity, equal
    opportunity, equalized odds). Jit, vmap and differentiate it freely; batch many
    populations with ``vmap``.

    Args:
        pop: The population ``D``, ``K`` classes by ``G >= 2`` groups.
        intervention: "affirmative": the reference group stays and every other group
            moves; "all_groups": all move.
        reference: The group that stays, or whose coordinates the template uses.
        gauge: Which maps are allowed, for multivariate normal populations: "tied"
            (closed form; nearest when a moving group's classes share one covariance) or
            "diagonal" (feature by feature; nearest when the features are independent).
            Either way the result is ideal. Families of one feature or of independent
            features have one kind of map, and every gauge means that one.
        priors: "reweigh", "reference", "joint" (minimized over as well) or "keep" (then
            the result is not ideal: equalized odds of prior-free rules only).
        allow_reflection: Allow maps that turn the orientation.
        solver: Reserved for gauges that iterate; the closed forms take None.
        differentiate: "implicit", "unroll" or "none"; where the answer is a closed form
            the first two are the same.

    Returns:
        The steering. Under ``jit`` nothing raises on values: see its `status`.

    Raises:
        ValueError: On unknown options, a reference that is no group, fewer than two
            groups, or priors and conditionals whose shapes disagree.
        NotImplementedError: For gauges of multivariate populations that are not built.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> cells = js.Normal(jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.ones((2, 2)))
        >>> found = js.nearest_ideal(js.Population(jnp.full((2, 2), 0.25), cells))
        >>> bool(found.converged), round(float(found.kl), 4)
        (True, 0.0425)

    References:
        "On Optimal Steering to Achieve Exact Fairness" (NeurIPS 2025, arXiv 2509.15759),
        sections 3 and 4.
    """
    _check(pop, intervention, reference, gauge, priors, solver, differentiate)
    steering = _solve(
        jax.lax.stop_gradient(pop) if differentiate == "none" else pop,
        intervention=intervention,
        reference=reference,
        gauge=gauge,
        priors=priors,
        allow_reflection=allow_reflection,
        differentiate=differentiate,
    )
    return dataclasses.replace(steering, source=pop)


@partial(
    jax.jit,
    static_argnames=(
        "intervention",
        "reference",
        "gauge",
        "priors",
        "allow_reflection",
        "differentiate",
    ),
)
def _solve(
    pop: Population,
    *,
    intervention: str,
    reference: int,
    gauge: str,
    priors: str,
    allow_reflection: bool,
    differentiate: Differentiate,
) -> Steering:
    """Solve one problem: compiled once for each shape and choice of options."""
    family = pop.conditionals
    cells = family.base if isinstance(family, SharedBijection) else family
    program = _program(
        cells,
        intervention=intervention,
        reference=reference,
        gauge=gauge,
        allow_reflection=allow_reflection,
        differentiate=differentiate,
    )
    # One trace serves every place that needs the program.
    program = jax.jit(program)
    weights, prior_residual, prior_steps = _weights(
        pop.priors, cells, program, priors, reference, differentiate
    )
    orbit = program(cells, weights)
    conditionals, group_maps = orbit.conditionals(), orbit.to_group.inverse()
    if isinstance(family, SharedBijection):
        conditionals = family.with_base(conditionals)
        group_maps = ConjugatedMap(group_maps, family.bijection)
    target = Population(weights, conditionals)
    prior_kl, feature_kl = kl_parts(target, pop)
    residual = jnp.maximum(orbit.residual, prior_residual)
    tolerance = jnp.maximum(orbit.tolerance, 200 * jnp.finfo(weights.dtype).eps)
    return Steering(
        source=pop,
        target=target,
        group_maps=group_maps,
        kl=prior_kl + feature_kl,
        prior_kl=prior_kl,
        feature_kl=feature_kl,
        status=_status(pop, prior_kl + feature_kl, residual, tolerance),
        residual=residual,
        steps=jnp.maximum(orbit.steps, prior_steps),
        ideal=priors != "keep",
    )


def _check(pop, intervention, reference, gauge, priors, solver, differentiate):
    check_choice("intervention", intervention, INTERVENTIONS)
    check_choice("gauge", gauge, GAUGES)
    check_choice("priors", priors, PRIORS)
    check_choice("differentiate", differentiate, DIFFERENTIATE)
    if not isinstance(pop, Population):
        raise ValueError(
            f"pop must be a jaxsteer.Population, got {type(pop).__name__}; build one "
            f"with jaxsteer.fit_population or jaxsteer.Population(priors, conditionals)."
        )
    if jnp.ndim(pop.priors) != 2:
        raise ValueError(
            f"pop.priors must have shape [K, G], got {jnp.shape(pop.priors)}; batch "
            f"populations with jax.vmap."
        )
    shape = jnp.shape(pop.priors)
    batch = jnp.shape(jax.tree.leaves(pop.conditionals)[0])[:2]
    if batch != shape:
        raise ValueError(
            f"pop.conditionals must have batch shape {shape}, as pop.priors has, got "
            f"{batch}."
        )
    if shape[1] < 2:
        raise ValueError(
            "pop has one group; there is nothing to make equal with fewer than two."
        )
    if not (isinstance(reference, int) and 0 <= reference < shape[1]):
        raise ValueError(
            f"reference={reference!r} is not one of the groups 0..{shape[1] - 1}."
        )
    if solver is not None:
        raise ValueError(
            f"solver={solver!r} has no use here: this gauge has a closed form; leave it "
            f"None."
        )


def _program(
    cells: Any,
    *,
    intervention: str,
    reference: int,
    gauge: str,
    allow_reflection: bool,
    differentiate: Differentiate,
) -> Program:
    options = {"reference": reference, "allow_reflection": allow_reflection}
    if intervention == "all_groups":
        options["differentiate"] = differentiate
        univariate = partial(all_groups_univariate, **options)
    else:
        univariate = partial(affirmative_univariate, **options)

    def features(cells, weights):
        return per_feature(lambda one: univariate(one, weights), cells)

    if isinstance(cells, Normal):
        return univariate
    if isinstance(cells, DiagonalNormal):
        return features
    if not isinstance(cells, MultivariateNormal):
        raise NotImplementedError(
            f"no program for the family {type(cells).__name__}; see jaxsteer.families."
        )
    if gauge == "diagonal" or cells.mean.shape[-1] == 1:
        return lambda cells, weights: with_reference_correlations(
            features(cells, weights), cells, reference
        )
    if gauge == "tied" and intervention == "affirmative":
        return partial(
            affirmative_tied, reference=reference, allow_reflection=allow_reflection
        )
    raise NotImplementedError(
        f"gauge={gauge!r} with intervention={intervention!r} is not built for "
        f"multivariate populations; use gauge='tied' (affirmative) or gauge='diagonal'."
    )


def _weights(priors, cells, program, mode, reference, differentiate):
    zero = jnp.zeros((), priors.dtype)
    if mode != "joint":
        return fixed_priors(priors, mode, reference), zero, jnp.zeros((), jnp.int32)

    def cell_costs(weights, cells):
        return program(cells, weights).conditionals().kl(cells)

    found = joint_priors(priors, cell_costs, cells, differentiate=differentiate)
    return found.weights, found.search.change, found.search.steps


def _status(pop, kl, residual, tolerance):
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(pop)]
    usable = jnp.all(jnp.stack(leaves)) & jnp.all(pop.priors > 0)
    scale = getattr(pop.conditionals, "scale", None)
    if scale is not None:
        usable = usable & jnp.all(scale > 0)
    finite = jnp.isfinite(kl) & jnp.isfinite(residual)
    solved = jnp.where(residual <= tolerance, Status.CONVERGED, Status.MAX_STEPS)
    status = jnp.where(finite, solved, Status.NONFINITE)
    return jnp.where(usable, status, Status.BAD_INPUT).astype(jnp.int32)
