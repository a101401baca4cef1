"""Networks to compare with: plain, group DRO, ARL and JTT."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsteer._errors import check_choice
from jaxsteer._types import ArrayLike, Float, Int
from jaxsteer.latent._fit_neural import NeuralData, check_data, fit_networks
from jaxsteer.latent._moe import PlainMLP
from jaxsteer.latent._neural_fit import NeuralFit
from jaxsteer.latent._objectives import Adversary, Average, GroupDRO
from jaxsteer.latent._train import TrainOptions

METHODS = ("plain", "group_dro", "arl", "jtt")


def neural_data(
    y: ArrayLike,
    a: Float[ArrayLike, "n p"],
    s: Float[ArrayLike, "n q"],
    *,
    family: str = "normal",
    n_classes: int | None = None,
    weights: Float[ArrayLike, " n"] | None = None,
    group: Int[ArrayLike, " n"] | None = None,
) -> NeuralData:
    """Check rows for the functions that train several networks side by side.

    Args:
        y: ``[n]`` outcomes, or class codes.
        a: ``[n, p]`` columns that are not sensitive.
        s: ``[n, q]`` sensitive columns.
        family: "normal", "bernoulli" or "categorical".
        n_classes: Number of classes; None takes the largest code plus one.
        weights: ``[n]`` sample weights.
        group: ``[n]`` known groups, for "group_dro".

    Returns:
        The rows.

    Raises:
        ValueError: If an argument is unusable.
    """
    return check_data(
        y, a, s, family=family, n_classes=n_classes, weights=weights, group=group
    )


def fit_robust_mlp(
    y: ArrayLike,
    a: Float[ArrayLike, "n p"],
    s: Float[ArrayLike, "n q"],
    *,
    method: str = "plain",
    group: Int[ArrayLike, " n"] | None = None,
    family: str = "normal",
    n_classes: int | None = None,
    weights: Float[ArrayLike, " n"] | None = None,
    seed: int = 0,
    **options: Any,
) -> NeuralFit:
    """Train a network of one hidden layer by a method that ROME is compared with.

    Args:
        y: ``[n]`` outcomes, or class codes.
        a: ``[n, p]`` columns that are not sensitive.
        s: ``[n, q]`` sensitive columns.
        method: "plain": the mean loss. "group_dro": known groups, weights raised by
            the exponential of their losses. "arl": a linear adversary chooses the
            weights, no groups known. "jtt": a first network's errors weigh more in a
            second one, no groups known.
        group: ``[n]`` known groups; needed by "group_dro" and by nothing else.
        family: "normal", "bernoulli" or "categorical".
        n_classes: Number of classes.
        weights: ``[n]`` sample weights.
        seed: Of weights, batches and the validation rows.
        **options: See :func:`fit_robust_mlp_many`.

    Returns:
        The network at its best epoch.

    Raises:
        ValueError: If an argument is unusable.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> a, s = rng.normal(size=(100, 2)), rng.integers(0, 2, (100, 1))
        >>> fit = fit_robust_mlp(
        ...     a[:, 0], a, s, method="group_dro", group=s[:, 0], hidden=4, epochs=2
        ... )
        >>> fit.best_epoch in (1, 2)
        True

    References:
        Sagawa et al. 2020, "Distributionally robust neural networks" (arXiv
        1911.08731); Lahoti et al. 2020, "Fairness without demographics through
        adversarially reweighted learning" (arXiv 2006.13114); Liu et al. 2021, "Just
        train twice" (arXiv 2107.09044).
    """
    data = check_data(
        y, a, s, family=family, n_classes=n_classes, weights=weights, group=group
    )
    if (group is None) == (method == "group_dro"):
        raise ValueError(
            "group is needed by method='group_dro', which learns from known groups, "
            f"and taken by no other; got method={method!r}."
        )
    return fit_robust_mlp_many([data], [seed], method=method, **options)[0]


def fit_robust_mlp_many(
    datasets: Sequence[NeuralData],
    seeds: Sequence[int],
    *,
    method: str = "plain",
    hidden: int = 128,
    sees_sensitive: bool = True,
    step: float = 0.01,
    first_epochs: int = 10,
    error_share: float = 0.2,
    upweight: float = 5.0,
    validation: float = 0.15,
    progress: Any = None,
    **options: Any,
) -> list[NeuralFit]:
    """:func:`fit_robust_mlp` for several splits or seeds side by side.

    Args:
        datasets: Rows of equal shapes, from :func:`neural_data`.
        seeds: One a data set.
        method: As there.
        hidden: Hidden units.
        sees_sensitive: Whether the network sees the sensitive columns.
        step: Of the group weights ("group_dro").
        first_epochs: Epochs of the first network ("jtt").
        error_share: Part of the rows with the largest squared errors that count as
            errors of a real outcome; of classes it is the misclassified rows ("jtt").
        upweight: Weight of errors ("jtt").
        validation: Part of the rows that early stopping watches.
        progress: Called as ``progress(epoch, figures)`` after every epoch.
        **options: Of training: `learning_rate`, `weight_decay`, `decay`, `epochs`,
            `batch_size` and `patience`.

    Returns:
        The fits, in order.

    Raises:
        ValueError: If an argument is unusable.
    """
    check_choice("method", method, METHODS)
    objective: Average = Average()
    if method == "group_dro":
        n_groups = max(data.n_groups for data in datasets)
        objective = GroupDRO(step=float(step), n_groups=n_groups)
    elif method == "arl":
        objective = Adversary()
    shared = {
        "model": PlainMLP,
        "settings": {"hidden": hidden, "sees_sensitive": sees_sensitive},
        "objective": objective,
        "validation": validation,
        "progress": progress,
    }
    if method == "jtt":
        if not 0 < error_share < 1:
            raise ValueError(f"error_share={error_share!r} must be between 0 and 1.")
        first = TrainOptions(**{**options, "epochs": first_epochs, "patience": None})
        found = fit_networks(datasets, seeds, options=first, **shared)
        datasets = [
            _heavier(data, fit, error_share, upweight)
            for data, fit in zip(datasets, found, strict=True)
        ]
    return fit_networks(datasets, seeds, options=TrainOptions(**options), **shared)


def _heavier(
    data: NeuralData, fit: NeuralFit, error_share: float, upweight: float
) -> NeuralData:
    """The rows, with the errors of a first network weighing more."""
    found = np.asarray(fit.predict(data.a, data.s))
    if data.n_classes is None:
        loss = (found - data.y) ** 2
        wrong = loss > np.quantile(loss, 1 - error_share)
    elif found.ndim == 1:
        wrong = (found > 0.5) != (data.y == 1)
    else:
        wrong = found.argmax(1) != data.y
    weights = data.weights * np.where(wrong, upweight, 1.0)
    return dataclasses.replace(data, weights=weights)
