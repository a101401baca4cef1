"""Linear models: logistic, ridge, smooth SVM, and softmax for several classes.

The intercept is a parameter like the others, in the loss, in its derivatives and in
the score that metrics read; only the penalty leaves it out.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, PyTree, Scalar
from jaxsteer.linalg import matmul
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._model import Model, unraveler


class LinearModel(Model):
    """A score ``x'w + b`` and a convex loss of it; a subclass says which."""

    l2: Scalar
    intercept: bool

    def init(self, data: GroupData) -> dict[str, Array]:
        """Return zeros."""
        params = {"coef": jnp.zeros(data.x.shape[1], data.x.dtype)}
        if self.intercept:
            params["intercept"] = jnp.zeros((), data.x.dtype)
        return params

    def score(self, params: PyTree, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """Return ``x'w + b``."""
        return matmul(x, params["coef"]) + params.get("intercept", 0.0)

    def penalty(self, params: PyTree) -> Float[Array, ""]:
        """Return ``l2 / 2 |w|^2``."""
        return 0.5 * self.l2 * jnp.sum(params["coef"] ** 2)

    def losses(self, params: PyTree, x: Array, target: Array) -> Float[Array, " n"]:
        """Return the loss of every row."""
        return self.loss(self.score(params, x), target)

    def loss(self, score: Array, target: Array) -> Float[Array, " n"]:
        """Return the loss of a score."""
        raise NotImplementedError

    def curvature(self, score: Array, target: Array) -> Float[Array, " n"]:
        """Return the second derivative of the loss by the score."""
        raise NotImplementedError

    def hessian(
        self, theta: Float[Array, " p"], data: GroupData, group_weights: Array
    ) -> Float[Array, "p p"]:
        """Return ``X' diag(weights * curvature) X`` and the penalty's part; O(n p^2)."""
        score = self.score(unraveler(self, data)(theta), data.x)
        weight = data.share * group_weights[data.group]
        weight = weight * self.curvature(score, data.target)
        d = data.x.shape[1]
        scaled = data.x * weight[:, None]
        ridge = self.l2 * jnp.sum(group_weights) * jnp.eye(d, dtype=theta.dtype)
        block = matmul(scaled.T, data.x) + ridge
        if not self.intercept:
            return block
        side = jnp.sum(scaled, 0)[:, None]
        return jnp.block([[block, side], [side.T, jnp.sum(weight)[None, None]]])


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Logistic(LinearModel):
    """Logistic regression for the classes 0 and 1.

    Attributes:
        l2: Penalty ``l2 / 2 |w|^2`` of every group's mean loss.
        intercept: Whether there is one (it is not penalized).

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(Logistic().loss(jnp.zeros(1), jnp.ones(1))[0]), 3)
        0.693
    """

    l2: Scalar = 1e-3
    intercept: bool = dataclasses.field(default=True, metadata={"static": True})
    targets: ClassVar[tuple[str, ...]] = ("binary",)

    def loss(self, score: Array, target: Array) -> Float[Array, " n"]:
        """Return ``log(1 + exp(-(2y - 1) s))``."""
        return jax.nn.softplus(jnp.where(target > 0, -score, score))

    def curvature(self, score: Array, target: Array) -> Float[Array, " n"]:
        """Return ``p (1 - p)``."""
        del target
        p = jax.nn.sigmoid(score)
        return p * (1 - p)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Ridge(LinearModel):
    """Least squares for real targets.

    Attributes:
        l2: Penalty ``l2 / 2 |w|^2`` of every group's mean loss.
        intercept: Whether there is one (it is not penalized).

    Example:
        >>> import jax.numpy as jnp
        >>> Ridge().loss(jnp.array([1.0]), jnp.array([3.0])).tolist()
        [2.0]
    """

    l2: Scalar = 1e-3
    intercept: bool = dataclasses.field(default=True, metadata={"static": True})
    targets: ClassVar[tuple[str, ...]] = ("regression",)

    def loss(self, score: Array, target: Array) -> Float[Array, " n"]:
        """Return ``(s - y)^2 / 2``."""
        return 0.5 * (score - target) ** 2

    def curvature(self, score: Array, target: Array) -> Float[Array, " n"]:
        """Return 1."""
        del target
        return jnp.ones_like(score)

    def predict(self, params: PyTree, x: Array) -> Array:
        """Return the score."""
        return self.score(params, x)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class SmoothSVM(LinearModel):
    """Support vector machine with the squared hinge loss, for the classes 0 and 1.

    The loss has one continuous derivative; its second one jumps at the margin.

    Attributes:
        l2: Penalty ``l2 / 2 |w|^2`` of every group's mean loss.
        intercept: Whether there is one (it is not penalized).

    Example:
        >>> import jax.numpy as jnp
        >>> SmoothSVM().loss(jnp.array([2.0, -2.0]), jnp.array([1, 1])).tolist()
        [0.0, 9.0]
    """

    l2: Scalar = 1e-3
    intercept: bool = dataclasses.field(default=True, metadata={"static": True})
    targets: ClassVar[tuple[str, ...]] = ("binary",)

    def loss(self, score: Array, target: Array) -> Float[Array, " n"]:
        """Return ``max(0, 1 - (2y - 1) s)^2``."""
        return jnp.maximum(1 - jnp.where(target > 0, score, -score), 0) ** 2

    def curvature(self, score: Array, target: Array) -> Float[Array, " n"]:
        """Return 2 inside the margin, else 0."""
        inside = jnp.where(target > 0, score, -score) < 1
        return 2 * inside.astype(score.dtype)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Softmax(Model):
    """Multinomial logistic regression for any number of classes.

    The first class has intercept 0: a common shift of the scores changes nothing.

    Attributes:
        l2: Penalty ``l2 / 2 |W|^2`` of every group's mean loss.
        intercept: Whether there is one for each class (they are not penalized).

    Example:
        >>> import numpy as np
        >>> from jaxsteer.pareto import group_data
        >>> data = group_data(np.eye(6), np.arange(6) % 3, np.arange(6) // 3)
        >>> sorted(Softmax().init(data))
        ['coef', 'intercept']
    """

    l2: Scalar = 1e-3
    intercept: bool = dataclasses.field(default=True, metadata={"static": True})
    targets: ClassVar[tuple[str, ...]] = ("classes",)

    def init(self, data: GroupData) -> dict[str, Array]:
        """Return zeros."""
        dtype, classes = data.x.dtype, data.n_classes
        params = {"coef": jnp.zeros((data.x.shape[1], classes), dtype)}
        if self.intercept:
            params["intercept"] = jnp.zeros(classes - 1, dtype)
        return params

    def score(self, params: PyTree, x: Float[Array, "n d"]) -> Float[Array, "n K"]:
        """Return ``x'W + b``."""
        score = matmul(x, params["coef"])
        if self.intercept:
            score = score + jnp.pad(params["intercept"], (1, 0))
        return score

    def losses(self, params: PyTree, x: Array, target: Array) -> Float[Array, " n"]:
        """Return the cross-entropy."""
        logs = jax.nn.log_softmax(self.score(params, x))
        return -jnp.take_along_axis(logs, target[:, None], 1)[:, 0]

    def penalty(self, params: PyTree) -> Float[Array, ""]:
        """Return ``l2 / 2 |W|^2``."""
        return 0.5 * self.l2 * jnp.sum(params["coef"] ** 2)
