"""Demographic parity, equal opportunity, equalized odds: differences of rates."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxsteer._errors import is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Scalar
from jaxsteer.pareto._data import GroupData
from jaxsteer.pareto._metric import (
    Metric,
    class_masks,
    hard_decisions,
    hard_gap,
    require_rows,
    smooth_gap,
    soft_decisions,
)
from jaxsteer.pareto._model import Outputs


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class DemographicParity(Metric):
    """Difference between groups in ``P(predict i)``, or in the mean prediction.

    Smooth: :func:`smooth_gap` of the mean soft decisions, averaged over the classes.
    Hard: as :func:`jaxsteer.metrics.demographic_parity`.

    Attributes:
        temperature: Of the soft decisions; small is near the hard ones.
        smoothing: Of the difference.

    Example:
        >>> DemographicParity(temperature=0.1).temperature  # nearer to hard decisions
        0.1
    """

    temperature: Scalar = 1.0
    smoothing: Scalar = 0.1

    def smooth(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the smooth difference."""
        soft = soft_decisions(outputs.score, data, self.temperature)
        return jnp.mean(smooth_gap(data.group_mean(soft), self.smoothing))

    def hard(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the largest difference of a selection rate."""
        return hard_gap(data.group_mean(hard_decisions(outputs.score, data)))


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class EqualOpportunity(Metric):
    """Difference between groups in ``P(predict positive | positive)``.

    For regression: in the mean prediction of the rows whose target is above
    `threshold`.

    Attributes:
        temperature: Of the soft decisions.
        smoothing: Of the difference.
        threshold: For regression, above which a target counts as positive.
        positive: The positive class.

    Example:
        >>> EqualOpportunity(positive=0).positive  # rows of class 0 are those to be served
        0
    """

    temperature: Scalar = 1.0
    smoothing: Scalar = 0.1
    threshold: Scalar = 0.0
    positive: int = dataclasses.field(default=1, metadata={"static": True})

    def _rates(self, decisions: Array, data: GroupData) -> Float[Array, " G"]:
        mask = class_masks(data, self.threshold)[self._class(data)]
        column = self.positive if decisions.shape[1] > 1 else 0
        return data.mean_where(decisions[:, column], mask)

    def _class(self, data: GroupData) -> int:
        return 1 if data.n_classes == 0 else self.positive

    def smooth(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the smooth difference of the true-positive rates."""
        soft = soft_decisions(outputs.score, data, self.temperature)
        return smooth_gap(self._rates(soft, data), self.smoothing)

    def hard(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the largest difference of the true-positive rates."""
        return hard_gap(self._rates(hard_decisions(outputs.score, data), data))

    def check(self, data: GroupData) -> None:
        """Raise ValueError if a group has no positive rows."""
        if data.n_classes and not 0 <= self.positive < data.n_classes:
            raise ValueError(
                f"positive={self.positive} is no class; the classes are "
                f"0..{data.n_classes - 1}."
            )
        if data.n_classes == 2 and self.positive != 1:
            raise ValueError(
                "positive must be 1 for two classes: a score counts for 1."
            )
        if is_concrete(data.share):
            mask = class_masks(data, self.threshold)[self._class(data)]
            name = f"target {self.positive}" if data.n_classes else "a target above it"
            require_rows(data, [mask], [name])


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class EqualizedOdds(Metric):
    """Difference between groups in ``P(predict j | class i)``, over all classes.

    For regression: in the mean predictions of the rows with targets up to `threshold`
    and above. Smooth: averaged over classes; hard: the largest.

    Attributes:
        temperature: Of the soft decisions.
        smoothing: Of the differences.
        threshold: For regression, where the targets are cut in two.

    Example:
        >>> EqualizedOdds(smoothing=0.01).smoothing
        0.01
    """

    temperature: Scalar = 1.0
    smoothing: Scalar = 0.1
    threshold: Scalar = 0.0

    def smooth(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the mean smooth difference."""
        soft = soft_decisions(outputs.score, data, self.temperature)
        gaps = [
            jnp.mean(smooth_gap(data.mean_where(soft, mask), self.smoothing))
            for mask in class_masks(data, self.threshold)
        ]
        return jnp.mean(jnp.stack(gaps))

    def hard(self, outputs: Outputs, data: GroupData) -> Float[Array, ""]:
        """Return the largest difference of a rate within a class."""
        decided = hard_decisions(outputs.score, data)
        gaps = [
            hard_gap(data.mean_where(decided, mask))
            for mask in class_masks(data, self.threshold)
        ]
        return jnp.max(jnp.stack(gaps))

    def check(self, data: GroupData) -> None:
        """Raise ValueError if a group has no rows of some class."""
        if is_concrete(data.share):
            masks = class_masks(data, self.threshold)
            names = [f"target {k}" for k in range(len(masks))]
            if data.n_classes == 0:
                names = ["a target up to the threshold", "a target above it"]
            require_rows(data, masks, names)
