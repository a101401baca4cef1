"""Newton's method on matrices: conjugate gradients in a trust region."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, DTypeLike, Float
from jaxsteer.solvers._chart import (
    Chart,
    MatrixObjective,
    Sides,
    cast_floating,
    relative_residual,
)
from jaxsteer.solvers._conjugate_gradient import dot, trust_region_step
from jaxsteer.solvers._solution import default_tolerance

# Rounding of the objective is about ``eps ** NOISE`` of its size: its terms cancel, more
# so where covariances are ill-conditioned. Too small a power here shrinks the region
# to nothing short of the solution.
NOISE = 2 / 3
PATIENCE = 3  # steps within rounding error that do not help, before giving up
# Share of the way to the edge of the cone that a step may take, and what a step of such
# a length leaves of the additional weight of the barrier.
REACH = 0.95
LONG, LEFT_BY_LONG = 0.6, 0.1
FAIR, LEFT_BY_FAIR = 0.3, 0.3
# What conjugate gradients may leave of a step's gain in the straight chart, in weights
# of the barrier: there directions that barely bend the quadratic count as the others do.
SPARE = 0.01


# Hessian products that a step may take at first, of small matrices, many of which are
# worked on side by side: the step of each lasts as long as the longest.
FIRST_PRODUCTS, SIDE_BY_SIDE = 4, 32


class NewtonMemory(NamedTuple):
    """What is carried from step to step: the region's radius, and idle steps.

    `heavier` is by how much the barrier of definite matrices may be heavier than the
    objective's: it falls to 1 along the central path. `products` is the limit on Hessian
    products, which grows with every second step that used it up.
    """

    radius: Array
    products: Array
    used_up: Array
    idle: Array
    lowest: Array
    heavier: Array


class NewtonProposal(NamedTuple):
    """A step before its value is known.

    Attributes:
        sides: Those of the chart after it.
        growth: ``[g]`` by what the log-determinants of the point grow; known to more
            digits than differences are.
        residual: Before the step.
        predicted: Change of the value that the model promises.
        bound: Whether the step ends at the edge of the region.
        used_up: Whether it might have been better with more Hessian products.
        length: Of the step.
        central: Whether it is a step along the central path, to be taken in any case.
        heavier: What the next step may take as the barrier's additional weight.
    """

    sides: Sides
    growth: Array
    residual: Array
    predicted: Array
    bound: Array
    used_up: Array
    length: Array
    central: Array
    heavier: Array


class Verdict(NamedTuple):
    """What a solver makes of a step whose value is known.

    Attributes:
        accepted: Whether the point moves.
        record: Whether the point before the step counts as the best so far.
        hopeless: Whether there is no use in going on.
        memory: What is carried on.
    """

    accepted: Array
    record: Array
    hopeless: Array
    memory: NamedTuple


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatrixNewton:
    """Trust-region Newton steps in the chart around the current matrices.

    Follows directions of negative curvature, so that saddle points do not hold it, and
    converges quadratically. Each step costs one gradient, one value and some Hessian
    products, each about as dear as a gradient.

    The search for definite maps to a fixed target is convex: a quadratic and a barrier,
    self-concordant. There each step is as long as that property guarantees to be safe
    and useful, in a straight chart without a region; and where covariances are
    ill-conditioned the barrier starts as heavy as the gradient and falls to its own
    weight, along the central path: a few steps for every factor of 10.

    Attributes:
        max_steps: Limit on steps from the best start.
        max_products: Limit on Hessian products in one step.
        tolerance: Residual (relative gradient per unit of weight, Frobenius norm; for
            definite maps to a fixed template the root of what a Newton step would gain,
            where that is smaller) that counts as converged; None takes the root of the
            rounding unit.
        product_dtype: Narrower precision for the Hessian products, such as "float32"
            where everything else is float64; None is that of the start. Gradients and
            values keep theirs, and so does the answer: a step that is a little off
            costs at most a step more, while products are most of the work in many
            dimensions.
        random_starts: How many random starts general maps are searched from, beside
            those in closed form and the definite maps' answers, in up to 128 features;
            each costs as much as the solve without. None: 16 with three classes or more
            and at most 16 features, where there are many minima; none elsewhere.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> cells = js.MultivariateNormal(
        ...     jnp.array([[[0.0, 0.0], [0.0, 1.0]]]), jnp.tile(jnp.eye(2), (1, 2, 1, 1)))
        >>> pop = js.Population(jnp.array([[0.5, 0.5]]), cells)
        >>> solver = MatrixNewton(max_steps=50)
        >>> bool(js.nearest_ideal(pop, maps="positive_definite", solver=solver).converged)
        True

    References:
        Steihaug 1983, "The conjugate gradient method and trust regions"; Nesterov and
        Nemirovskii 1994, "Interior-Point Polynomial Algorithms in Convex Programming",
        chapter 2 (damped Newton steps, path following).
    """

    max_steps: int = 500
    max_products: int = 200
    tolerance: float | None = None
    product_dtype: str | None = None
    random_starts: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits that are no whole numbers.

        Raises:
            ValueError: See above.
        """
        for name in ("max_steps", "max_products", "random_starts"):
            limit = getattr(self, name)
            if name == "random_starts" and limit is None:
                continue
            whole = isinstance(limit, int | np.integer) and not isinstance(limit, bool)
            if not whole or limit < 0:
                raise ValueError(
                    f"{name}={limit!r} must be a whole number, at least 0."
                )
            object.__setattr__(self, name, int(limit))

    def accuracy(self, dtype: DTypeLike) -> float:
        """The residual that counts as converged."""
        if self.tolerance is None:
            return default_tolerance(dtype)
        return self.tolerance

    def begin(self, sides: Sides) -> NewtonMemory:
        """Memory at a new start."""
        dtype, d = sides.left.dtype, sides.left.shape[-1]
        first = self.max_products
        if d <= SIDE_BY_SIDE:
            first = min(first, FIRST_PRODUCTS)
        return NewtonMemory(
            radius=jnp.asarray(d**0.5, dtype),
            products=jnp.asarray(first, jnp.int32),
            used_up=jnp.asarray(False),
            idle=jnp.zeros((), jnp.int32),
            lowest=jnp.asarray(jnp.inf, dtype),
            heavier=jnp.asarray(jnp.inf, dtype),
        )

    def propose(
        self,
        objective: MatrixObjective,
        chart: Chart,
        memory: NewtonMemory,
        active: Array,
    ) -> NewtonProposal:
        """The step that a quadratic model promises most of, within the region."""
        dtype = chart.left.dtype
        narrow = dtype if self.product_dtype is None else jnp.dtype(self.product_dtype)
        model = near = chart.expand(objective, heaviest=memory.heavier)
        residual = relative_residual(model.slope, objective.log_weight)
        if narrow != dtype:
            seen_from, seen = cast_floating((chart, objective), narrow)
            near = seen_from.expand(seen, heaviest=model.heavier.astype(narrow))
        straight, central = model.straight, model.heavier > 1
        aim = jnp.where(active, model.aim, jnp.zeros_like(model.aim))
        radius, accuracy = memory.radius, jnp.minimum(0.3, jnp.sqrt(model.gentle))
        weight = model.heavier * jnp.min(objective.log_weight)
        if straight is not None:
            radius = jnp.where(straight, jnp.inf, radius)
            # What is left to gain by a step, against the weight of the barrier.
            ahead = jnp.maximum(dot(aim, model.precondition(aim)), weight)
            within = jnp.minimum(accuracy, jnp.sqrt(SPARE * weight / ahead))
            accuracy = jnp.where(straight, within, accuracy)
        step = trust_region_step(
            near.hessian,
            aim.astype(narrow),
            near.precondition,
            radius.astype(narrow),
            accuracy=accuracy.astype(narrow),
            max_products=memory.products,
        )
        # Not where there are none to add.
        enough = step.bound | (memory.products >= self.max_products)
        used_up = ~enough & (step.products >= memory.products)
        # Where definite maps' features come in unlike units some directions are steeper
        # than the weight by any factor, and rounding in their slope is as large. What
        # counts is what is left to gain: the square of a slope over its curvature.
        gain = jnp.sqrt(
            -4 * jnp.minimum(step.predicted, 0) / jnp.min(objective.log_weight)
        )
        far = step.bound | central | used_up
        left = jnp.where(far, jnp.inf, jnp.maximum(gain, model.gentle))
        gentler = model.gentle < residual
        residual = jnp.where(gentler, jnp.minimum(residual, left), residual)
        e, predicted = cast_floating((step.step, step.predicted), dtype)
        length, heavier = jnp.sqrt(jnp.sum(e**2)), model.heavier
        if straight is not None:
            share = safe_share(-2 * predicted / weight, length)
            share = jnp.where(straight, share, 1.0)
            e, length = share * e, share * length
            fallen = jnp.where(share > FAIR, LEFT_BY_FAIR, 1.0)
            fallen = jnp.where(share > LONG, LEFT_BY_LONG, fallen)
            heavier = jnp.maximum(fallen * heavier, 1.0)
        moved, growth = chart.move(e, straight)
        return NewtonProposal(
            sides=moved.sides,
            growth=growth,
            residual=residual,
            predicted=predicted,
            bound=step.bound,
            used_up=used_up,
            length=length,
            central=central,
            heavier=heavier,
        )

    def judge(
        self,
        proposal: NewtonProposal,
        memory: NewtonMemory,
        value: Array,
        new_value: Array,
        scale: Array,
    ) -> Verdict:
        """Accept the step or not, by what it promised and what it brought."""
        eps = float(jnp.finfo(value.dtype).eps)
        residual, length = proposal.residual, proposal.length
        change = new_value - value
        size = jnp.abs(new_value) + scale
        noise = eps**NOISE * size
        # Where the promised change drowns in rounding, trust the model.
        blind = (-proposal.predicted < noise) & (change < noise)
        quality = jnp.where(blind, 1.0, change / proposal.predicted)
        accepted = ((quality > 1e-4) | proposal.central) & jnp.isfinite(change)
        shrunk = jnp.where(quality > 0.25, memory.radius, 0.25 * length)
        grow = (quality > 0.75) & proposal.bound
        grown = jnp.where(grow, 2.5 * memory.radius, shrunk)
        radius = jnp.where(accepted, grown, 0.25 * length)
        # Far from the solution the residual may rise while the value falls.
        record = (residual < memory.lowest) | ~blind | proposal.central
        spent = blind & (-proposal.predicted < 10 * eps * size)
        idle = jnp.where(spent & ~(residual < 0.5 * memory.lowest), memory.idle + 1, 0)
        hopeless = (idle >= PATIENCE) | ~jnp.isfinite(residual) | (radius < eps)
        lowest = jnp.where(record, residual, memory.lowest)
        heavier = jnp.where(accepted, proposal.heavier, memory.heavier)
        again = proposal.used_up & memory.used_up
        more = jnp.minimum(4 * memory.products, self.max_products)
        products = jnp.where(again, more, memory.products)
        used_up = proposal.used_up ^ memory.used_up
        memory = NewtonMemory(radius, products, used_up, idle, lowest, heavier)
        return Verdict(accepted, record, hopeless, memory)


def safe_share(
    decrement: Float[Array, ""], length: Float[Array, ""]
) -> Float[Array, ""]:
    """The share of a Newton step that lowers a quadratic with a log-det barrier most.

    Least ``t`` of the bound ``-l^2 t + (l^2 - r^2) t^2 / 2 - r t - log(1 - r t)``, with
    ``l^2`` the squared Newton decrement and ``r`` the step's length in the norm of the
    barrier: the root in [0, 1] of ``l^2 (1 - t) (1 - r t) = r^3 t^2``. The bound holds
    for every self-concordant barrier; it is 1 for a quadratic, ``1 / (1 + l)`` for a
    barrier alone.

    Args:
        decrement: ``l^2``, per unit of the barrier's weight.
        length: ``r``.

    Returns:
        The share, short of the edge of the cone.
    """
    squared = jnp.maximum(decrement, length**2)
    barrier = length**2 / jnp.where(squared > 0, squared, 1.0)
    root = jnp.sqrt((1 - length) ** 2 + 4 * barrier * length)
    share = 2 / (1 + length + root)
    return jnp.minimum(share, REACH / jnp.maximum(length, REACH))
