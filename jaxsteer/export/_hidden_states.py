"""Hidden states that vLLM wrote, streamed into moments.

vLLM (0.18 and later) writes one safetensors file a request, with ``token_ids [T]`` and
``hidden_states [T, L, d]`` for the layers that were asked for. Only what is needed of a
file is read.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxsteer import moments
from jaxsteer._errors import check_choice
from jaxsteer._types import Float, PathLike

TOKENS = ("last", "mean", "all")
_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RequestStates:
    """What one file holds.

    Attributes:
        name: The file's name without its ending.
        token_ids: ``[T]``.
        states: For each chosen layer ``[n, d]`` in float32; `n` is 1, or `T` with all
            tokens.
    """

    name: str
    token_ids: np.ndarray
    states: dict[int, Float[np.ndarray, "n d"]]


def read_hidden_states(
    folder: PathLike, layers: Sequence[int], *, tokens: str = "last"
) -> Iterator[RequestStates]:
    """Read the files of a folder, one after another, by name.

    Args:
        folder: Where the ``.safetensors`` files are.
        layers: Which of the `L` layers of a file, counted from 0 (an index into the
            file, not the number of a layer in the model).
        tokens: ``"last"``, ``"mean"`` of all, or ``"all"``.

    Yields:
        The states of each request.

    Raises:
        ValueError: If the folder has no such file, or a file is not of this kind.

    Example:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from safetensors.numpy import save_file
        >>> folder = tempfile.TemporaryDirectory()
        >>> states = np.arange(12.0, dtype=np.float32).reshape(3, 2, 2)  # tokens, layers, d
        >>> tensors = {"token_ids": np.arange(3), "hidden_states": states}
        >>> save_file(tensors, pathlib.Path(folder.name, "one.safetensors"))
        >>> one = next(read_hidden_states(folder.name, [1]))  # the last token's
        >>> one.states[1].tolist()
        [[10.0, 11.0]]
    """
    check_choice("tokens", tokens, TOKENS)
    paths = sorted(Path(folder).glob("*.safetensors"))
    if not paths:
        raise ValueError(f"{folder} has no .safetensors file.")
    for path in paths:
        yield _read(path, [int(layer) for layer in layers], tokens)


def hidden_state_moments(
    folder: PathLike,
    layers: Sequence[int],
    label: Mapping[str, int] | Callable[[RequestStates], int],
    group: Mapping[str, int] | Callable[[RequestStates], int] | None = None,
    *,
    n_classes: int,
    n_groups: int = 1,
    tokens: str = "last",
    scatter: str = "cell",
    batch_rows: int = 256,
) -> dict[int, moments.MomentState]:
    """Run through a folder and return the moments of each chosen layer.

    Never more than one file and one batch of rows is in memory.

    Args:
        folder: As :func:`read_hidden_states` takes it.
        layers: Likewise.
        label: The class code of each request: by the file's name, or a function of its
            :class:`RequestStates`.
        group: The group code, likewise; None where there is one group.
        n_classes: ``K``.
        n_groups: ``G``.
        tokens: As :func:`read_hidden_states` takes it; with ``"all"`` each token is a
            row with its request's codes.
        scatter: Which covariances to keep, see :func:`jaxsteer.moments.init`.
        batch_rows: Rows that are added at a time.

    Returns:
        For each layer a state for :func:`jaxsteer.moments.finish`.

    Raises:
        ValueError: If a request has no code, or a file is not of this kind.

    Example:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from safetensors.numpy import save_file
        >>> folder = tempfile.TemporaryDirectory()
        >>> states = np.arange(12.0, dtype=np.float32).reshape(3, 2, 2)  # tokens, layers, d
        >>> tensors = {"token_ids": np.arange(3), "hidden_states": states}
        >>> save_file(tensors, pathlib.Path(folder.name, "one.safetensors"))
        >>> found = hidden_state_moments(folder.name, [0, 1], {"one": 0}, n_classes=1)
        >>> sorted(found)
        [0, 1]
    """
    if batch_rows < 1:
        raise ValueError(f"batch_rows={batch_rows} must be at least 1.")
    result: dict[int, moments.MomentState] = {}
    waiting: dict[int, list[np.ndarray]] = {int(layer): [] for layer in layers}
    codes: list[tuple[int, int]] = []

    def flush(count: int) -> None:
        rows = np.array(codes[:count], np.int32).reshape(-1, 2)
        del codes[:count]
        fill = batch_rows - count
        # Filled up with rows of no weight, so that one shape is compiled.
        weights = np.pad(np.ones(count, np.float32), (0, fill))
        rows = np.pad(rows, ((0, fill), (0, 0)))
        for layer, parts in waiting.items():
            x = np.concatenate(parts)
            parts[:] = [x[count:]]
            if layer not in result:
                result[layer] = moments.init(
                    x.shape[1], n_classes=n_classes, n_groups=n_groups, scatter=scatter
                )
            x = np.pad(x[:count], ((0, fill), (0, 0)))
            result[layer] = moments.update(
                result[layer], x, rows[:, 0], rows[:, 1], weights=weights
            )

    for request in read_hidden_states(folder, layers, tokens=tokens):
        code = _code("label", label, request), _code("group", group, request)
        for layer, states in request.states.items():
            waiting[layer].append(states)
        codes += [code] * len(next(iter(request.states.values())))
        while len(codes) >= batch_rows:
            flush(batch_rows)
    if codes:
        flush(len(codes))
    return result


def _code(name: str, codes: Any, request: RequestStates) -> int:
    if codes is None:
        return 0
    if callable(codes):
        found: Any = codes(request)
        return int(found)
    if request.name not in codes:
        raise ValueError(f"{name} has no code for the request {request.name!r}.")
    return int(codes[request.name])


def _read(path: Path, layers: list[int], tokens: str) -> RequestStates:
    header, start = _header(path)
    for name, axes in (("token_ids", 1), ("hidden_states", 3)):
        if name not in header or len(header[name]["shape"]) != axes:
            raise ValueError(
                f"{path} holds {', '.join(sorted(header)) or 'nothing'}; expected "
                f"token_ids [T] and hidden_states [T, L, d]."
            )
    token_ids = np.array(_tensor(path, header["token_ids"], start))
    states = _tensor(path, header["hidden_states"], start)
    length, n_layers, _ = states.shape
    if len(token_ids) != length or not length:
        raise ValueError(
            f"{path} has {len(token_ids)} token_ids and hidden states of {length} tokens."
        )
    wrong = [layer for layer in layers if not 0 <= layer < n_layers]
    if wrong or not layers:
        raise ValueError(
            f"layers={layers}: {path} holds layers 0..{n_layers - 1}, counted in the file."
        )
    rows = slice(-1, None) if tokens == "last" else slice(None)
    found = {}
    for layer in layers:
        x = np.asarray(states[rows, layer], np.float32)
        found[layer] = x.mean(0, keepdims=True) if tokens == "mean" else x
    return RequestStates(name=path.stem, token_ids=token_ids, states=found)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > path.stat().st_size:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        return header, 8 + size
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"The file {path} is damaged or no safetensors file: {error}"
        ) from error


def _tensor(path: Path, about: dict[str, Any], start: int) -> np.ndarray:
    if about["dtype"] not in _DTYPES:
        raise ValueError(f"{path} has numbers of type {about['dtype']}, not read here.")
    dtype, shape = _DTYPES[about["dtype"]], tuple(about["shape"])
    first, last = about["data_offsets"]
    if last - first != dtype.itemsize * math.prod(shape) or (
        start + last > path.stat().st_size
    ):
        raise ValueError(f"The file {path} is damaged: it is shorter than it says.")
    if not last - first:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", offset=start + first, shape=shape)
