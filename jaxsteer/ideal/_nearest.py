"""``nearest_ideal``: the front door of the programs."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._compilation import broadcasting, jit_for_few_calls
from jaxsteer._types import Array, Float, Int
from jaxsteer.families import LowRankNormal, MultivariateNormal, parameters_valid
from jaxsteer.families._units import law_in_own_units, maps_in_own_units, standard_units
from jaxsteer.ideal._orbit import Cells, Orbit, groups_in_front, pooled_cov
from jaxsteer.ideal._priors import NewPriors, joint_priors
from jaxsteer.ideal._programs import Options, check_problem, choose, nearest_orbit
from jaxsteer.linalg import cholesky_inverse, identity_like, inverse_and_logdet, matmul
from jaxsteer.linalg import solve as solve_linear
from jaxsteer.population import (
    Population,
    check_kind,
    choose_reference,
    fixed_priors,
    kl_parts,
    take_groups,
)
from jaxsteer.solvers import Differentiate, Solver, Status, final_status
from jaxsteer.steering import Steering

SINGULAR = 0.75  # power of the rounding unit from which a start counts as singular
WHOLE = 1e-2  # by which priors may miss a sum of 1: they may be rounded to 2 digits


@broadcasting
def nearest_ideal(
    pop: Population,
    *,
    intervention: str = "affirmative",
    reference: int | Int[Array, ""] | None = None,
    maps: str = "general",
    priors: str = "reweigh",
    allow_reflection: bool = False,
    solver: Solver | None = None,
    differentiate: Differentiate = "implicit",
    pivot: int | Int[Array, ""] = 0,
    start: Steering | None = None,
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
        reference: The group that stays, or whose coordinates the template uses; None
            takes the largest, the first among equals. The steering says which. May be
            traced: another group is no other program. So may `pivot`.
        maps: Which maps are allowed, for multivariate normal populations. "general": any
            invertible matrix; nearest, not convex, tried from several starts.
            "positive_definite": positive definite matrices; "pivot": the paper's,
            positive definite times the inverse root of the pivot class; both are convex
            when affirmative, and what both allow depends on the features' units
            relative to each other. "shared_covariance": a closed form, nearest when a
            moving group's classes share one covariance (all groups: a search under that
            model). "diagonal": feature by feature, nearest when the features are
            independent. Always the result is ideal. Families of one feature or of
            independent features have one kind of map, and every kind of maps means that
            one. Low-rank cells
            (:class:`jaxsteer.LowRankNormal`) are solved by products with their factors
            when affirmative, and end, but for "diagonal", as a full
            :class:`jaxsteer.MultivariateNormal`; with "all_groups" the best template is
            dense, and every kind of maps but "diagonal" solves them through ``to_dense``.
        priors: "reweigh", "balanced" (classes weigh alike in the divergence that is
            minimized, group sizes stay), "reference", "joint" (minimized over as well)
            or "keep" (then the result is not ideal: equalized odds of prior-free rules
            only).
        allow_reflection: Allow maps that turn the orientation.
        solver: For maps that are searched for: a :class:`jaxsteer.solvers.MatrixNewton`
            (None takes one with its defaults: fewest steps, each with products by the
            Hessian), a :class:`jaxsteer.solvers.ProjectedGradient` (definite maps only,
            and not "pivot" with "all_groups": cheap steps on the cone, many of them) or
            a :class:`jaxsteer.solvers.Optax` (any optax optimizer, to compare with).
        differentiate: "implicit" (implicit function theorem, right at convergence),
            "unroll" (through the last steps) or "none"; where the answer is a closed
            form the first two are the same. Along directions that the divergence does
            not see (rotations, with one class) the derivative is damped to 0; so it is
            for "shared_covariance" with "all_groups" along those that the model of one
            covariance does not see, though unequal covariances do.
        pivot: The class whose covariance "pivot" is relative to.
        start: A steering of a population of the same shape, found with the same kind of
            maps: that of the last training step, or of the data until yesterday. The
            search for maps of multivariate normals starts at its maps and nowhere else,
            so that it takes a fraction of the steps, and ends at the stationary point
            that belongs to this start (an exact saddle, as diagonal maps can be for
            general ones, is not left). Closed forms need none, "pivot" and
            "shared_covariance" with "all_groups" take none; the identity serves where
            its maps are not finite, are singular to rounding, or reflect and must not.

    Returns:
        The steering. Under ``jit`` nothing raises on values: see its `status`.

    Raises:
        ValueError: On unknown options, a reference or pivot out of range, fewer than
            two groups, or priors and conditionals whose shapes disagree.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> cells = js.Normal(jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.ones((2, 2)))
        >>> pop = js.Population(jnp.full((2, 2), 0.25), cells)
        >>> found = js.nearest_ideal(pop, reference=1)
        >>> bool(found.converged), round(float(found.kl), 4)
        (True, 0.0425)

    References:
        "On Optimal Steering to Achieve Exact Fairness" (NeurIPS 2025, arXiv 2509.15759),
        sections 3 and 4.
    """
    options, tolerance = choose(
        solver,
        working_dtype(pop),
        intervention=intervention,
        maps=maps,
        allow_reflection=allow_reflection,
        differentiate=differentiate,
    )
    check_problem(pop, priors, options, reference, pivot)
    given = jax.lax.stop_gradient(pop) if differentiate == "none" else pop
    found = solve(
        given,
        reference,
        pivot,
        tolerance,
        start_matrices(start, pop),
        priors=priors,
        options=options,
    )
    return dataclasses.replace(found, source=pop)


