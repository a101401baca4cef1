"""Read a user's arrays into checked integer codes, once for every metric.

Values are checked on the host where they can be seen. Under ``jax.jit`` and
``jax.vmap`` only shapes, dtypes and sizes can be, so there a code out of range, a
NaN score or a bad weight turns the metric into NaN (`Rows.valid`), never into a
number that leaves the row out.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsteer._errors import check_codes, check_same_length, check_weights, is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Bool, Float, Int

# A confusion table beyond this many entries means that the codes are not codes
# (identifiers, years, cents), and would exhaust the memory.
_MAX_TABLE = 2**24


@register_dataclass
@dataclass(frozen=True, kw_only=True)
class Rows:
    """One audit's data: integer codes, and what a metric needs beside them.

    Attributes:
        label: true class of each row, 0..K-1, `[n]`.
        group: group of each row, 0..G-1, `[n]`.
        prediction: predicted class of each row, 0..K-1, `[n]`, or None.
        score: score of each row (or its rank, which serves as well), `[n]`, or None.
        weights: weight of each row, `[n]`, or None for one each.
        n_classes: K.
        n_groups: G.
    """

    label: Int[Array, " n"]
    group: Int[Array, " n"]
    prediction: Int[Array, " n"] | None = None
    score: Float[Array, " n"] | Int[Array, " n"] | None = None
    weights: Float[Array, " n"] | None = None
    n_classes: int = field(metadata={"static": True})
    n_groups: int = field(metadata={"static": True})

    def valid(self) -> Bool[Array, ""]:
        """Return whether every code is in range, no score NaN, no weight bad."""
        ok = _in_range(self.label, self.n_classes)
        ok &= _in_range(self.group, self.n_groups)
        if self.prediction is not None:
            ok &= _in_range(self.prediction, self.n_classes)
        if self.score is not None:
            ok &= ~jnp.any(jnp.isnan(self.score))
        if self.weights is not None:
            ok &= jnp.all(jnp.isfinite(self.weights) & (self.weights >= 0))
        return ok


def read_rows(
    label: ArrayLike,
    group: ArrayLike,
    *,
    prediction: ArrayLike | None = None,
    score: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> Rows:
    """Check the arrays of an audit and bring them into one form.

    Args:
        label: true class codes, integer or boolean, `[n]`.
        group: group codes, `[n]`.
        prediction: predicted class codes, `[n]`, or None.
        score: real scores, `[n]`, or None; the label is then binary.
        weights: non-negative row weights, `[n]`, or None.
        n_classes: K; read off label and prediction where they are concrete.
        n_groups: G; read off group where it is concrete.

    Returns:
        The rows. Concrete scores become ranks on the host, so that two different
        float64 scores stay different when JAX computes in float32.

    Raises:
        ValueError: an array is not codes, not `[n]`, empty, or holds a value that no
            metric can use; the lengths differ; or a size cannot be known.
    """
    given = {
        "label": label,
        "prediction": prediction,
        "group": group,
        "score": score,
        "weights": weights,
    }
    arrays = {k: _as_rows(k, v) for k, v in given.items() if v is not None}
    check_same_length(**arrays)
    if score is not None:
        n_classes = _binary(arrays["label"], n_classes)
        arrays["score"] = _read_score(arrays["score"])
    if weights is not None:
        check_weights(arrays["weights"])
        arrays["weights"] = jnp.asarray(arrays["weights"], dtype=float)
    classes = {k: arrays[k] for k in ("label", "prediction") if k in arrays}
    n_classes = _size("n_classes", n_classes, classes)
    n_groups = _size("n_groups", n_groups, {"group": arrays["group"]})
    if n_classes**2 * n_groups > _MAX_TABLE:
        raise ValueError(
            f"{n_classes} classes and {n_groups} groups are too many for a table of "
            "their pairs; codes must run 0, 1, ... without holes: make them with "
            "jaxsteer.encode_labels."
        )
    for name in (*classes, "group"):
        arrays[name] = jnp.asarray(arrays[name], dtype=jnp.int32)
    return Rows(**arrays, n_classes=n_classes, n_groups=n_groups)


def _in_range(codes: Int[Array, " n"], size: int) -> Bool[Array, ""]:
    return jnp.all((codes >= 0) & (codes < size))


def _as_rows(name: str, value: ArrayLike) -> Any:
    x = value if isinstance(value, jax.Array) else np.asarray(value)
    if x.ndim != 1:
        raise ValueError(
            f"{name} must be one-dimensional [n], got shape {x.shape}: ravel a column; "
            "a batch goes through jax.vmap."
        )
    is_float = jnp.issubdtype(x.dtype, jnp.floating)
    if name == "prediction" and is_float:
        raise ValueError(
            f"prediction must hold integer codes 0, 1, ..., got dtype {x.dtype}: "
            "encode classes with jaxsteer.encode_labels; scores go to sup_gap, auc or "
            "bootstrap(score=...)."
        )
    if name in ("score", "weights") and not (is_float or x.dtype.kind in "iub"):
        raise ValueError(f"{name} must hold real numbers, got dtype {x.dtype}.")
    return x


def _binary(label: Any, n_classes: int | None) -> int:
    largest = check_codes("label", label, None if is_concrete(label) else 2) - 1
    if largest > 1 or n_classes not in (None, 2):
        got = f"the code {largest}" if largest > 1 else f"n_classes={n_classes}"
        raise ValueError(
            f"a score needs a binary label with codes 0 and 1, got {got}: for one "
            "class against the rest pass (label == i).astype(int) and its score."
        )
    return 2


def _size(option: str, given: int | None, codes: Mapping[str, Any]) -> int:
    """Return the number of codes: the one given, or one more than the largest."""
    traced = [name for name, x in codes.items() if not is_concrete(x)]
    if given is None and traced:
        raise ValueError(
            f"{option} cannot be read off the traced {' and '.join(traced)}: pass "
            f"{option}= as an int when a metric is called under jax.jit or jax.vmap."
        )
    if given is None:
        return max(check_codes(name, x) for name, x in codes.items())
    try:
        size = operator.index(given)
    except TypeError:  # a float, or an array traced by jax.jit
        size = 0
    if size < 1:
        raise ValueError(f"{option} must be a positive int, got {given!r}.")
    for name, x in codes.items():
        check_codes(name, x, size)
    return size


def _read_score(score: Any) -> Array:
    if not is_concrete(score):
        return score
    host = np.asarray(score)
    if np.isnan(host).any():
        bad = np.flatnonzero(np.isnan(host))
        raise ValueError(
            f"score is NaN in {bad.size} rows, first in row {bad[0]}: a row without a "
            "score has no place in the order; score it or leave it out."
        )
    _, rank = np.unique(host, return_inverse=True)
    return jnp.asarray(rank, dtype=jnp.int32)
