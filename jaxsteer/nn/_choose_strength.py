"""How much: the measured effect of each strength on a model's output, and its cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Bool, Float, Int
from jaxsteer.nn._group_steer import set_groups
from jaxsteer.nn._paths import Path
from jaxsteer.nn._select import find_output, get
from jaxsteer.nn._steered import set_positions, set_strength

Lengths = TypeVar("Lengths", bound=ArrayLike)
Effect = Callable[[Array, Array, Array], Array]


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class StrengthChoice:
    """Effect and cost of each strength, row by row, and the strength that was chosen.

    The choice is made on the training rows; report the figures of the others.

    Attributes:
        strengths: ``[S]``.
        effect: ``[S, n]``, each row's effect less its effect without steering.
        kl: ``[S, n]``, divergence of the steered from the plain law of the next token,
            in nats, the mean over a row's tokens.
        surprise: ``[S, n]``, mean negative log-likelihood of a row's tokens, in nats.
        plain_surprise: ``[n]``, the same without steering.
        tokens: ``[n]``, how many tokens of a row are predicted.
        train: ``[n]``, which rows the choice is made on.
        allowed: ``[S]``, whether the training rows keep to the limits.
        best: Place of the choice in `strengths`, -1 for none: no strength that is
            allowed has an effect above 0.
    """

    strengths: Float[Array, " S"]
    effect: Float[Array, "S n"]
    kl: Float[Array, "S n"]
    surprise: Float[Array, "S n"]
    plain_surprise: Float[Array, " n"]
    tokens: Int[Array, " n"]
    train: Bool[Array, " n"]
    allowed: Bool[Array, " S"]
    best: Int[Array, ""]

    @property
    def strength(self) -> float:
        """The strength that was chosen; 0 for none."""
        return float(self.strengths[self.best]) if int(self.best) >= 0 else 0.0

    def summary(self, *, train: bool = False, level: float = 0.95) -> dict[str, Array]:
        """Return means over rows, ``[S]`` each.

        Args:
            train: Of the training rows instead of the others.
            level: Of the interval of the effect, by the normal law of means.

        Returns:
            ``effect`` with ``low`` and ``high``, ``kl``, and ``perplexity`` as a multiple
            of the plain one.
        """
        rows = self.train if train else ~self.train
        return _summary(self, rows.astype(self.effect.dtype), level)


def choose_strength(
    model: nnx.Module,
    inputs: Int[ArrayLike, "n T"],
    effect: Effect,
    *,
    strengths: Sequence[float],
    train: Bool[ArrayLike, " n"],
    lengths: Int[ArrayLike, " n"] | None = None,
    group: Int[ArrayLike, " n"] | None = None,
    positions: str | ArrayLike | None = None,
    max_kl: float = 0.1,
    max_perplexity: float = 1.1,
    batch_size: int = 32,
    run: Callable[..., Array] | None = None,
    path: Path | None = None,
) -> StrengthChoice:
    """Measure what steering does to a language model, and choose how much of it.

    The largest effect on the training rows among the strengths that keep to both limits
    there. One program is compiled for all strengths and batches.

    Args:
        model: With steering inserted; it stays as it is. Call ``model.eval()`` first.
        inputs: ``[n, T]`` tokens, padded on the right.
        effect: What is wanted, given the log-probabilities ``[B, T, V]`` of the next
            token, the tokens ``[B, T]`` and the lengths ``[B]`` of a batch: a number for
            each row, more is better. It is traced, so that it must be a function of JAX.
        strengths: Those to try, ``[S]``.
        train: ``[n]``, the rows to choose on; the others are for the report.
        lengths: ``[n]``; None takes T for all.
        group: ``[n]`` codes for the layers that take groups.
        positions: Which tokens are steered, as :func:`set_positions` takes it, with these
            lengths; None leaves what was said.
        max_kl: Limit of the mean divergence of the next token's law, in nats a token.
        max_perplexity: Limit of the perplexity, as a multiple of the plain one.
        batch_size: Rows a pass.
        run: Calls the model, ``run(model, tokens)``; None calls ``model(tokens)``. The
            only floating array of what it returns are the logits.
        path: Steering at one place only is varied; None varies all of it.

    Returns:
        The figures of every row, and the choice.

    Raises:
        ValueError: If shapes do not fit, no row or every row is a training row, or the
            model has no steering layer.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxsteer import AffineMap
        >>> from jaxsteer.nn import AffineSteer, choose_strength, insert_steering
        >>> model = nnx.Sequential(nnx.Embed(3, 2, rngs=nnx.Rngs(0)), lambda x: x @ w)
        >>> w, up = jnp.eye(2, 3), AffineMap(jnp.eye(2), jnp.array([1.0, 0.0]))
        >>> _ = insert_steering(model, "layers.0", AffineSteer(up))
        >>> found = choose_strength(
        ...     model, jnp.zeros((4, 2), int), lambda law, *_: law[:, -1, 0],
        ...     strengths=[0.0, 0.1, 0.2, 9.0], train=jnp.arange(4) < 2, max_perplexity=9)
        >>> round(found.strength, 1)
        0.2
    """
    tokens = jnp.asarray(inputs)
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(
            f"inputs has dtype {tokens.dtype} and shape {tokens.shape}, expected tokens "
            f"[n, T]."
        )
    n, length = tokens.shape
    lengths = jnp.full(n, length) if lengths is None else jnp.asarray(lengths)
    train = check_train(train, n)
    for name, value in (("lengths", lengths), ("group", group)):
        if value is not None and np.shape(value) != (n,):
            raise ValueError(f"{name} has shape {np.shape(value)}, expected ({n},).")
    values = jnp.asarray(strengths, jnp.float32)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"strengths has shape {values.shape}, expected [S].")
    twin, parts = twin_of(model), []
    for rows in batches_of(n, batch_size):
        told = tell(twin, lengths[rows], group, rows, positions)
        plain, measured = None, []
        for value in (0.0, *np.asarray(values).tolist()):
            set_strength(twin, value, path=path)
            law = log_laws(twin, tokens[rows], run)
            plain = law if plain is None else plain
            measured.append(_figures(law, plain, tokens[rows], told, effect))
        parts.append(jax.tree.map(lambda *a: jnp.stack(a), *measured))
    every = jax.tree.map(lambda *a: jnp.concatenate(a, axis=1)[:, :n], *parts)
    reached, kl, surprise = every
    choice = StrengthChoice(
        strengths=values,
        effect=reached[1:] - reached[:1],
        kl=kl[1:],
        surprise=surprise[1:],
        plain_surprise=surprise[0],
        tokens=jnp.clip(lengths - 1, 0),
        train=train,
        allowed=jnp.zeros(values.shape, bool),
        best=jnp.int32(-1),
    )
    seen = choice.summary(train=True)
    allowed = (seen["kl"] <= max_kl) & (seen["perplexity"] <= max_perplexity)
    gain = jnp.where(allowed, seen["effect"], -jnp.inf)
    best = jnp.where(gain.max() > 0, jnp.argmax(gain), -1)
    return dataclasses.replace(choice, allowed=allowed, best=best)


def batches_of(n: int, size: int) -> list[np.ndarray]:
    """Return the rows of each pass; the last one is filled up with row 0."""
    if size < 1:
        raise ValueError(f"batch_size={size} must be at least 1.")
    size = min(size, n)
    starts = range(0, n, size)
    rows = [np.arange(s, s + size) for s in starts]
    return [np.where(part < n, part, 0) for part in rows]


def check_train(train: Any, n: int) -> Array:
    """Return booleans ``[n]`` with rows on both sides, or raise."""
    train = jnp.asarray(train)
    if train.dtype != jnp.bool_ or train.shape != (n,):
        raise ValueError(
            f"train has dtype {train.dtype} and shape {train.shape}, expected booleans "
            f"({n},): True for the rows to choose on, False for those to report."
        )
    if bool(train.all()) or not bool(train.any()):
        raise ValueError(
            "train is the same for all rows; keep some to choose on, some to report."
        )
    return train


def tell(
    model: nnx.Module,
    lengths: Lengths,
    group: Any,
    rows: np.ndarray,
    positions: str | ArrayLike | None,
) -> Lengths:
    """Tell the layers of a model what the next batch is, and return its lengths."""
    if group is not None:
        set_groups(model, jnp.asarray(group)[rows])
    if positions is not None:
        if not isinstance(positions, str) and np.ndim(positions) == 2:
            positions = jnp.asarray(positions)[rows]
        set_positions(model, positions, lengths=lengths)
    return lengths


@partial(nnx.jit, static_argnames="run")
def log_laws(model: Any, tokens: Array, run: Any = None) -> Float[Array, "B T V"]:
    """Return log-probabilities of the next token after each token."""
    output = model(tokens) if run is None else run(model, tokens)
    logits = get(output, find_output(output, None, None))
    if logits.ndim != 3 or logits.shape[:2] != tokens.shape:
        raise ValueError(
            f"The model returned logits of shape {logits.shape} for tokens "
            f"{tokens.shape}, expected [B, T, V]; pass run=... that returns them."
        )
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    return jax.nn.log_softmax(logits.astype(wide), axis=-1)


def twin_of(model: nnx.Module) -> Any:
    """Return a model of the same arrays whose layers may be told other things."""
    return nnx.clone(model)


@partial(jax.jit, static_argnames="effect")
def _figures(
    law: Array, plain: Array, tokens: Array, lengths: Array, effect: Callable[..., Any]
):
    place = jnp.arange(tokens.shape[1])
    there = place < lengths[:, None]
    kl = jnp.sum(jnp.exp(law) * (law - plain), -1)
    kl = jnp.sum(jnp.where(there, kl, 0), 1) / jnp.clip(lengths, 1)
    said = jnp.take_along_axis(law[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0]
    surprise = -jnp.sum(jnp.where(there[:, 1:], said, 0), 1)
    surprise = surprise / jnp.clip(lengths - 1, 1)
    found = effect(law, tokens, lengths)
    if found.shape != lengths.shape:
        raise ValueError(
            f"effect returned shape {found.shape}, expected {lengths.shape}: one number "
            f"a row."
        )
    return found, kl, surprise


@jax.jit
def _summary(choice: StrengthChoice, rows: Array, level: Array):
    count = jnp.sum(rows)
    mean = choice.effect @ rows / count
    spread = (choice.effect - mean[:, None]) ** 2 @ rows / jnp.clip(count - 1, 1)
    reach = jax.scipy.special.ndtri((1 + level) / 2) * jnp.sqrt(spread / count)
    weights = rows * choice.tokens
    weights = weights / jnp.clip(jnp.sum(weights), 1)
    rise = (choice.surprise - choice.plain_surprise) @ weights
    return {
        "effect": mean,
        "low": mean - reach,
        "high": mean + reach,
        "kl": choice.kl @ rows / count,
        "perplexity": jnp.exp(rise),
    }