def start_matrices(start: Steering | None, pop: Population) -> Array | None:
    """The matrices ``[G, d, d]`` of a steering that a search starts at.

    Raises:
        ValueError: If the population's maps are no matrices, or of another size.
    """
    if start is None:
        return None
    law = pop.conditionals
    found = getattr(getattr(start, "group_maps", None), "weight", None)
    if not isinstance(law, MultivariateNormal | LowRankNormal):
        raise ValueError(
            f"start= serves searches over matrices, for multivariate normals; the "
            f"programs of {type(law).__name__} need none: leave it out."
        )
    d = law.mean.shape[-1]
    wanted = (pop.n_groups, d, d)
    if found is None or jnp.shape(found) != wanted:
        raise ValueError(
            f"start has maps of {'another kind' if found is None else jnp.shape(found)}, "
            f"expected matrices {wanted}: pass the steering of a population of the same "
            f"shape."
        )
    return jax.lax.stop_gradient(found).astype(working_dtype(pop))


def working_dtype(pop: Any) -> Any:
    """The one precision that a population is solved in: float32 at least."""
    check_kind(pop)
    leaves = [leaf for leaf in jax.tree.leaves(pop) if jnp.size(leaf)]
    dtype = jnp.result_type(jnp.float32, *(jnp.result_type(leaf) for leaf in leaves))
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.float32


def in_one_precision(pop: Population) -> Population:
    """The population with all its numbers in :func:`working_dtype`."""
    dtype = working_dtype(pop)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), pop)


@partial(jit_for_few_calls, static_argnames=("priors", "options"))
def solve(
    pop: Population,
    reference: Any,
    pivot: Any,
    tolerance: Any,
    start: Any = None,
    *,
    priors: str,
    options: Options,
) -> Steering:
    """Solve one checked problem.

    Programs see the reference group in front, in units that it sets: which one it is, an
    offset or a unit does not change them.
    """
    given, pop = pop, in_one_precision(pop)
    reference = choose_reference(pop.priors, reference)
    order, back = _reference_first(pop.n_groups, reference)
    own, old = take_groups(pop.conditionals, order), pop.priors[:, order]
    cells, units = standard_units(own, options.maps)
    new = _weights(old, cells, pivot, tolerance, priors, options)
    if start is not None:
        start = _from_reference(start[order], cells, options.allow_reflection)
    orbit = nearest_orbit(cells, new.weights, pivot, tolerance, options, start)
    found = _steering(Population(old, cells), new, orbit, ideal=priors != "keep")
    ideal = law_in_own_units(found.target.conditionals, cells, own, units)
    target = Population(found.target.priors[:, back], take_groups(ideal, back))
    maps = maps_in_own_units(found.group_maps, units)
    return dataclasses.replace(
        found,
        source=given,
        target=target,
        group_maps=jax.tree.map(lambda leaf: leaf[back], maps),
        reference=reference,
    )


