"""The wrapper that steers what a submodule returns or takes, and its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxsteer._errors import check_finite
from jaxsteer._types import Array, ArrayLike, Float
from jaxsteer.nn._layer import SteeringLayer
from jaxsteer.nn._paths import Path, Slot, Wrapper
from jaxsteer.nn._select import find_input, find_output, get, put
from jaxsteer.nn._token_positions import (
    POSITION_NAMES,
    TokenPositions,
    entries_of_tokens,
    position_variables,
    positions_of_call,
    tokens_to_steer,
)
from jaxsteer.nn._variables import SteeringConstant


class StackMask(nnx.Variable[Any]):
    """Which modules of a stack are steered, ``[L]`` booleans."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SteeringOptions:
    """What does not change from call to call in an inserted layer.

    Attributes:
        which: Which of the arrays; None for the only one that can be meant.
        position_ids: Which argument says where each token stands in its text.
        stack_shape: ``(L,)`` in a stack of `L` modules, else ``()``.
    """

    which: Any = None
    position_ids: Any = None
    stack_shape: tuple[int, ...] = ()


class Steered(Wrapper):
    """A submodule whose output, or input, passes through a steering layer.

    Attributes:
        base: The submodule.
        layer: The steering layer, called with one array.
        at: ``"output"`` or ``"input"``.
        steer_options: What does not change from call to call.
    """

    steer_where: TokenPositions
    steer_layers: StackMask

    # Names that begin with "steer" are the wrapper's; paths and lookups of other names
    # go on to the submodule.
    def __init__(
        self,
        base: nnx.Module,
        layer: Callable[..., Array],
        at: str = "output",
        options: SteeringOptions | None = None,
    ):
        self.base = base
        self.layer = layer
        self.at = at
        self.steer_options: SteeringOptions = options or SteeringOptions()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the submodule and steer one array of what it takes or returns."""
        width = self.layer.width if isinstance(self.layer, SteeringLayer) else None
        if self.at == "input":
            call: Any = (args, kwargs)
            place = find_input(self.base, args, kwargs, self.steer_options.which, width)
            x = self._steer(get(call, place), args, kwargs)
            args, kwargs = put(call, place, x)
            return self.base(*args, **kwargs)
        output = self.base(*args, **kwargs)
        place = find_output(output, self.steer_options.which, width)
        return put(output, place, self._steer(get(output, place), args, kwargs))

    def _steer(self, x: Array, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Array:
        tokens = x.shape[:-1]
        options: dict[str, Any] = {}
        some = "steer_where" in vars(self)
        by_token = self._strength_by_token(tokens)
        ids = None
        if some or by_token is not None:
            which = self.steer_options.position_ids
            ids = positions_of_call(self.base, args, kwargs, tokens, which)
        if by_token is not None:
            options["strength"] = entries_of_tokens("strength", by_token, ids, tokens)
        steered = self.layer(x, **options)
        chosen = []
        if some:
            chosen.append(self._tokens(ids, tokens)[..., None])
        if "steer_layers" in vars(self):
            chosen.append(self.steer_layers[...])
        # Chosen rather than weighted: what is left alone keeps every bit, and gradients
        # of what is not used are zero.
        for mask in chosen:
            steered = jnp.where(mask, steered, x)
        return steered

    def _strength_by_token(self, tokens: tuple[int, ...]) -> Array | None:
        if not isinstance(self.layer, SteeringLayer) or len(tokens) < 2:
            return None
        strength = self.layer.strength[...]
        return strength if strength.ndim == len(tokens) else None

    def _tokens(self, ids: Array | None, tokens: tuple[int, ...]) -> Array:
        kept = [vars(self).get(name) for name in POSITION_NAMES[1:]]
        lengths, mask = [None if value is None else value[...] for value in kept]
        return tokens_to_steer(self.steer_where[...], lengths, mask, ids, tokens)


def set_positions(
    model: nnx.Module,
    positions: str | ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    path: Path | None = None,
) -> int:
    """Say which tokens are steered from now on, in every inserted layer of a model.

    "all", "last" and "prompt" are one compiled program: changing from one to another
    compiles nothing, nor do other lengths or masks of the same shape.

    Args:
        model: A model with layers inside; changed in place.
        positions: ``"all"``; ``"last"``: the last token of the prompt and, after it,
            each token that a decoder adds; ``"prompt"``: none but the prompt's; or
            booleans ``[T]`` or ``[B, T]``, True for the tokens to steer, of which later
            tokens are none.
        lengths: Tokens of each prompt ``[B]``, or one number for all. None takes a call
            with one token for a step of decoding, and a call with more for the prompt,
            all of it: give the lengths where prompts are padded, come in several calls
            or have one token.
        path: One place only.

    Returns:
        The number of layers that were set.

    Raises:
        ValueError: If the model has no layer inside, or `positions` is none of these.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxsteer.nn import insert_steering, set_positions
        >>> model = nnx.Sequential(nnx.relu)
        >>> _ = insert_steering(model, "layers.0", lambda x: x + 1)
        >>> set_positions(model, "last", lengths=jnp.array([1, 3]))
        1
        >>> model(jnp.zeros((2, 3, 1)))[..., 0].tolist()
        [[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]]
    """
    wrappers = _steered(model, path)
    for wrapper in wrappers:
        stack = wrapper.steer_options.stack_shape
        keep_positions(wrapper, position_variables(positions, lengths, stack))
    return len(wrappers)


def set_strength(
    model: nnx.Module,
    strength: Float[ArrayLike, "..."] | float,
    *,
    path: Path | None = None,
) -> int:
    """Set the strength of every inserted steering layer of a model.

    Another strength of the same shape compiles nothing.

    Args:
        model: A model with layers inside; changed in place.
        strength: A number, ``[B]`` for each example its own, or ``[B, T]`` for each
            token; tokens after the last entry, such as those that a decoder adds, are
            left as they are. Layers of a stack all take the same.
        path: One place only.

    Returns:
        The number of layers that were set.

    Raises:
        ValueError: If the model has no steering layer inside, or a strength is not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxsteer import AffineMap
        >>> from jaxsteer.nn import AffineSteer, insert_steering
        >>> model = nnx.Sequential(nnx.relu, nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
        >>> shift = AffineSteer(AffineMap(jnp.eye(2), jnp.ones(2)))
        >>> _ = insert_steering(model, "layers.1", shift)
        >>> set_strength(model, 0.5)
        1
        >>> (model(jnp.zeros((1, 2))) - model.layers[1].base(jnp.zeros((1, 2)))).tolist()
        [[0.5, 0.5]]
    """
    check_finite("strength", strength)
    value = jnp.asarray(strength, jnp.float32)
    count = 0
    for wrapper in _steered(model, path):
        layer = wrapper.layer
        if isinstance(layer, SteeringLayer):
            new = jnp.broadcast_to(value, layer.stack_shape + value.shape)
            if layer.strength.shape == new.shape:
                layer.strength[...] = new
            else:
                layer.strength = SteeringConstant(new)
            count += 1
    if not count:
        raise ValueError("The inserted layers are functions, which have no strength.")
    return count


def keep_positions(wrapper: Steered, variables: dict[str, TokenPositions]) -> None:
    """Put these variables in place of those that said which tokens to steer."""
    for name in POSITION_NAMES:
        old, new = vars(wrapper).get(name), variables.get(name)
        if old is not None and new is not None and old.shape == new.shape:
            old[...] = new[...]
        elif new is not None:
            setattr(wrapper, name, new)
        elif old is not None and name != "steer_mask":
            # A mask may stay: the code says whether it is used.
            delattr(wrapper, name)


def _steered(model: nnx.Module, path: Path | None) -> list[Steered]:
    nodes = (
        Slot(model, path).chain()
        if path is not None
        else [node for _, node in nnx.iter_graph(model)]
    )
    found = [node for node in nodes if isinstance(node, Steered)]
    if not found:
        where = "" if path is None else f" at {path!r}"
        raise ValueError(
            f"The model has no inserted layer{where}; add one with insert_steering first."
        )
    return found
