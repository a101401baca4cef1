"""What the lower level needs of a model, what metrics see of it, and a user's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, PyTree, Scalar
from jaxsteer.pareto._data import GroupData
from jaxsteer.solvers import Reparametrized


class Outputs(NamedTuple):
    """What a fairness metric reads, beside the data.

    Attributes:
        score: ``[n]`` real score of each row (binary: positive means class 1), or
            ``[n, K]`` one for each class.
        losses: ``[n]`` loss of each row, without the penalty.
        params: The model's parameters.
    """

    score: Array
    losses: Float[Array, " n"]
    params: PyTree


class Model:
    """A family of models: parameters, a loss for every row, a score, a penalty.

    Subclass it for a model of your own, or use :class:`CustomModel`. A model is a
    frozen pytree (numbers such as the penalty are leaves, choices are static), so that
    a new penalty compiles nothing anew. `losses` must be smooth in the parameters.
    """

    #: Whether :func:`jaxsteer.pareto.solve_badr` may take Newton steps.
    convex = True
    #: Kinds of target: "binary", "classes" or "regression".
    targets: ClassVar[tuple[str, ...]] = ("binary", "classes", "regression")

    def init(self, data: GroupData) -> PyTree:
        """Return the parameters to start from, a pytree of arrays."""
        raise NotImplementedError

    def losses(self, params: PyTree, x: PyTree, target: Array) -> Float[Array, " n"]:
        """Return the loss of every row."""
        raise NotImplementedError

    def score(self, params: PyTree, x: PyTree) -> Array:
        """Return a real score for every row, ``[n]`` or ``[n, K]``."""
        raise NotImplementedError

    def penalty(self, params: PyTree) -> Float[Array, ""]:
        """Return what is added to every group's loss; it keeps the answer unique."""
        raise NotImplementedError

    def predict(self, params: PyTree, x: PyTree) -> Array:
        """Return class codes (or real numbers for regression), ``[n]``."""
        score = self.score(params, x)
        if score.ndim == 2:
            return jnp.argmax(score, 1)
        return (score > 0).astype(jnp.int32)

    def hessian(
        self, theta: Float[Array, " p"], data: GroupData, group_weights: Array
    ) -> Float[Array, "p p"]:
        """Return the second derivatives of the weighted loss, in flat parameters."""

        def slope(t: Array) -> Array:
            return jax.grad(weighted_loss, argnums=1)(self, t, data, group_weights)

        def column(e: Array):
            return jax.jvp(slope, (theta,), (e,))[1]

        eye = jnp.eye(theta.shape[0], dtype=theta.dtype)
        columns = jax.lax.map(column, eye, batch_size=8)
        return 0.5 * (columns + columns.T)

    def check(self, data: GroupData) -> None:
        """Raise ValueError if this model cannot be fitted to such a target."""
        kinds = {0: "regression", 2: "binary"}
        kind = kinds.get(data.n_classes, "classes")
        allowed = self.targets + (("binary",) if "classes" in self.targets else ())
        if kind not in allowed:
            raise ValueError(
                f"{type(self).__name__} needs a target of kind {' or '.join(allowed)}, "
                f"got {kind} ({data.n_classes} classes); Logistic and SmoothSVM take two "
                "classes, Softmax any number, Ridge real numbers."
            )


def unraveler(model: Model, data: GroupData) -> PyTree:
    """Return the function from flat parameters to the model's own."""
    shapes = jax.eval_shape(model.init, data)
    blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return ravel_pytree(blank)[1]


def start_of(model: Model, data: GroupData) -> Float[Array, " p"]:
    """Return the flat parameters to start from."""
    return ravel_pytree(model.init(data))[0]


def outputs(model: Model, theta: Float[Array, " p"], data: GroupData) -> Outputs:
    """Evaluate the model, given flat parameters, on every row."""
    params = unraveler(model, data)(theta)
    return Outputs(
        model.score(params, data.x), model.losses(params, data.x, data.target), params
    )


def group_losses(
    model: Model, theta: Float[Array, " p"], data: GroupData
) -> Float[Array, " G"]:
    """``F_a``: the mean loss of each group, and the penalty."""
    params = unraveler(model, data)(theta)
    rows = model.losses(params, data.x, data.target)
    return data.group_mean(rows) + model.penalty(params)


def weighted_loss(
    model: Model, theta: Float[Array, " p"], data: GroupData, group_weights: Array
) -> Float[Array, ""]:
    """``sum_a lambda_a F_a``: what the lower level minimizes."""
    params = unraveler(model, data)(theta)
    rows = model.losses(params, data.x, data.target)
    weight = data.share * group_weights[data.group]
    penalty = jnp.sum(group_weights) * model.penalty(params)
    return jnp.sum(weight * rows) + penalty


_FIT = Reparametrized(max_steps=500)


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class CustomModel(Model):
    """A model made of three functions, such as a Flax module's.

    The lower level is fitted by `solver`, from the last parameters on. Where it is not
    convex the answer is a local one, and `damping` must make up for the curvature that
    is missing: hypergradients solve with ``Hessian + damping * I``.

    Attributes:
        initial: ``initial(data) -> params``, a pytree of arrays.
        row_score: ``row_score(params, x)``, ``[n]`` or ``[n, K]``.
        row_loss: ``row_loss(score, target)``, ``[n]``.
        l2: Penalty ``l2 / 2 |params|^2`` of every group's mean loss.
        damping: Added to the Hessian's diagonal.
        solver: How the lower level is fitted.

    Example:
        >>> import jax.numpy as jnp
        >>> model = CustomModel(
        ...     initial=lambda data: {"w": jnp.zeros(data.x.shape[1])},
        ...     row_score=lambda params, x: x @ params["w"],
        ...     row_loss=lambda score, target: jnp.logaddexp(0, (1 - 2 * target) * score),
        ... )
        >>> model.predict({"w": jnp.ones(2)}, jnp.ones((1, 2))).tolist()
        [1]
    """

    initial: Callable[[GroupData], PyTree] = dataclasses.field(
        metadata={"static": True}
    )
    row_score: Callable[[PyTree, Array], Array] = dataclasses.field(
        metadata={"static": True}
    )
    row_loss: Callable[[Array, Array], Array] = dataclasses.field(
        metadata={"static": True}
    )
    l2: Scalar = 1e-3
    damping: Scalar = 0.0
    solver: Reparametrized = dataclasses.field(default=_FIT, metadata={"static": True})
    convex = False

    def init(self, data: GroupData) -> PyTree:
        """Return the first parameters."""
        return self.initial(data)

    def score(self, params: PyTree, x: PyTree) -> Array:
        """Return the scores."""
        return self.row_score(params, x)

    def losses(self, params: PyTree, x: PyTree, target: Array) -> Float[Array, " n"]:
        """Return the loss of every row."""
        return self.row_loss(self.row_score(params, x), target)

    def penalty(self, params: PyTree) -> Float[Array, ""]:
        """Return ``l2 / 2 |params|^2``."""
        squares = [jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)]
        return 0.5 * self.l2 * sum(squares, jnp.zeros(()))