def _from_reference(
    weight: Float[Array, "G d d"], cells: Cells, allow_reflection: bool
) -> Float[Array, "G d d"]:
    """From matrices to a template those from the first group; the identity for others.

    Others are those that are not finite, that are singular to rounding between the
    groups' own units, or that turn the orientation where that is not allowed.
    """
    identity = identity_like(weight)
    home = jnp.broadcast_to(weight[:1], weight.shape)
    found = solve_linear(weight, home).at[0].set(identity[0])
    # As a map between whitened groups, the identity where covariances are equal.
    share = jnp.full(cells.mean.shape[:1], 1 / cells.mean.shape[0], weight.dtype)
    groups = groups_in_front(jax.lax.stop_gradient(cells), slice(None))
    within = jax.vmap(lambda law: pooled_cov(law, share))(groups)
    root, inverse = cholesky_inverse(within)
    white = matmul(inverse, matmul(found, jnp.broadcast_to(root[:1], root.shape)))
    back, sign, _ = inverse_and_logdet(white)
    size = jnp.sqrt(jnp.sum(white**2, (1, 2)) * jnp.sum(back**2, (1, 2)))
    usable = size < float(jnp.finfo(weight.dtype).eps) ** -SINGULAR
    if not allow_reflection:
        usable = usable & (sign > 0)
    return jnp.where(usable[:, None, None], found, identity)


def _reference_first(n_groups: int, reference: Array) -> tuple[Array, Array]:
    """The order with the reference group in front, and the way back from it."""
    groups = jnp.arange(n_groups, dtype=jnp.int32)
    before = groups <= reference
    order = jnp.where(groups == 0, reference, jnp.where(before, groups - 1, groups))
    back = jnp.where(groups == reference, 0, jnp.where(before, groups + 1, groups))
    return order, back


def _weights(
    priors: Array, cells: Any, pivot: Any, tolerance: Any, mode: str, options: Options
) -> NewPriors:
    if mode != "joint":
        weights = fixed_priors(priors, mode, 0)
        return NewPriors(weights, jnp.zeros((), priors.dtype), jnp.zeros((), jnp.int32))

    def cell_costs(weights: Array, cells: Any):
        orbit = nearest_orbit(cells, weights, pivot, tolerance, options)
        return orbit.divergences(orbit.conditionals(), cells)

    return joint_priors(priors, cell_costs, cells, differentiate=options.differentiate)


def _steering(
    pop: Population, new: NewPriors, orbit: Orbit, *, ideal: bool
) -> Steering:
    target = Population(new.weights, orbit.conditionals())
    costs = orbit.divergences(target.conditionals, pop.conditionals)
    prior_kl, feature_kl = kl_parts(target, pop, costs)
    prior_limit = 200 * float(jnp.finfo(new.weights.dtype).eps)
    prior_status = final_status(new.residual, prior_limit, new.steps, 0)
    kl = prior_kl + feature_kl
    return Steering(
        source=pop,
        target=target,
        group_maps=orbit.to_group.inverse(),
        kl=kl,
        prior_kl=prior_kl,
        feature_kl=feature_kl,
        status=_status(pop, kl, jnp.maximum(orbit.status, prior_status)),
        residual=jnp.maximum(orbit.residual, new.residual),
        steps=jnp.maximum(orbit.steps, new.steps),
        ideal=ideal,
    )


