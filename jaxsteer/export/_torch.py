"""Steering in PyTorch: a module, hooks, and a file that needs no jaxsteer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsteer._errors import check_choice
from jaxsteer.export._numpy import residual_arrays
from jaxsteer.maps import Map

if TYPE_CHECKING:
    import torch

_SOURCE = '''"""Steers a Hugging Face model; by jaxsteer; needs torch, safetensors."""

import torch
from safetensors.torch import load_file

PATH = {path!r}  # the module whose {at} is steered
AT = {at!r}
POSITIONS = {positions!r}  # "all", "last" (of each call) or "prompt"


def steer(model, weights_file, strength={strength!r}):
    """Hook the map into `model`; call .remove() on what is returned to undo it."""
    tensors = load_file(weights_file)
    weight, bias = tensors["weight"].float(), tensors["bias"].float()
    change = (weight - torch.eye(len(bias))).T

    def move(x):
        rows = x.float()
        moved = rows @ change.to(x.device) + bias.to(x.device)
        moved = (rows + strength * moved).to(x.dtype)
        step = x.shape[-2] == 1
        if POSITIONS == "last" and not step:
            moved = torch.cat([x[..., :-1, :], moved[..., -1:, :]], -2)
        return x if POSITIONS == "prompt" and step else moved

    def pick(value):
        return torch.is_tensor(value) and value.is_floating_point() and (
            value.shape[-1:] == bias.shape)

    def one(values, keys):
        (key,) = [k for k in keys if pick(values[k])]  # refuses to guess
        values[key] = move(values[key])

    def after(module, args, kwargs, output):
        if torch.is_tensor(output):
            return move(output)
        values = dict(output) if isinstance(output, dict) else list(output)
        one(values, list(values) if isinstance(values, dict) else range(len(values)))
        return type(output)(**values) if isinstance(values, dict) else tuple(values)

    def before(module, args, kwargs):
        values = dict(enumerate(args)) | kwargs
        one(values, list(values))
        return tuple(values[i] for i in range(len(args))), {{k: values[k] for k in kwargs}}

    module = model.get_submodule(PATH)
    if AT == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after, with_kwargs=True)
'''


def to_torch(map: Map, *, strength: float | None = None) -> torch.nn.Module:
    """Return a map as a ``torch.nn.Module`` of activations ``[B, ..., d]``.

    Args:
        map: As :func:`to_numpy` takes it, or maps with one leading axis ``[G]``, whose
            module takes the group of each example: ``module(x, group)``, or
            ``module.group = group`` before a hooked call.
        strength: Share of the way to go; None takes 1, or a layer's own. The module keeps
            it in a buffer that may be set: ``module.strength.fill_(0.5)``.

    Returns:
        The module, in float32, on the CPU.

    Raises:
        ImportError: If PyTorch is not installed.
        ValueError: If the map cannot be exported.

    Example:
        With PyTorch installed::

            module = to_torch(AffineMap(jnp.eye(2), jnp.ones(2)))
            module(torch.zeros(1, 2))  # [[1., 1.]]
    """
    torch = _torch()
    change, bias, strength = residual_arrays(map, strength)
    if bias.ndim > 2:
        raise ValueError(
            f"map has leading axes {bias.shape[:-1]}, expected none or one for groups."
        )
    kernel = np.ascontiguousarray(np.swapaxes(change, -1, -2), np.float32)
    module = import_module("jaxsteer.export._torch_module")
    vector = torch.from_numpy(np.ascontiguousarray(bias, np.float32))
    return module.TorchSteer(torch.from_numpy(kernel), vector, strength)


def attach(
    model: torch.nn.Module,
    path: str,
    steer: torch.nn.Module,
    *,
    at: str = "output",
    which: int | str | None = None,
    positions: str = "all",
) -> torch.utils.hooks.RemovableHandle:
    """Hook a module of :func:`to_torch` into a PyTorch model.

    Args:
        model: Any ``torch.nn.Module``, such as a Hugging Face model.
        path: The submodule, such as ``"model.layers.3"``.
        steer: What :func:`to_torch` returned.
        at: ``"output"`` steers what the submodule returns, ``"input"`` what it takes.
        which: Which tensor: an index or a key. None takes the only floating tensor with
            as many features as the map, and refuses where there is none or more than one.
        positions: ``"all"``; ``"last"``: the last token of each call; ``"prompt"``: none
            in a call with one token, all of them otherwise.

    Returns:
        PyTorch's handle: ``handle.remove()`` takes the map out again.

    Raises:
        ValueError: If an option is unknown, or, in a call, no tensor or more than one can
            be meant.

    Example:
        With PyTorch installed::

            hook = attach(model, "model.layers.3", to_torch(map))
            model.generate(**inputs)
            hook.remove()
    """
    check_choice("at", at, ("output", "input"))
    check_choice("positions", positions, ("all", "last", "prompt"))
    torch = _torch()

    def move(x: Any) -> Any:
        step = x.shape[-2] == 1
        if positions == "prompt" and step:
            return x
        if positions == "last" and not step:
            # A group module counts examples, so all of x is steered and the end kept.
            return torch.cat([x[..., :-1, :], steer(x)[..., -1:, :]], dim=-2)
        return steer(x)

    def fits(value: Any) -> bool:
        return (
            torch.is_tensor(value)
            and value.is_floating_point()
            and value.shape[-1:] == (steer.width,)
        )

    def change(values: dict[Any, Any], verb: str) -> None:
        keys = [key for key, value in values.items() if fits(value)]
        if which is not None:
            keys = [which] if which in values else []
        if len(keys) != 1:
            listed = ", ".join(
                f"{key!r}: {value.dtype}{list(value.shape)}"
                for key, value in values.items()
                if torch.is_tensor(value)
            )
            raise ValueError(
                f"{path} {verb} {len(keys) or 'no'} tensors of {steer.width} features "
                f"{'' if which is None else f'at which={which!r} '}; say which=... It "
                f"{verb} {listed or 'no tensors'}."
            )
        values[keys[0]] = move(values[keys[0]])

    def after(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        if torch.is_tensor(output):
            return move(output)
        if isinstance(output, dict):
            values = dict(output)
            change(values, "returns")
            return type(output)(**values)
        values = dict(enumerate(output))
        change(values, "returns")
        named = hasattr(output, "_fields")
        return type(output)(*values.values()) if named else tuple(values.values())

    def before(module: Any, args: Any, kwargs: Any) -> Any:
        values = dict(enumerate(args)) | kwargs
        change(values, "takes")
        taken = tuple(values[i] for i in range(len(args)))
        return taken, {name: values[name] for name in kwargs}

    submodule = model.get_submodule(path)
    if at == "input":
        return submodule.register_forward_pre_hook(before, with_kwargs=True)
    return submodule.register_forward_hook(after, with_kwargs=True)


def hook_source(
    path: str, *, at: str = "output", positions: str = "all", strength: float = 1.0
) -> str:
    """Return a Python file that steers a Hugging Face model, without jaxsteer.

    Its ``steer(model, weights_file)`` reads ``weight`` and ``bias`` from a safetensors
    file (``safetensors.numpy.save_file(vars(to_numpy(map)), ...)`` writes one) and hooks
    them in at `path`.

    Args:
        path: The module, such as ``"model.layers.3"``.
        at: ``"output"`` or ``"input"``.
        positions: As for :func:`attach`.
        strength: The default of the file's function.
    """
    check_choice("at", at, ("output", "input"))
    check_choice("positions", positions, ("all", "last", "prompt"))
    return _SOURCE.format(path=path, at=at, positions=positions, strength=strength)


def _torch() -> Any:
    try:
        return import_module("torch")
    except ModuleNotFoundError as error:
        raise ImportError("to_torch needs PyTorch: pip install torch.") from error
