"""``ideality_gap``: how far a population is from ideal, as a loss."""

from __future__ import annotations

from typing import Any

from jaxsteer._compilation import broadcasting
from jaxsteer._types import Array, Float, Int
from jaxsteer.ideal._nearest import solve, working_dtype
from jaxsteer.ideal._options import check_problem, choose
from jaxsteer.population import Population


@broadcasting
def ideality_gap(
    pop: Population,
    *,
    intervention: str = "affirmative",
    reference: int | Int[Array, ""] | None = None,
    maps: str = "general",
    priors: str = "reweigh",
    allow_reflection: bool = False,
    solver: Any = None,
    pivot: int | Int[Array, ""] = 0,
    return_status: bool = False,
) -> Float[Array, ""] | tuple[Float[Array, ""], Int[Array, ""]]:
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
        solver: For kinds of maps that iterate.
        pivot: The class that "pivot" is relative to.
        return_status: Return the :class:`jaxsteer.Status` of the solve as well, for
            ``jax.value_and_grad(..., has_aux=True)``.

    Returns:
        The divergence; where the solve did not converge, that of the best map found,
        with the gradient at that map. NaN where a cell has no law, say for want of
        rows: ``fit_population(..., prior=1.0)`` keeps small cells finite in training.

    Raises:
        ValueError: As :func:`jaxsteer.nearest_ideal`.

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
    found = solve(pop, reference, pivot, tolerance, priors=priors, options=options)
    return (found.kl, found.status) if return_status else found.kl
