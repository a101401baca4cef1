"""Any differentiable model: parameters that are a pytree, fitted by optax."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._model import Model
from jaxsteer.solvers import Reparametrized

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

    initial: Callable[[GroupData], Any] = dataclasses.field(metadata={"static": True})
    row_score: Callable[[Any, Any], Array] = dataclasses.field(
        metadata={"static": True}
    )
    row_loss: Callable[[Array, Array], Array] = dataclasses.field(
        metadata={"static": True}
    )
    l2: Any = 1e-3
    damping: Any = 0.0
    solver: Reparametrized = dataclasses.field(default=_FIT, metadata={"static": True})
    convex = False

    def init(self, data: GroupData) -> Any:
        """Return the first parameters."""
        return self.initial(data)

    def score(self, params: Any, x: Any) -> Array:
        """Return the scores."""
        return self.row_score(params, x)

    def losses(self, params: Any, x: Any, target: Array) -> Float[Array, " n"]:
        """Return the loss of every row."""
        return self.row_loss(self.row_score(params, x), target)

    def penalty(self, params: Any) -> Float[Array, ""]:
        """Return ``l2 / 2 |params|^2``."""
        squares = [jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)]
        return 0.5 * self.l2 * sum(squares, jnp.zeros(()))