def _status(pop: Population, kl: Array, status: Array):
    priors = jnp.isfinite(pop.priors) & (pop.priors > 0)
    whole = jnp.abs(jnp.sum(pop.priors) - 1) < WHOLE
    usable = jnp.all(priors) & whole & parameters_valid(pop.conditionals)
    status = jnp.where(jnp.isfinite(kl), status, Status.NONFINITE)
    return jnp.where(usable, status, Status.BAD_INPUT).astype(jnp.int32)


@broadcasting
def ideality_gap(
    pop: Population,
    *,
    intervention: str = "affirmative",
    reference: int | Int[Array, ""] | None = None,
    maps: str = "general",
    priors: str = "reweigh",
    allow_reflection: bool = False,
    solver: Solver | None = None,
    pivot: int | Int[Array, ""] = 0,
    return_status: bool = False,
    start: Steering | None = None,
    return_steering: bool = False,
) -> Float[Array, ""] | tuple[Float[Array, ""], Int[Array, ""] | Steering]:
    """KL divergence from the nearest ideal population to this one, in nats.

    A fairness regularizer: its gradient by the population's parameters is taken with
    the optimal maps, template and shares held still (the envelope theorem), so that it
    costs one evaluation beside the solve. Second derivatives are those of the
    minimum: they take the implicit function theorem.

    Args:
        pop: The population.
        intervention: As for :func:`jaxsteer.nearest_ideal`, like all that follow.
        reference: The group that stays.
        maps: Which maps are allowed.
        priors: How the new priors are chosen.
        allow_reflection: Allow maps that turn the orientation.
        solver: For kinds of maps that iterate. In training a bounded search will do:
            ``MatrixNewton(max_steps=8, max_products=16, random_starts=0)`` takes a
            fraction of the time with general maps of some hundred features, and the
            divergence is then that of the best maps found, an upper bound.
        pivot: The class that "pivot" is relative to.
        return_status: Return the :class:`jaxsteer.Status` of the solve as well, for
            ``jax.value_and_grad(..., has_aux=True)``.
        start: Where the search starts: in training the last step's steering, which
            `return_steering` hands on, so that a step of training takes a step or two of
            the search.
        return_steering: Return the steering as well, in place of the status, which it
            holds.

    Returns:
        The divergence; where the solve did not converge, that of the best map found,
        with the gradient at that map. NaN where a cell has no law, say for want of
        rows: ``fit_population(..., prior=1.0)`` keeps small cells finite in training.

    Raises:
        ValueError: As :func:`jaxsteer.nearest_ideal`; where both the status and the
            steering are asked for.

    Example:
        >>> import jax, jax.numpy as jnp, jaxsteer as js
        >>> def gap(loc):
        ...     cells = js.Normal(loc, jnp.ones((2, 2)))
        ...     pop = js.Population(jnp.full((2, 2), 0.25), cells)
        ...     return js.ideality_gap(pop, reference=1)
        >>> loc = jnp.array([[0.0, 0.0], [1.0, 2.0]])
        >>> slope = jax.grad(gap)(loc)[1]
        >>> round(float(gap(loc)), 4), [round(float(entry), 3) for entry in slope]
        (0.0425, [-0.086, 0.072])

    References:
        Danskin's theorem on derivatives of minima.
    """
    if return_status and return_steering:
        raise ValueError(
            "return_status and return_steering ask for one answer twice; leave "
            "return_status out: the steering has a .status."
        )
    # The tied model's maps minimize another divergence than the one reported, unless
    # the covariances are equal: there nothing may be held still.
    still = not (intervention == "all_groups" and maps == "shared_covariance")
    # Shares that are searched for move the maps, whose derivatives they need.
    still = still and priors != "joint"
    options, tolerance = choose(
        solver,
        working_dtype(pop),
        intervention=intervention,
        maps=maps,
        allow_reflection=allow_reflection,
        differentiate="held" if still else "implicit",
    )
    check_problem(pop, priors, options, reference, pivot)
    first = start_matrices(start, pop)
    found = solve(
        pop, reference, pivot, tolerance, first, priors=priors, options=options
    )
    if return_steering:
        return found.kl, jax.lax.stop_gradient(found)
    return (found.kl, found.status) if return_status else found.kl
