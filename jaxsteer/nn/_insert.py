"""Steering inside a model: a layer after (or before) a submodule, and out again."""

from __future__ import annotations

from typing import Any

from flax import nnx

from jaxsteer.nn._paths import Path, Slot, Wrapper, change_first, check_at


class Steered(Wrapper):
    """A submodule whose output, or input, passes through a steering layer.

    Attributes:
        base: The submodule.
        layer: The steering layer, called with one array.
        at: ``"output"`` or ``"input"``.
    """

    def __init__(self, base: nnx.Module, layer: Any, at: str = "output"):
        self.base = base
        self.layer = layer
        self.at = at

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the submodule and steer the first of what it takes or returns."""
        if self.at == "input":
            return self.base(*change_first(args, self.layer), **kwargs)
        return change_first(self.base(*args, **kwargs), self.layer)


class Insertion:
    """A layer that was inserted: undo with :meth:`remove`, or leave a ``with`` block.

    Attributes:
        layer: The steering layer.
    """

    def __init__(self, model: nnx.Module, path: Path, wrapper: Steered):
        self._model, self._path, self._wrapper = model, path, wrapper
        self.layer = wrapper.layer

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


def insert_steering(
    model: nnx.Module, path: Path, layer: Any, *, at: str = "output"
) -> Insertion:
    """Wrap the submodule at `path` so that its output passes through `layer`.

    The model is changed in place. The submodule's attributes stay reachable through the
    wrapper, but its parameters move to ``path.base``: take the layer out before saving
    a checkpoint that others read. Several layers may be inserted at one path; the last
    one acts last. In a jitted function that was given the model as an argument, as by
    ``nnx.jit``, insert and remove within the function or outside of it.

    Args:
        model: Any NNX module.
        path: The submodule: ``"layers.3"``, ``"encoder/blocks/3/mlp"`` or a sequence of
            names and numbers.
        layer: A steering layer, or any callable of one array ``[B, ..., d]``.
        at: ``"output"`` steers what the submodule returns (the first element, where it
            returns a tuple), ``"input"`` its first positional argument.

    Returns:
        A handle with :meth:`Insertion.remove`, which is a context manager too.

    Raises:
        ValueError: If the path leads nowhere.

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
    if not callable(layer):
        raise ValueError(
            f"layer is a {type(layer).__name__}, expected a steering layer; wrap a map: "
            f"AffineSteer(map)."
        )
    slot = Slot(model, path)
    wrapper = Steered(slot.get(), layer, at)
    slot.set(wrapper)
    return Insertion(model, path, wrapper)


def remove_steering(model: nnx.Module, path: Path) -> Any:
    """Take out the last layer inserted at `path`, and return it.

    For models that were copied, merged or restored, whose handle is gone.

    Raises:
        ValueError: If no layer is there.
    """
    slot = Slot(model, path)
    for wrapper in slot.chain():
        if isinstance(wrapper, Steered):
            slot.unwrap(wrapper)
            return wrapper.layer
    raise ValueError(f"No steering layer at {path!r}; nothing was removed.")
