"""Networks that ROME is compared with: plain, group DRO, ARL and JTT."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.latent import NeuralData, neural_data
from jaxsteer.latent._fit_neural import fit_networks
from jaxsteer.latent._moe import Mlps, mixed, outputs
from jaxsteer.latent._neural_fit import NeuralFit
from jaxsteer.latent._objectives import Average, RowLosses, part_losses
from jaxsteer.latent._train import TrainOptions
from jaxsteer.linalg import matmul

METHODS = ("plain", "group_dro", "arl", "jtt")


class PlainMLP(nnx.Module):
    """One network of one hidden layer, in the interface of :class:`RomeMoE`.

    Args:
        n_features: Columns ``a`` that are not sensitive.
        n_sensitive: Sensitive columns ``s``.
        n_classes: Classes, or None for a real outcome.
        hidden: Hidden units.
        sees_sensitive: Whether it sees ``s`` beside ``a``.
        rngs: Where the weights are drawn from.
    """

    def __init__(
        self,
        n_features: int,
        n_sensitive: int,
        n_classes: int | None = None,
        *,
        hidden: int = 128,
        sees_sensitive: bool = True,
        rngs: nnx.Rngs,
    ):
        self.n_classes = n_classes
        self.sees_sensitive = sees_sensitive
        outputs = 1 if n_classes is None else n_classes
        width = n_features + n_sensitive * sees_sensitive
        self.network = Mlps(width, hidden, outputs, 1, rngs=rngs)

    def parts(
        self, a: Float[Array, "n p"], s: Float[Array, "n q"]
    ) -> tuple[Float[Array, "n 1"], Float[Array, "n 1 ..."]]:
        """A gate that is always open, and the network's outputs."""
        seen = jnp.concatenate([a, s], -1) if self.sees_sensitive else a
        found = outputs(self.network(seen), self.n_classes)
        return jnp.zeros((a.shape[0], 1), found.dtype), found

    def __call__(
        self, a: Float[Array, "n p"], s: Float[Array, "n q"]
    ) -> Float[Array, "n ..."]:
        """``[n]`` means, or ``[n, C]`` log-probabilities."""
        return mixed(*self.parts(a, s))


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupDRO(Average):
    """``sum_g q_g loss_g`` with ``q_g`` raised by ``exp(eta loss_g)`` at each batch.

    Attributes:
        step: ``eta``.
        n_groups: Known groups.
    """

    step: float = 0.01
    n_groups: int = 2

    def start(self, key: Any, n_inputs: int, n_groups: int) -> tuple[Any, Any]:
        """Equal weights of the groups."""
        del key, n_inputs, n_groups
        return (), jnp.zeros(self.n_groups)

    def _parts(self, rows: RowLosses):
        hot = jax.nn.one_hot(rows.group, self.n_groups, dtype=rows.losses.dtype)
        return part_losses(rows, hot)

    def loss(self, rows: RowLosses, learned: Any, memory: Any) -> tuple[Array, Any]:
        """The weighted loss; groups that a batch lacks keep their weight."""
        del learned
        parts, filled = self._parts(rows)
        seen = jax.lax.stop_gradient(jnp.where(filled, parts, 0.0))
        memory = memory + self.step * seen
        q = jnp.where(filled, jax.nn.softmax(memory), 0.0)
        total = jnp.sum(q)
        return jnp.sum(q * parts) / jnp.where(total > 0, total, 1.0), memory

    def score(self, rows: RowLosses) -> Array:
        """Loss of the worst known group."""
        parts, filled = self._parts(rows)
        return jnp.max(jnp.where(filled, parts, -jnp.inf))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversary(Average):
    """Adversarially reweighted learning: a linear adversary picks the weights.

    ``lambda_i = 1 + m sigmoid(w' z_i) / sum_j sigmoid(w' z_j)`` for a batch of `m` rows
    and ``z`` the columns and the outcome; the model lowers and the adversary raises
    ``mean lambda_i loss_i``.
    """

    def start(self, key: Any, n_inputs: int, n_groups: int) -> tuple[Any, Any]:
        """An adversary that is nearly even."""
        del n_groups
        return 0.01 * jax.random.normal(key, (n_inputs + 1,)), ()

    def loss(self, rows: RowLosses, learned: Any, memory: Any) -> tuple[Array, Any]:
        """The reweighted loss; the trainer turns the adversary's gradient around."""
        logits = matmul(rows.inputs, learned[1:]) + learned[0]
        pull = rows.weights * jax.nn.sigmoid(logits)
        mass, total = jnp.sum(rows.weights), jnp.sum(pull)
        pull = pull * mass / jnp.where(total > 0, total, 1.0)
        weights = rows.weights + pull
        total = jnp.where(mass > 0, mass, 1.0)
        return jnp.sum(weights * rows.losses) / total, memory


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
    data = neural_data(
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
