"""ROME's mixtures of experts as scikit-learn estimators."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsteer._types import Columns
from jaxsteer.estimators._base import GroupClassifier, Rows
from jaxsteer.estimators._latent import (
    EncodesSensitive,
    LatentRegressor,
    both_classes,
)
from jaxsteer.latent import NeuralFit, fit_rome_moe
from jaxsteer.latent._neural_fit import MODELS, Scales


class _Experts(EncodesSensitive):
    """What the mixtures of experts share."""

    def __init__(
        self,
        *,
        variant: str = "standard",
        alpha: float = 0.05,
        n_experts: int = 3,
        hidden: int = 64,
        gate_hidden: int = 32,
        learning_rate: float = 0.01,
        weight_decay: float = 0.0,
        epochs: int = 30,
        batch_size: int = 64,
        validation: float = 0.15,
        patience: int | None = 10,
        random_state: int = 0,
        sensitive_columns: Columns = None,
    ):
        self.variant = variant
        self.alpha = alpha
        self.n_experts = n_experts
        self.hidden = hidden
        self.gate_hidden = gate_hidden
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation = validation
        self.patience = patience
        self.random_state = random_state
        self.sensitive_columns = sensitive_columns

    @property
    def fit_(self) -> NeuralFit:
        """The network, built from the NumPy arrays that are kept."""
        if not hasattr(self, "_built"):
            self._built = _unpack(self.network_)
        return self._built

    def __getstate__(self) -> dict[str, Any]:
        """Leave the built network out of what is written."""
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_built"}

    def _fit_network(self, rows: Rows, family: str) -> None:
        options = self.get_params()
        options.pop("sensitive_columns")
        seed = int(options.pop("random_state") or 0)
        found = fit_rome_moe(
            rows.label,
            rows.X,
            self._encoded(rows),
            family=family,
            weights=rows.weight,
            seed=seed,
            **options,
        )
        self.network_: dict[str, Any] = _pack(found)
        # As it will be once stored and read again; prediction changes no attribute.
        self._built = _unpack(self.network_)

    def _outcome(self, rows: Rows) -> np.ndarray:
        return np.asarray(self.fit_.predict(rows.X, self._encode(rows.group)), float)


class RomeMoERegressor(LatentRegressor, _Experts):
    """A mixture of experts that minds its worst expert.

    Arguments as for :func:`jaxsteer.latent.fit_rome_moe`; `random_state` is its seed,
    `sensitive_columns` as in :class:`IdealSteering`.

    Attributes:
        network_: The trained network in NumPy arrays.
        fit_: The :class:`jaxsteer.latent.NeuralFit`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X, s = rng.normal(size=(200, 2)), rng.choice(["f", "m"], 200)
        >>> model = RomeMoERegressor(hidden=8, epochs=1)
        >>> model = model.fit(X, X[:, 0], sensitive_features=s)
        >>> model.predict(X, sensitive_features=s).shape
        (200,)
    """

    def _fit(self, rows: Rows) -> None:
        self._fit_network(rows, "normal")


class RomeMoEClassifier(GroupClassifier, _Experts):
    """A mixture of experts for classes; see :class:`RomeMoERegressor`.

    Attributes:
        classes_: The labels, ``[C]``.
        network_: The trained network in NumPy arrays.
        fit_: The :class:`jaxsteer.latent.NeuralFit`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X, s = rng.normal(size=(200, 2)), rng.choice(["f", "m"], 200)
        >>> y = np.where(X[:, 0] > 0, "yes", "no")
        >>> model = RomeMoEClassifier(hidden=8, epochs=1)
        >>> model.fit(X, y, sensitive_features=s).predict_proba(
        ...     X, sensitive_features=s
        ... ).shape
        (200, 2)
    """

    def _fit(self, rows: Rows) -> None:
        binary = len(self.classes_) == 2
        self._fit_network(rows, "bernoulli" if binary else "categorical")

    def _probabilities(self, rows: Rows) -> np.ndarray:
        return both_classes(self._outcome(rows))


def _pack(fit: NeuralFit) -> dict[str, Any]:
    """The network as plain settings and NumPy arrays."""
    leaves = jax.tree.leaves(nnx.state(fit.model))
    return {
        "model": type(fit.model).__name__,
        "leaves": [np.asarray(leaf) for leaf in leaves],
        "scales": {n: np.asarray(getattr(fit.scales, n)) for n in ("a", "s", "y")},
        "family": fit.family,
        "settings": dict(fit.settings),
        "best_epoch": int(fit.best_epoch),
        "best_score": float(fit.best_score),
        "history": {name: np.asarray(v) for name, v in fit.history.items()},
    }


def _unpack(packed: dict[str, Any]) -> NeuralFit:
    model = MODELS[packed["model"]](**packed["settings"], rngs=nnx.Rngs(0))
    graph, state = nnx.split(model)
    leaves = [jnp.asarray(leaf) for leaf in packed["leaves"]]
    state = jax.tree.unflatten(jax.tree.structure(state), leaves)
    return NeuralFit(
        model=nnx.merge(graph, state),
        scales=Scales(**packed["scales"]),
        **{n: packed[n] for n in ("family", "settings", "best_epoch", "best_score")},
        history=packed["history"],
    )
