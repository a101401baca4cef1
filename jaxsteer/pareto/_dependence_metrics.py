"""Metrics that are second moments: covariances with the group, variance of losses."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_choice
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Scalar
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._metric import Metric, hard_decisions, hard_gap, soft_decisions
from jaxsteer.pareto._model import Outputs

NODES = 12  # of the quadrature over a normal law of frequencies


def group_covariance(
    values: Float[Array, "n ..."], data: GroupData
) -> Float[Array, "..."]:
    """``sum_a Cov(1[group = a], v)^2`` over all rows."""
    means = data.group_mean(values)
    mass = data.mass.reshape(-1, *[1] * (means.ndim - 1))
    return jnp.sum((mass * (means - jnp.sum(mass * means, 0))) ** 2, 0)


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class DisparateMistreatment(Metric):
    """Covariance of the group with how badly a row is misjudged.

    Smooth: half of ``sum_a Cov(1[group = a], m)^2`` (for two groups ``Cov^2``), where
    ``m`` is a smooth ``min(0, margin)``, or half the squared error for regression, or
    with ``of="score"`` the score itself, as the method's release has it. Hard: the
    largest difference between groups of the error rate, or mean squared error.

    Attributes:
        temperature: Of the smooth minimum.
        of: "errors" or "score".

    Example:
        >>> DisparateMistreatment(temperature=0.1).temperature
        0.1

    References:
        Zafar, Valera, Gomez Rodriguez and Gummadi 2017, "Fairness beyond disparate
        treatment and disparate impact".
    """

    temperature: Scalar = 1.0
    of: Literal["errors", "score"] = dataclasses.field(
        default="errors", metadata={"static": True}
    )

    def _misjudged(self, score: Array, data: GroupData) -> Array:
        if self.of == "score":
            return score
        if data.n_classes == 0:
            return 0.5 * (score - data.target) ** 2
        t = self.temperature
        if score.ndim == 1:
            margin = jnp.where(data.target > 0, score, -score)
        else:
            own = jax.nn.one_hot(data.target, score.shape[1], dtype=bool)
            others = jnp.where(own, -jnp.inf, score / t)
            margin = jnp.sum(jnp.where(own, score, 0.0), 1)
            margin = margin - t * jax.nn.logsumexp(others, 1)
        return -t * jax.nn.softplus(-margin / t)

    def smooth(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the squared covariance."""
        misjudged = self._misjudged(outputs.score, data)
        return 0.5 * jnp.sum(group_covariance(misjudged, data))

    def hard(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the largest difference of the error rates."""
        return hard_gap(data.group_mean(row_errors(outputs.score, data)))

    def check(self, data: GroupData) -> None:
        """Raise ValueError for an unknown choice."""
        del data
        check_choice("of", self.of, ("errors", "score"))


def row_errors(score: Array, data: GroupData) -> Float[Array, " n"]:
    """1 where a row's class is missed, or the squared error for regression."""
    if data.n_classes == 0:
        return (score - data.target) ** 2
    decided = (score > 0) if score.ndim == 1 else jnp.argmax(score, 1)
    return (decided != data.target).astype(data.share.dtype)


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class HSIC(Metric):
    """Hilbert-Schmidt independence criterion of decisions and group.

    ``sum_a |Cov(1[group = a], phi(s))|^2``: the kernel on groups is 1 for the same
    group and 0 otherwise, that on soft decisions is ``exp(-(s - s')^2 / (2 h^2))``
    ("rbf"; 0 only where they are independent) or ``s s'`` ("linear"). The Gaussian one
    is a quadrature over frequencies, so the cost is O(n) and not O(n^2); it is exact
    to 1e-4 for differences up to ``4 h``: choose `h` (``bandwidth``) by the spread of
    the predictions in regression. Several classes: the sum over their columns.

    Attributes:
        temperature: Of the soft decisions.
        bandwidth: ``h``.
        kernel: "rbf" or "linear".

    Example:
        >>> HSIC(bandwidth=0.5).bandwidth
        0.5

    References:
        Gretton, Bousquet, Smola and Schoelkopf 2005, "Measuring statistical dependence
        with Hilbert-Schmidt norms".
    """

    temperature: Scalar = 1.0
    bandwidth: Scalar = 0.5
    kernel: Literal["rbf", "linear"] = dataclasses.field(
        default="rbf", metadata={"static": True}
    )

    def _dependence(self, decisions: Array, data: GroupData) -> Float[Array, ""]:
        if self.kernel == "linear":
            return jnp.sum(group_covariance(decisions, data))
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        # Frequencies come in pairs of one size; their law is normal(0, 1 / h^2).
        half = nodes > 0
        frequency = jnp.asarray(nodes[half], data.share.dtype) / self.bandwidth
        weight = jnp.asarray(2 * weights[half] / weights.sum(), data.share.dtype)
        angle = decisions[..., None] * frequency
        parts = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        found = group_covariance(jnp.moveaxis(parts, 0, 1), data)
        return jnp.sum(found * weight)

    def smooth(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the criterion of the soft decisions."""
        soft = soft_decisions(outputs.score, data, self.temperature)
        return self._dependence(soft, data)

    def hard(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the criterion of the decisions."""
        return self._dependence(hard_decisions(outputs.score, data), data)

    def check(self, data: GroupData) -> None:
        """Raise ValueError for an unknown choice."""
        del data
        check_choice("kernel", self.kernel, ("rbf", "linear"))


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupLossVariance(Metric):
    """Variance over the groups of their mean losses.

    Hard: the largest difference between groups of the error rate, or mean squared
    error for regression.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.pareto import GroupLossVariance, Logistic, group_data
        >>> rng = np.random.default_rng(0)
        >>> group, y = rng.integers(0, 2, (2, 400))
        >>> x = rng.normal(size=(400, 2)) + y[:, None] * np.where(group, 2, 1)[:, None]
        >>> data = group_data(x, y, group)
        >>> model = Logistic()
        >>> from jaxsteer.pareto import fit_erm
        >>> float(fit_erm(data, model, GroupLossVariance()).value) > 0
        True
    """

    def smooth(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the variance."""
        return jnp.var(data.group_mean(outputs.losses))

    def hard(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the largest difference of the error rates."""
        return hard_gap(data.group_mean(row_errors(outputs.score, data)))
