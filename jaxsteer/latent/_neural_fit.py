"""``NeuralFit``: a trained network with the scales of its columns, and its checkpoints."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsteer._errors import check_same_length
from jaxsteer._types import Array, ArrayLike, Float, PathLike
from jaxsteer.latent._moe import RomeMoE
from jaxsteer.storage import load, save

_KIND = "latent"


def write_tree(path: PathLike, tree: Any, about: dict[str, Any]) -> None:
    """Write a pytree's arrays in order, and what they are, replacing the file at once.

    Args:
        path: The file.
        tree: Pytree of arrays.
        about: JSON that says what wrote it.
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    save(path, {"leaves": leaves}, metadata={_KIND: about})


def read_about(path: PathLike) -> dict[str, Any]:
    """Read what a file says of itself.

    Raises:
        ValueError: If it is none of these files.
    """
    return _read(path)[0]


def read_tree(path: PathLike, like: Any) -> Any:
    """Read arrays into the structure of `like`.

    Raises:
        ValueError: If their number or their shapes are others.
    """
    _, found = _read(path)
    leaves, structure = jax.tree.flatten(like)
    shapes = [np.shape(leaf) for leaf in leaves]
    if [leaf.shape for leaf in found] != shapes:
        raise ValueError(
            f"{os.fspath(path)} holds {len(found)} arrays of other shapes than this "
            f"model's {len(leaves)}; it was written with other settings."
        )
    pairs = zip(found, leaves, strict=True)
    return jax.tree.unflatten(
        structure, [jnp.asarray(new, jnp.asarray(old).dtype) for new, old in pairs]
    )


def _read(path: PathLike) -> tuple[dict[str, Any], list[np.ndarray]]:
    with open(path, "rb") as file:
        is_archive = file.read(2) == b"PK"
    try:
        if is_archive:
            return _read_archive(path)
        stored = load(path)
        return stored.metadata[_KIND], stored["leaves"]
    except (
        KeyError,
        TypeError,
        ValueError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        RecursionError,
        MemoryError,
    ) as error:
        raise ValueError(
            f"{os.fspath(path)} is no file that jaxsteer.latent wrote: {error}"
        ) from error


def _read_archive(path: PathLike) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Read a file of jaxsteer 0.1, which was an ``.npz`` archive."""
    with np.load(path, allow_pickle=False) as file:
        content = json.loads(str(file["about"]))
        if content.get("format") != 1:
            raise ValueError(f"it has the unknown format {content.get('format')}")
        return content["about"], [file[name] for name in file.files if name != "about"]


MODELS = {"RomeMoE": RomeMoE}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scales:
    """Means and deviations of the training rows' columns.

    Attributes:
        a: ``[2, p]`` of the columns that are not sensitive.
        s: ``[2, q]`` of the sensitive ones.
        y: ``[2]`` of a real outcome (0 and 1 for classes).
    """

    a: np.ndarray
    s: np.ndarray
    y: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeuralFit:
    """A trained network.

    Attributes:
        model: :class:`RomeMoE`, or a module with its methods, on standardized columns.
        scales: How columns are standardized.
        family: "normal", "bernoulli" or "categorical".
        settings: What the model was built with.
        best_epoch: The epoch whose parameters were kept, 1 is the first.
        best_score: Its score on the validation rows.
        history: Figures of every epoch: "train" and "validation" mean losses in
            standardized units, and the "score" that early stopping watched.
    """

    model: Any
    scales: Scales
    family: str
    settings: dict[str, Any]
    best_epoch: int
    best_score: float
    history: dict[str, np.ndarray]

    def inputs(self, a: ArrayLike, s: ArrayLike) -> tuple[Array, Array]:
        """Standardized columns, or an error naming what has another width."""
        check_same_length(a=a, s=s)
        found = []
        for name, rows, scale in (("a", a, self.scales.a), ("s", s, self.scales.s)):
            matrix = as_matrix(name, rows)
            if matrix.shape[1] != scale.shape[1]:
                raise ValueError(
                    f"{name} must have shape [n, {scale.shape[1]}], as it was fitted, "
                    f"got {list(matrix.shape)}."
                )
            found.append(jnp.asarray((matrix - scale[0]) / scale[1], jnp.float32))
        return found[0], found[1]

    def predict(
        self, a: Float[ArrayLike, "n p"], s: Float[ArrayLike, "n q"]
    ) -> Float[Array, "n ..."]:
        """Means ``[n]``, probabilities of class 1 ``[n]``, or of all classes ``[n, C]``.

        Args:
            a: ``[n, p]`` columns that are not sensitive.
            s: ``[n, q]`` sensitive columns.
        """
        found = _call(self.model, *self.inputs(a, s))
        if self.family == "normal":
            return found * self.scales.y[1] + self.scales.y[0]
        found = jnp.exp(found)
        return found[:, 1] if self.family == "bernoulli" else found

    def gates(
        self, a: Float[ArrayLike, "n p"], s: Float[ArrayLike, "n q"]
    ) -> Float[Array, "n K"]:
        """The gate's shares: soft latent groups."""
        return jnp.exp(_parts(self.model, *self.inputs(a, s))[0])

    def save(self, path: PathLike) -> None:
        """Write the network into one ``.npz`` file, without pickle."""
        about = {
            "kind": "network",
            "model": type(self.model).__name__,
            "settings": self.settings,
            "family": self.family,
            "scales": {
                name: np.asarray(getattr(self.scales, name)).tolist()
                for name in ("a", "s", "y")
            },
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "history": {name: v.tolist() for name, v in self.history.items()},
        }
        write_tree(path, nnx.state(self.model), about)


def load_network(path: PathLike) -> NeuralFit:
    """Read what :meth:`NeuralFit.save` wrote.

    Raises:
        ValueError: If the file holds something else.
    """
    about = read_about(path)
    if about.get("kind") != "network" or about.get("model") not in MODELS:
        raise ValueError(f"{os.fspath(path)} holds no network.")
    model = MODELS[about["model"]](**about["settings"], rngs=nnx.Rngs(0))
    graph, state = nnx.split(model)
    scales = {name: np.asarray(v) for name, v in about["scales"].items()}
    return NeuralFit(
        model=nnx.merge(graph, read_tree(path, state)),
        scales=Scales(**scales),
        family=about["family"],
        settings=about["settings"],
        best_epoch=about["best_epoch"],
        best_score=about["best_score"],
        history={name: np.asarray(v) for name, v in about["history"].items()},
    )


@nnx.jit
def _call(model: RomeMoE, a: Array, s: Array):
    return model(a, s)


@nnx.jit
def _parts(model: RomeMoE, a: Array, s: Array):
    return model.parts(a, s)


def as_matrix(name: str, rows: ArrayLike) -> np.ndarray:
    """Rows as ``[n, m]`` float64, or raise."""
    matrix = np.asarray(jax.device_get(rows), np.float64)
    matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    if matrix.ndim != 2:
        raise ValueError(f"{name} must have shape [n, m], got {list(matrix.shape)}.")
    return matrix
