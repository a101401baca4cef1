"""Newton's method on matrix groups: conjugate gradients in a trust region."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array
from jaxsteer.solvers._conjugate_gradient import trust_region_step
from jaxsteer.solvers._relative import (
    RelativeProblem,
    RelativeSolver,
    relative_residual,
)
from jaxsteer.solvers._solution import (
    Solution,
    default_tolerance,
    final_status,
    new_trace,
    record,
)

# Rounding of the objective is about ``eps ** NOISE`` of its size: its terms cancel, more
# so where covariances are ill-conditioned. Too small a power here shrinks the region
# to nothing short of the solution.
NOISE = 2 / 3
PATIENCE = 3  # steps within rounding error that do not help, before giving up


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelativeNewton(RelativeSolver):
    """Trust-region Newton steps in the chart around the current matrix.

    Follows directions of negative curvature, so that saddle points do not hold it, and
    converges quadratically. Each step costs one gradient, one value and some Hessian
    products, each about as dear as a gradient.

    Attributes:
        max_steps: Limit on steps.
        max_products: Limit on Hessian products in one step.
        tolerance: Residual (relative gradient per unit of weight, Frobenius norm) that
            counts as converged; None takes the root of the rounding unit.
        trace: Record the residual before every step.
        product_dtype: Narrower precision for the Hessian products, such as "float32"
            where everything else is float64; None is that of the start. Gradients and
            values keep theirs, and so does the answer: a step that is a little off
            costs at most a step more, while products are most of the work in many
            dimensions.

    Example:
        >>> import jax.numpy as jnp
        >>> def fn(x, target):
        ...     return 0.5 * jnp.sum((x - target) ** 2)
        >>> found = RelativeNewton().run(fn, jnp.eye(2)[None], jnp.zeros((1, 2, 2)))
        >>> jnp.allclose(found.x, jnp.eye(2)).item(), found.converged.item()
        (True, True)
    """

    max_steps: int = 500
    max_products: int = 200
    trace: bool = False
    product_dtype: str | None = None

    def search(
        self,
        problem: RelativeProblem,
        start: Array,
        args: Any,
        weight: Array,
        limit: Array,
    ) -> Solution:
        """Search from one frame for at most `limit` steps; `x` is a frame."""
        dtype, d = start.dtype, start.shape[-1]
        group = problem.group
        eps = float(jnp.finfo(dtype).eps)
        tolerance = (
            default_tolerance(dtype) if self.tolerance is None else self.tolerance
        )
        first = problem.fn(group.point(start), args)
        narrow = dtype if self.product_dtype is None else self.product_dtype
        fixed = _cast((args, weight), narrow)
        state = {
            "frame": start,
            "value": first,
            "radius": jnp.asarray(d**0.5, dtype),
            "residual": jnp.asarray(jnp.inf, dtype),
            "best": start,
            "lowest": jnp.asarray(jnp.inf, dtype),
            "idle": jnp.zeros((), jnp.int32),
            "steps": jnp.zeros((), jnp.int32),
            "trace": new_trace(self.max_steps, dtype, self.trace),
            "done": ~jnp.isfinite(first),
        }

        def unfinished(state):
            return ~state["done"] & (state["steps"] < limit)

        def body(state):
            frame, radius = state["frame"], state["radius"]
            slope, hessian = problem.expand(frame, args, weight)
            residual = relative_residual(slope, weight)
            near = (_cast(frame, narrow), *fixed)
            if narrow != dtype:
                _, hessian = problem.expand(*near)
            step = trust_region_step(
                hessian,
                slope.astype(narrow),
                problem.preconditioner(*near, floor=0.1),
                radius.astype(narrow),
                accuracy=jnp.minimum(0.3, jnp.sqrt(residual)).astype(narrow),
                max_products=self.max_products,
            )
            e, predicted = _cast((step.step, step.predicted), dtype)
            moved, growth = group.advance(frame, e)
            value = problem.fn(group.point(moved), args)
            gain = jnp.sum(weight[:, 0, 0] * growth)
            change = value - state["value"] - gain
            size = jnp.abs(value) + jnp.sum(weight) * d
            noise = eps**NOISE * size
            # Where the promised change drowns in rounding, trust the model.
            blind = (-predicted < noise) & (change < noise)
            quality = jnp.where(blind, 1.0, change / predicted)
            accepted = (quality > 1e-4) & jnp.isfinite(change)
            length = jnp.sqrt(jnp.sum(e**2))
            shrunk = jnp.where(quality > 0.25, radius, 0.25 * length)
            grown = jnp.where((quality > 0.75) & step.bound, 2.5 * radius, shrunk)
            new_radius = jnp.where(accepted, grown, 0.25 * length)
            better = residual < state["lowest"]
            # Far from the solution the residual may rise while the value falls.
            spent = blind & (-predicted < 10 * eps * size)
            idle = jnp.where(spent & ~(residual < 0.5 * state["lowest"]), 1, 0)
            idle = jnp.where(idle > 0, state["idle"] + 1, 0)
            solved = residual <= tolerance
            hopeless = (idle >= PATIENCE) | ~jnp.isfinite(residual)
            hopeless = hopeless | (new_radius < eps)
            keep = accepted & ~solved
            at_noise = better | ~blind
            return {
                "frame": jnp.where(keep, moved, frame),
                "value": jnp.where(keep, value, state["value"]),
                "radius": new_radius,
                "residual": residual,
                "best": jnp.where(at_noise, frame, state["best"]),
                "lowest": jnp.where(at_noise, residual, state["lowest"]),
                "idle": idle,
                "steps": state["steps"] + jnp.where(solved, 0, 1),
                "trace": record(state["trace"], state["steps"], residual),
                "done": solved | hopeless,
            }

        end = jax.lax.while_loop(unfinished, body, state)
        residual = jnp.where(jnp.isfinite(first), end["lowest"], jnp.nan)
        return Solution(
            x=end["best"],
            value=end["value"],
            residual=residual,
            status=final_status(residual, tolerance, end["steps"], limit),
            steps=end["steps"],
            trace=end["trace"],
        )


def _cast(tree: Any, dtype: Any) -> Any:
    """Floating-point leaves in another precision."""

    def cast(leaf):
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(leaf, dtype) if floating else leaf

    return jax.tree.map(cast, tree)
