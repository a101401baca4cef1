"""Which tokens are steered: all, the last, those of the prompt, or those of a mask.

A decoder reads its prompt in one call and then one token a call. Which tokens a call
brings is known from the positions that the module is called with, where it is called
with any; else a call with one token is taken for a step of decoding, and a call with
more for the prompt.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, ArrayLike
from jaxsteer.nn._select import find_input, get, parameter_names

# What a wrapper calls the variables: the code, the lengths of the prompts, the mask.
POSITION_NAMES = ("steer_where", "steer_lengths", "steer_mask")
KINDS = ("all", "last", "prompt", "mask")
# Names of the argument that says where each token stands in its text.
_NAMES = (
    "positions",
    "position_ids",
    "segment_pos",
    "input_positions",
    "cache_position",
    "token_positions",
)
_AFTER_EVERY_PROMPT = np.iinfo(np.int32).max


class TokenPositions(nnx.Variable[Any]):
    """What says which tokens of the current batch are steered.

    Checkpoints do without: ``nnx.state(model, nnx.Not(TokenPositions))``.
    """


def position_variables(
    positions: str | ArrayLike, lengths: Any, stack: tuple[int, ...]
) -> dict[str, TokenPositions]:
    """Return the variables of a wrapper that keep `positions` and `lengths`.

    Args:
        positions: One of "all", "last", "prompt", or booleans ``[T]`` or ``[B, T]``.
        lengths: Tokens of each prompt ``[B]``, one number for all, or None.
        stack: Leading axes of the module's variables, which a scan takes away.

    Raises:
        ValueError: If `positions` is none of these, or `lengths` are no integers.
    """

    def keep(value: Any) -> TokenPositions:
        return TokenPositions(jnp.broadcast_to(value, stack + jnp.shape(value)))

    found: dict[str, TokenPositions] = {}
    if isinstance(positions, str):
        check_choice("positions", positions, KINDS[:-1])
        found["steer_where"] = keep(jnp.int32(KINDS.index(positions)))
    else:
        mask = jnp.asarray(positions)
        if mask.dtype != jnp.bool_ or mask.ndim == 0:
            raise ValueError(
                f"positions has dtype {mask.dtype} and shape {mask.shape}, expected "
                f"'all', 'last', 'prompt' or booleans [T] or [B, T], True for the tokens "
                f"to steer; how much a token is steered is the strength [B, T]."
            )
        found["steer_where"] = keep(jnp.int32(KINDS.index("mask")))
        found["steer_mask"] = keep(mask)
    if lengths is not None:
        lengths = jnp.asarray(lengths)
        if not jnp.issubdtype(lengths.dtype, jnp.integer):
            raise ValueError(
                f"lengths has dtype {lengths.dtype}, expected integers: the number of "
                f"tokens of each prompt."
            )
        found["steer_lengths"] = keep(lengths.astype(jnp.int32))
    return found


def positions_of_call(
    base: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    tokens: tuple[int, ...],
    which: Any,
) -> Array | None:
    """Return where the tokens of this call stand in their texts, if the call says so.

    Args:
        base: The module.
        args: What it is called with.
        kwargs: The same by keyword.
        tokens: Shape ``[..., T]`` of the activations without their features.
        which: The argument, as ``which`` of an insertion; None looks for a known name.

    Returns:
        ``[..., T]`` or ``[T]`` integers, or None.
    """
    if which is None:
        names = parameter_names(base)
        found = [n for n in _NAMES if n in kwargs or n in names[: len(args)]]
        values = [get((args, kwargs), _named(base, args, kwargs, n)) for n in found]
        values = [v for v in values if _fits(v, tokens)]
        return values[0] if len(values) == 1 else None
    value = get((args, kwargs), find_input(base, args, kwargs, which, None))
    if not _fits(value, tokens):
        raise ValueError(
            f"position_ids={which!r} leads to {value.dtype}{list(value.shape)}, expected "
            f"integers with shape {tokens} or {tokens[-1:]}: one for each token."
        )
    return value


def tokens_to_steer(
    where: Array,
    lengths: Array | None,
    mask: Array | None,
    positions: Array | None,
    tokens: tuple[int, ...],
) -> Array:
    """Return booleans ``[..., T]``: which tokens of this call are steered.

    Args:
        where: Scalar code, a place in ``KINDS``.
        lengths: Tokens of each prompt, or None for as many as its call brings.
        mask: Tokens to steer, ``[T]`` or ``[B, T]``; used where the code says so.
        positions: What :func:`positions_of_call` returned.
        tokens: Shape ``[..., T]``.
    """
    check_token_axis("positions", tokens)
    one = tokens[-1] == 1
    if positions is not None:
        place = jnp.broadcast_to(positions, tokens).astype(jnp.int32)
    else:
        place = jnp.full(tokens, _AFTER_EVERY_PROMPT) if one else jnp.arange(tokens[-1])
        place = jnp.broadcast_to(place, tokens)
    if lengths is not None:
        end = _leading("lengths", lengths, tokens)
    else:
        # Without lengths the prompt ends where its call ends. A call with one token is a
        # step of decoding, whose token is the last one and none of the prompt's.
        end = place if one else place[..., -1:] + 1
    choices = [jnp.ones(tokens, bool), place >= end - 1, place < end]
    if mask is not None:
        choices.append(entries_of_tokens("positions", mask, positions, tokens))
    # Codes beyond the choices (a mask that is not there) steer nothing.
    rest = jnp.zeros(tokens, bool)
    return jnp.select([where == i for i in range(len(choices))], choices, rest)


def entries_of_tokens(
    name: str, values: Array, positions: Array | None, tokens: tuple[int, ...]
) -> Array:
    """Return each token's entry of ``[T]`` or ``[..., T]`` values of a whole prompt.

    Tokens after the last entry, such as those that a decoder adds, have 0 or False.
    """
    check_token_axis(name, tokens)
    length = values.shape[-1]
    if values.shape[:-1] not in ((), tokens[:-1]):
        raise ValueError(
            f"{name} has shape {values.shape}, expected entries [T], or one row an "
            f"example, [{', '.join(map(str, tokens[:-1]))}, T], of activations with "
            f"axes {tokens} before the features."
        )
    if positions is None:
        if length == tokens[-1]:
            return jnp.broadcast_to(values, tokens)
        if tokens[-1] == 1:
            return jnp.zeros(tokens, values.dtype)
        raise ValueError(
            f"{name} has {length} tokens and the activations have {tokens[-1]}; pass one "
            f"entry a token, or call the module with positions (position_ids=...)."
        )
    place = jnp.broadcast_to(positions, tokens)
    values = jnp.broadcast_to(values, (*tokens[:-1], length))
    inside = (place >= 0) & (place < length)
    entries = jnp.take_along_axis(values, jnp.clip(place, 0, length - 1), axis=-1)
    return jnp.where(inside, entries, jnp.zeros((), values.dtype))


def check_token_axis(name: str, tokens: tuple[int, ...]) -> None:
    """Raise unless activations have an axis of tokens."""
    if not tokens:
        raise ValueError(
            f"{name} speaks of tokens, and the activations are one vector; steer them "
            f"without, or give them an axis of tokens before the features."
        )


def _leading(name: str, values: Array, tokens: tuple[int, ...]) -> Array:
    if values.shape != tokens[: values.ndim] or values.ndim >= len(tokens):
        raise ValueError(
            f"{name} has shape {values.shape}, expected one entry an example of "
            f"activations with axes {tokens} before the features, or a scalar."
        )
    return values.reshape(values.shape + (1,) * (len(tokens) - values.ndim))


def _named(
    base: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> tuple[Any, ...]:
    if name in kwargs:
        return (1, name)
    return (0, parameter_names(base).index(name))


def _fits(value: Any, tokens: tuple[int, ...]) -> bool:
    return (
        isinstance(value, jax.Array | np.ndarray)
        and jnp.issubdtype(value.dtype, jnp.integer)
        and value.shape in (tokens, tokens[-1:], (1,) * (len(tokens) - 1) + tokens[-1:])
    )
