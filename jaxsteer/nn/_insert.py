"""Steering inside a model: a layer after (or before) a submodule, and out again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxsteer._types import Array, ArrayLike
from jaxsteer.maps import Map
from jaxsteer.nn._layer import SteeringLayer
from jaxsteer.nn._paths import Path, Slot, check_at, split_path
from jaxsteer.nn._select import Which, check_which
from jaxsteer.nn._steered import StackMask, Steered, SteeringOptions, keep_positions
from jaxsteer.nn._token_positions import position_variables
from jaxsteer.nn._variables import check_stack, stack_of


class Insertion:
    """A layer that was inserted: undo with :meth:`remove`, or leave a ``with`` block.

    Attributes:
        layer: The steering layer.
    """

    def __init__(self, model: nnx.Module, path: Path, wrapper: Steered):
        self._model, self._path, self._wrapper = model, path, wrapper
        self.layer: Callable[..., Array] = wrapper.layer

    def remove(self) -> None:
        """Take the layer out; other layers around the same submodule stay.

        Raises:
            ValueError: If it is not there any more.
        """
        if not Slot(self._model, self._path).unwrap(self._wrapper):
            raise ValueError(
                f"The layer at {self._path!r} is not there any more: it was removed "
                f"before, or this part of the model was replaced."
            )

    def __enter__(self) -> Insertion:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Insertions(Mapping[Path, Insertion]):
    """Several layers that were inserted, by path; undone together."""

    def __init__(self, insertions: dict[Any, Insertion]):
        self._insertions = insertions

    def __getitem__(self, path: Any) -> Insertion:
        return self._insertions[path]

    def __iter__(self) -> Any:
        return iter(self._insertions)

    def __len__(self) -> int:
        return len(self._insertions)

    def remove(self) -> None:
        """Take out every layer, the last one first.

        Raises:
            ValueError: If one is not there any more.
        """
        for insertion in reversed(self._insertions.values()):
            insertion.remove()

    def __enter__(self) -> Insertions:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def insert_steering(
    model: nnx.Module,
    path: Path,
    layer: Callable[..., Array],
    *,
    at: str = "output",
    which: Which = None,
    positions: str | ArrayLike = "all",
    lengths: int | ArrayLike | None = None,
    position_ids: Which = None,
    layers: ArrayLike | None = None,
) -> Insertion:
    """Wrap the submodule at `path` so that what it returns passes through `layer`.

    The model is changed in place. The submodule's attributes stay reachable through the
    wrapper, but its parameters move to ``path.base``: take the layer out before saving
    a checkpoint that others read. Several layers may be inserted at one path; the last
    one acts last. In a jitted function that was given the model as an argument, as by
    ``nnx.jit``, insert and remove within the function or outside of it.

    Only calls of the submodule itself are steered. A model that calls another method of
    it (``block.decode(x)``), or its class (``nnx.remat(Block.__call__)(block, x)``),
    passes by the layer.

    Args:
        model: Any NNX module.
        path: The submodule: ``"layers.3"``, ``"encoder/blocks/3/mlp"`` or a sequence of
            names and numbers. A stack of modules that ``nnx.scan`` or ``nnx.vmap`` runs
            takes a stack of layers, such as ``AffineSteer.stack(maps)``.
        layer: A steering layer, or any callable of one array ``[B, ..., d]``.
        at: ``"output"`` steers what the submodule returns, ``"input"`` what it takes, by
            position or by keyword.
        which: Which array is steered: an index, a key or an attribute (of what is
            returned), an index or the name of an argument (of what is taken), a sequence
            of them that leads deeper, or a function, called with what is returned or
            taken, that returns the array. None takes the only floating array with the
            layer's number of features, not looking into containers inside, such as a
            decoder's memory; if there is none or more than one, the call is refused.
        positions: Which tokens are steered, see :func:`set_positions`.
        lengths: Tokens of each prompt, see :func:`set_positions`.
        position_ids: Which argument of the submodule says where each token stands in
            its text, as `which` says it; None looks for a usual name, such as
            ``positions`` or ``segment_pos``.
        layers: In a stack, which of its modules are steered: booleans ``[L]``. The
            others are left alone, bit for bit.

    Returns:
        A handle with :meth:`Insertion.remove`, which is a context manager too.

    Raises:
        ValueError: If the path leads nowhere, or to a parameter, or to a stack while
            `layer` is none (and the other way round).

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxsteer import AffineMap
        >>> from jaxsteer.nn import AffineSteer, insert_steering
        >>> model = nnx.Sequential(nnx.relu, nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
        >>> x = jnp.ones((1, 2))
        >>> before = model(x)
        >>> shift = AffineSteer(AffineMap(jnp.eye(2), jnp.ones(2)))
        >>> with insert_steering(model, "layers.1", shift):
        ...     moved = model(x)
        >>> bool(jnp.all(moved == before + 1)), bool(jnp.all(model(x) == before))
        (True, True)
    """
    check_at(at)
    is_map = isinstance(layer, Map) and not isinstance(layer, nnx.Module)
    if not callable(layer) or is_map or isinstance(layer, type):
        a_class = isinstance(layer, type)
        what = layer.__name__ if a_class else type(layer).__name__
        raise ValueError(
            f"layer is {'the class' if a_class else 'a'} {what}, expected a steering "
            f"layer; wrap a map: AffineSteer(map)."
        )
    slot = Slot(model, path)
    base = slot.get()
    stack = _stack(path, base, layer)
    options = SteeringOptions(
        which=check_which(which),
        position_ids=check_which(position_ids, "position_ids"),
        stack_shape=stack,
    )
    wrapper = Steered(base, layer, at, options)
    if layers is not None:
        wrapper.steer_layers = StackMask(_stack_mask(layers, stack))
    if not (isinstance(positions, str) and positions == "all" and lengths is None):
        keep_positions(wrapper, position_variables(positions, lengths, stack))
    slot.set(wrapper)
    return Insertion(model, path, wrapper)


def steer_model(
    model: nnx.Module, layers: Mapping[Path, Callable[..., Array]], **options: Any
) -> Insertions:
    """Insert several layers by one call, all of them or none.

    Args:
        model: Any NNX module.
        layers: A layer for each path.
        **options: As :func:`insert_steering` takes them, the same for all.

    Returns:
        A handle with :meth:`Insertions.remove`, which is a context manager too.

    Raises:
        ValueError: As :func:`insert_steering`; the model is then as before.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxsteer import AffineMap
        >>> from jaxsteer.nn import AffineSteer, steer_model
        >>> model = nnx.Sequential(nnx.relu, nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
        >>> shift = AffineSteer(AffineMap(jnp.eye(2), jnp.ones(2)))
        >>> with steer_model(model, {"layers.1": shift}, positions="last") as steered:
        ...     out = model(jnp.ones((1, 3, 2)))
        >>> list(steered), (out - model(jnp.ones((1, 3, 2))))[0, :, 0].tolist()
        (['layers.1'], [0.0, 0.0, 1.0])
    """
    done: dict[Any, Insertion] = {}
    try:
        for path, layer in layers.items():
            done[path] = insert_steering(model, path, layer, **options)
    except Exception:
        Insertions(done).remove()
        raise
    return Insertions(done)


def remove_steering(model: nnx.Module, path: Path) -> Callable[..., Array]:
    """Take out the last layer inserted at `path`, and return it.

    For models that were copied, merged or restored, whose handle is gone.

    Args:
        model: The model; changed in place.
        path: As for :func:`insert_steering`.

    Returns:
        The layer.

    Raises:
        ValueError: If no layer is there.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxsteer import AffineMap
        >>> from jaxsteer.nn import AffineSteer, insert_steering
        >>> model = nnx.Sequential(nnx.relu, nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
        >>> shift = AffineSteer(AffineMap(jnp.eye(2), jnp.ones(2)))
        >>> _ = insert_steering(model, "layers.1", shift)
        >>> remove_steering(model, "layers.1") is shift
        True
    """
    slot = Slot(model, path)
    for wrapper in slot.chain():
        if isinstance(wrapper, Steered):
            slot.unwrap(wrapper)
            return wrapper.layer
    raise ValueError(f"No steering layer at {path!r}; nothing was removed.")


def _stack(path: Path, base: Any, layer: Any) -> tuple[int, ...]:
    if isinstance(layer, SteeringLayer):
        check_stack(".".join(split_path(path)), base, layer, layer.stack_shape)
        return layer.stack_shape
    return stack_of(base) or ()


def _stack_mask(layers: Any, stack: tuple[int, ...]) -> Any:
    mask = jnp.asarray(layers)
    if not stack:
        raise ValueError(
            "layers=... chooses among the modules of a stack, and the path leads to one "
            "module; leave it out."
        )
    if mask.dtype != jnp.bool_ or mask.shape != stack:
        raise ValueError(
            f"layers has dtype {mask.dtype} and shape {mask.shape}, expected a boolean "
            f"for each module of the stack {stack}."
        )
    return mask
