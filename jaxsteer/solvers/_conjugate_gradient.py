"""Preconditioned conjugate gradients: steps in a trust region, and tangents of fits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import gmres

from jaxsteer._types import Array, Float, Int
from jaxsteer._varying import vary_together
from jaxsteer.linalg import solver

LinearMap = Callable[[Array], Array]


class TrustRegionStep(NamedTuple):
    """A step that lowers a quadratic model.

    Attributes:
        step: The step, shaped like the gradient.
        predicted: ``[]`` change of the model, negative.
        bound: ``[]`` whether the step ends at the region's edge.
        products: ``[]`` Hessian products, int32.
    """

    step: Array
    predicted: Float[Array, ""]
    bound: Array
    products: Int[Array, ""]


def dot(a: Array, b: Array) -> Float[Array, ""]:
    """Inner product over all axes."""
    return jnp.sum(a * b)


def trust_region_step(
    hessian: LinearMap,
    gradient: Array,
    precondition: LinearMap,
    radius: Float[Array, ""],
    *,
    accuracy: Float[Array, ""],
    max_products: int | Int[Array, ""],
) -> TrustRegionStep:
    """Lower ``<gradient, e> + <e, hessian(e)> / 2`` within ``|e| <= radius``.

    Conjugate gradients from 0; at a direction of negative curvature, or where the next
    step would leave the region, it follows the direction to the edge and stops.

    Args:
        hessian: Symmetric linear map.
        gradient: Gradient of the model at 0, any shape.
        precondition: Positive definite linear map near the inverse of `hessian`.
        radius: ``[]`` radius of the region in the Euclidean norm.
        accuracy: ``[]`` stop when the preconditioned residual's norm has fallen by this
            factor.
        max_products: Limit on Hessian products.

    Returns:
        The step and what it promises.

    References:
        Steihaug 1983, "The conjugate gradient method and trust regions".
    """
    first = precondition(gradient)
    start = dot(gradient, first)
    zero = jnp.zeros_like(gradient)
    state = {
        "step": zero,
        "image": zero,  # hessian(step)
        "residual": gradient,
        "direction": -first,
        "size": start,
        "bound": jnp.asarray(False),
        "count": jnp.zeros((), jnp.int32),
        "done": ~(start > 0),
    }

    def unfinished(state: dict[str, Array]):
        return ~state["done"] & (state["count"] < max_products)

    def body(state: dict[str, Array]):
        step, direction = state["step"], state["direction"]
        product = hessian(direction)
        curvature = dot(direction, product)
        length = state["size"] / jnp.where(curvature > 0, curvature, 1.0)
        trial = step + length * direction
        leaves = ~((curvature > 0) & (dot(trial, trial) < radius**2))
        squared = dot(direction, direction)
        across = dot(step, direction)
        room = jnp.maximum(radius**2 - dot(step, step), 0.0)
        root = jnp.sqrt(across**2 + squared * room)
        # Two forms of one root, neither of which subtracts nearly equal numbers.
        edge = jnp.where(across > 0, room / (across + root), (root - across) / squared)
        length = jnp.where(leaves, edge, length)
        residual = state["residual"] + length * product
        scaled = precondition(residual)
        size = dot(residual, scaled)
        small = ~(size > accuracy**2 * start)
        return {
            "step": step + length * direction,
            "image": state["image"] + length * product,
            "residual": residual,
            "direction": -scaled + size / state["size"] * direction,
            "size": size,
            "bound": leaves,
            "count": state["count"] + 1,
            "done": leaves | small,
        }

    state = vary_together(state, radius)
    end = jax.lax.while_loop(unfinished, body, state)
    step = end["step"]
    predicted = dot(gradient, step) + 0.5 * dot(step, end["image"])
    return TrustRegionStep(step, predicted, end["bound"], end["count"])


def solve_positive(
    matvec: LinearMap,
    b: Array,
    precondition: LinearMap,
    *,
    tolerance: float | None = None,
    max_products: int = 1000,
) -> Array:
    """Solve ``matvec(x) = b`` for a symmetric positive definite linear map.

    Differentiable to any order in both modes (``custom_linear_solve``).

    Args:
        matvec: The map.
        b: Right-hand side, any shape.
        precondition: Positive definite linear map near the inverse.
        tolerance: Relative size of the last residual; None takes ``10 eps``.
        max_products: Limit on products.

    Returns:
        The solution; at a singular map that of least preconditioned norm, if any.
    """
    accuracy = 10 * float(jnp.finfo(b.dtype).eps) if tolerance is None else tolerance

    def solve(matvec: Callable[[Array], Array], b: Array):
        return trust_region_step(
            matvec,
            -b,
            precondition,
            jnp.asarray(jnp.inf, b.dtype),
            accuracy=jnp.asarray(accuracy, b.dtype),
            max_products=max_products,
        ).step

    return jax.lax.custom_linear_solve(matvec, b, solve, symmetric=True)


DENSE = 256  # unknowns up to which the matrix is formed
PASSES = 3  # each multiplies the error of the damping by the damping
RESTART = 32
MAX_RESTARTS = 100


def damped_tangent_solve(linear: Callable[[Array], Array], b: Array) -> Array:
    """Solve ``linear(x) = b`` for a map of about unit scale, damping flat directions.

    Iterates ``x <- x + (linear + c)^-1 (b - linear(x))`` from 0 with ``c = sqrt(eps)``.
    Along a direction that the map scales by `s` the relative error is
    ``(c / (s + c))^3``: flat directions get the derivative 0 instead of NaN, the others
    the undamped one. The map need not be symmetric. Up to 256 unknowns by a dense
    factorization, O(n^3); above by restarted GMRES. Differentiable in both modes.

    References:
        Kress 2014, "Linear Integral Equations", 3rd ed., chapter 15 (iterated Tikhonov
        regularization).
    """
    eps = float(jnp.finfo(b.dtype).eps)
    damping = eps**0.5
    b_flat = b.ravel()

    def damped(v: Array):
        return linear(v.reshape(b.shape)).ravel() + damping * v

    if b.size <= DENSE:
        matrix = jax.jacobian(damped)(jnp.zeros_like(b_flat))
        columns = solver(matrix)

        def solve(v: Array):
            return columns(v[:, None])[:, 0]
    else:
        # GMRES reads its accuracy off b, so that it cannot be transposed by itself.
        search = partial(_gmres, tolerance=eps**0.75)
        solve = partial(  # pyright: ignore[reportAssignmentType]
            jax.lax.custom_linear_solve,
            damped,
            solve=search,
            transpose_solve=search,
        )

    # What a pass leaves, b - linear(x), is the damping times its change of x.
    def improve(state: tuple[Array, Array], _):
        x, left = state
        change = solve(left)
        return (x + change, damping * change), None

    (x, _), _ = jax.lax.scan(improve, (jnp.zeros_like(b_flat), b_flat), length=PASSES)
    return x.reshape(b.shape)


def _gmres(linear: Callable[[Array], Array], b: Array, *, tolerance: float) -> Array:
    # Incremental: Givens rotations instead of batched LAPACK calls.
    x, _ = gmres(
        linear,
        b,
        tol=tolerance,
        restart=RESTART,
        maxiter=MAX_RESTARTS,
        solve_method="incremental",
    )
    return x
