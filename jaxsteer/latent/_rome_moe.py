"""``fit_rome_moe``: a mixture of experts that minds its worst expert."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optax

from jaxsteer._errors import check_choice
from jaxsteer._types import ArrayLike, Float, PathLike
from jaxsteer.latent._fit_neural import NeuralData, fit_networks, neural_data
from jaxsteer.latent._moe import RomeMoE
from jaxsteer.latent._neural_fit import NeuralFit
from jaxsteer.latent._objectives import WorstExpert
from jaxsteer.latent._train import Progress, TrainOptions

ASSIGNMENTS = ("hard", "soft")


def fit_rome_moe(
    y: ArrayLike,
    a: Float[ArrayLike, "n p"],
    s: Float[ArrayLike, "n q"],
    *,
    variant: str = "standard",
    alpha: float = 0.05,
    assignment: str = "hard",
    n_experts: int = 3,
    hidden: int = 64,
    gate_hidden: int = 32,
    family: str = "normal",
    n_classes: int | None = None,
    weights: Float[ArrayLike, " n"] | None = None,
    learning_rate: float = 0.01,
    weight_decay: float = 0.0,
    decay: bool = False,
    epochs: int = 30,
    batch_size: int = 64,
    validation: float = 0.15,
    patience: int | None = 10,
    optimizer: optax.GradientTransformation | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
) -> NeuralFit:
    """Train a :class:`RomeMoE` on the mean loss and the loss of its worst expert.

    ``(1 - alpha) mean_i l_i + alpha max_k mean_{i: gate of i is k} l_i`` with squared
    errors or minus log-probabilities. Columns and a real outcome are standardized; the
    best epoch on the validation rows is kept. ``alpha=0`` is a plain mixture of
    experts. Sensitive columns are needed to predict.

    Args:
        y: ``[n]`` outcomes, or class codes 0..C-1.
        a: ``[n, p]`` columns that are not sensitive.
        s: ``[n, q]`` sensitive columns.
        variant: What experts and gate see; see :class:`RomeMoE`.
        alpha: Weight of the worst expert, from 0 to 1. Where the gate sends all rows to
            one expert ("hard"), it changes nothing.
        assignment: Whose a row is: "hard" its largest gate's; "soft" every expert's by
            its share above .1.
        n_experts: Experts.
        hidden: Hidden units of each.
        gate_hidden: Hidden units of the gate.
        family: "normal", "bernoulli" or "categorical".
        n_classes: ``C``; None takes the largest code plus one.
        weights: ``[n]`` sample weights.
        learning_rate: Of Adam.
        weight_decay: Decoupled weight decay.
        decay: Whether the rate falls to zero along a cosine.
        epochs: Most passes over the rows.
        batch_size: Rows of a batch.
        validation: Part of the rows that early stopping watches; 0 watches the
            training rows.
        patience: Epochs without a better score before training stops; None never
            stops early (the best epoch is kept all the same).
        optimizer: Any optax transformation, in the place of Adam; make it once.
        seed: Of weights, batches and the validation rows.
        progress: Called as ``progress(epoch, figures)`` after every epoch.
        checkpoint: A file to write after every epoch, and to go on from where it
            exists. Arrays and JSON, no pickle.

    Returns:
        The network at its best epoch.

    Raises:
        ValueError: If an argument is unusable.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> a, s = rng.normal(size=(200, 2)), rng.normal(size=(200, 1))
        >>> y = a[:, 0] * np.sign(s[:, 0])
        >>> fit = fit_rome_moe(y, a, s, n_experts=2, hidden=8, epochs=5)
        >>> fit.predict(a, s).shape, fit.gates(a, s).shape
        ((200,), (200, 2))

    References:
        arXiv 2509.17411, algorithm 1 ("soft") and its released code ("hard").
    """
    data = neural_data(y, a, s, family=family, n_classes=n_classes, weights=weights)
    return fit_rome_moe_many(
        [data],
        [seed],
        variant=variant,
        alpha=alpha,
        assignment=assignment,
        n_experts=n_experts,
        hidden=hidden,
        gate_hidden=gate_hidden,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        decay=decay,
        epochs=epochs,
        batch_size=batch_size,
        validation=validation,
        patience=patience,
        optimizer=optimizer,
        progress=progress,
        checkpoint=checkpoint,
    )[0]


def fit_rome_moe_many(
    datasets: Sequence[NeuralData],
    seeds: Sequence[int],
    *,
    variant: str = "standard",
    alpha: float = 0.05,
    assignment: str = "hard",
    n_experts: int = 3,
    hidden: int = 64,
    gate_hidden: int = 32,
    validation: float = 0.15,
    optimizer: optax.GradientTransformation | None = None,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
    **options: Any,
) -> list[NeuralFit]:
    """:func:`fit_rome_moe` for several splits or seeds side by side, in one program.

    Args:
        datasets: Checked rows of equal shapes, from :func:`neural_data`.
        seeds: One a data set.
        variant: As there, and so on for the other options.
        alpha: As there.
        assignment: As there.
        n_experts: As there.
        hidden: As there.
        gate_hidden: As there.
        validation: As there.
        optimizer: As there.
        progress: As there; figures hold one entry a data set.
        checkpoint: As there, for all of them together.
        **options: `learning_rate`, `weight_decay`, `decay`, `epochs`, `batch_size`
            and `patience`, as there.

    Returns:
        The fits, in order.

    Raises:
        ValueError: If an argument is unusable.

    Example:
        Twenty seeds of one data set::

            data = neural_data(y, a, s)
            fits = fit_rome_moe_many([data] * 20, range(20), n_experts=2)
    """
    check_choice("assignment", assignment, ASSIGNMENTS)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha!r} must be from 0 to 1.")
    return fit_networks(
        datasets,
        seeds,
        model=RomeMoE,
        settings={
            "n_experts": n_experts,
            "hidden": hidden,
            "gate_hidden": gate_hidden,
            "variant": variant,
        },
        objective=WorstExpert(alpha=float(alpha), assignment=assignment),
        options=TrainOptions(**options),
        validation=validation,
        optimizer=optimizer,
        progress=progress,
        checkpoint=checkpoint,
    )
