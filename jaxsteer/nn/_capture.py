"""Activations at chosen places of a model, without changing its code."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from flax import nnx

from jaxsteer.nn._paths import Path, Slot, Wrapper, check_at, split_path
from jaxsteer.nn._select import Which, check_which, find_input, find_output, get


class Captured(Wrapper):
    """A submodule that keeps what it returned, or took, in its last call.

    Attributes:
        base: The submodule.
        at: ``"output"`` or ``"input"``.
        which: Which of the arrays; None for the only one that can be meant.
        value: The activations, once it was called.
    """

    transparent = True

    def __init__(self, base: nnx.Module, at: str, which: Any = None):
        self.base = base
        self.at = at
        self.which = which

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the submodule and keep one array of what it takes or returns."""
        if self.at == "input":
            place = find_input(self.base, args, kwargs, self.which, None)
            self.value = nnx.Intermediate(get((args, kwargs), place))
        output = self.base(*args, **kwargs)
        if self.at == "output":
            place = find_output(output, self.which, None)
            self.value = nnx.Intermediate(get(output, place))
        return output


class Activations(Mapping[str, jax.Array]):
    """Activations of the last call, by path."""

    def __init__(self, wrappers: dict[str, Captured]):
        self._wrappers = wrappers

    def __getitem__(self, path: str) -> jax.Array:
        wrapper = self._wrappers[".".join(split_path(path))]
        if "value" not in vars(wrapper):
            raise RuntimeError(
                f"{path!r} was not called inside the with block yet; call the model "
                f"there, and read the activations inside the same jitted function."
            )
        return wrapper.value[...]

    def __iter__(self) -> Iterator[str]:
        return iter(self._wrappers)

    def __len__(self) -> int:
        return len(self._wrappers)


@contextmanager
def capture_activations(
    model: nnx.Module,
    paths: Sequence[Path] | str,
    *,
    at: str = "output",
    which: Which = None,
) -> Generator[Activations]:
    """Keep what the submodules at `paths` return, or take, while the block lasts.

    Under ``nnx.jit`` enter the block inside the jitted function, and return what you
    need of it. At a path with a steering layer the *steered* activations are kept;
    ``path + ".base"`` names what came before the layer (of inputs it is the other way
    round: the layer acts before ``path + ".base"`` is called). A stack of modules, which
    a scan runs one by one, gives ``[L, ...]``: the activations after each.

    Args:
        model: Any NNX module; it is as before when the block ends.
        paths: Paths as :func:`insert_steering` takes them, or one path as a string.
        at: ``"output"`` keeps what a submodule returns, ``"input"`` what it takes.
        which: Which array is kept, as :func:`insert_steering` takes it. None takes the
            only floating array, not looking into containers inside; if there is none or
            more than one, the call is refused.

    Yields:
        A mapping from each path, written with dots, to the activations of the last call.

    Raises:
        ValueError: If a path leads nowhere.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxsteer.nn import capture_activations
        >>> model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.relu)
        >>> with capture_activations(model, ["layers.0"]) as activations:
        ...     out = model(jnp.ones((4, 2)))
        >>> activations["layers.0"].shape
        (4, 3)
    """
    check_at(at)
    which = check_which(which)
    paths = [paths] if isinstance(paths, str) else list(paths)
    wrappers: dict[str, Captured] = {}
    try:
        for path in paths:
            slot = Slot(model, path)
            wrapper = Captured(slot.get(), at, which)
            slot.set(wrapper)
            wrappers[".".join(split_path(path))] = wrapper
        yield Activations(wrappers)
    finally:
        for path, wrapper in reversed(wrappers.items()):
            Slot(model, path).unwrap(wrapper)
