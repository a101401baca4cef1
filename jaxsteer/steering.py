"""``Steering``: what a solve returns, and how it is applied to data."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_codes, check_key, check_same_length, is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, Int, Key
from jaxsteer._verification import Verification, verify
from jaxsteer.families import transport, unmoved_log_ratio
from jaxsteer.maps import AffineMap, Map
from jaxsteer.population import Population
from jaxsteer.solvers import Status, require_converged


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Steering:
    """An ideal population and the maps that lead to it.

    Attributes:
        source: The population that was given.
        target: The ideal population. For :func:`jaxsteer.nearest_ideal` each cell is in
            its own group's coordinates; for :func:`jaxsteer.gaussian_channel` in the
            coordinates of the steered data, where all groups coincide.
        group_maps: Maps with leading axis ``G``, label-free: they carry each group to
            the template that all groups share (the reference group's coordinates).
        kl: ``[]`` KL divergence from the ideal population to the one given, nats.
        prior_kl: ``[]`` its prior part.
        feature_kl: ``[]`` its feature part.
        status: ``[]`` int32 :class:`jaxsteer.Status`.
        residual: ``[]`` scale-free distance from stationarity; for a channel, the
            largest KL divergence of a steered cell from its target.
        steps: ``[]`` iterations, int32.
        noise: ``[G, m, m]`` noise factors of a channel (noise ``factor @ e`` with ``e``
            standard normal), None for deterministic maps.
        reference: ``[]`` int32, the group that stays or whose coordinates the template
            uses; None for a channel without one.
        ideal: Whether the target is ideal for every cost; not so where the priors were
            kept, which leaves equalized odds of prior-free rules only.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> cells = js.Normal(jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.ones((2, 2)))
        >>> pop = js.Population(jnp.full((2, 2), 0.25), cells)
        >>> steering = js.nearest_ideal(pop, reference=1).require()
        >>> group = jnp.array([0, 1])
        >>> [round(float(x), 3) for x in steering(jnp.array([1.0, 2.0]), group)]
        [1.593, 2.0]
    """

    source: Population
    target: Population
    group_maps: Map
    kl: Float[Array, ""]
    prior_kl: Float[Array, ""]
    feature_kl: Float[Array, ""]
    status: Int[Array, ""]
    residual: Float[Array, ""]
    steps: Int[Array, ""]
    noise: Float[Array, "G m m"] | None = None
    reference: Int[Array, ""] | None = None
    ideal: bool = dataclasses.field(default=True, metadata={"static": True})

    @property
    def converged(self) -> Array:
        """Whether the solve converged, ``[]`` bool."""
        return self.status == Status.CONVERGED

    def require(self) -> Steering:
        """Return self, or raise :class:`jaxsteer.SolveError` naming the failing rows."""
        require_converged(self.status, "steering")
        return self

    def verify(self) -> Verification:
        """Recompute on the host, in NumPy float64, what this steering promises.

        That the group maps bring all groups of a class to one law, that class and group
        are independent, that the divergence is the one stated, and that no map nearby is
        nearer. Independent of the programs and of JAX; allows for the rounding of the
        stored numbers, which it measures, and says what it could not check. For every
        family that has a program. Cost a few dozen factorizations a cell.

        Returns:
            What was found: `ok`, `checks`, `unchecked`, a text by ``str``, and
            ``require()``, which raises where a promise is not kept. A solve that did
            not converge promises nothing and is not `ok`.

        Raises:
            ValueError: Under ``jit``, or for a batch; pick one row of it first.

        Example:
            >>> import jax.numpy as jnp, jaxsteer as js
            >>> cells = js.Normal(jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.ones((2, 2)))
            >>> pop = js.Population(jnp.full((2, 2), 0.25), cells)
            >>> js.nearest_ideal(pop, reference=1).verify().ok
            True
        """
        return verify(self)

    @property
    def cell_maps(self) -> Map:
        """Class-aware optimal-transport maps of each cell, leading axes ``[K, G]``.

        Computed at each access, O(K G d^3). For training data only: the label of the
        row chooses the map, and on features with few distinct values the map gives the
        label away.

        Raises:
            ValueError: For a channel, which has no class-aware maps.
        """
        if self.noise is not None:
            raise ValueError(
                "a channel has no cell maps: it steers without labels; call "
                "transport(x, group, key=key)."
            )
        return transport(self.source.conditionals, self.target.conditionals)

    @property
    def cell_weights(self) -> Float[Array, "K G"]:
        """Sample weights ``q~_ia / q_ia`` of the rows of each cell."""
        return self.target.priors / self.source.priors

    def row_weights(
        self,
        x: Float[ArrayLike, " n"] | Float[ArrayLike, "n d"],
        group: Int[ArrayLike, " n"],
        label: Int[ArrayLike, " n"],
    ) -> Float[Array, " n"]:
        """Sample weights that make steered training rows a sample of the target.

        The cell's weight, times the ratio of densities of the features that no map may
        move (categories, counts): for those nothing else makes the target's law. Cost
        O(n K G).

        Args:
            x: ``[n]`` or ``[n, d]`` features, before steering.
            group: ``[n]`` group codes.
            label: ``[n]`` class codes.

        Returns:
            ``[n]`` weights, NaN for codes out of range under ``jit``.

        Raises:
            ValueError: If codes are unknown or lengths differ.
        """
        check_same_length(x=x, group=group, label=label)
        k, n_groups = self.source.n_classes, self.source.n_groups
        check_codes("group", group, n_groups)
        check_codes("label", label, k)
        x = jnp.asarray(x)
        group, label = (jnp.asarray(a).astype(jnp.int32) for a in (group, label))
        weights = jnp.full(x.shape[0], jnp.nan, self.kl.dtype)
        for i in range(k):
            for a in range(n_groups):
                own, old = self.target.cell(i, a), self.source.cell(i, a)
                ratio = jnp.exp(unmoved_log_ratio(own, old, x))
                here = (label == i) & (group == a)
                weights = jnp.where(here, self.cell_weights[i, a] * ratio, weights)
        return weights

    def transport(
        self,
        x: Float[ArrayLike, " n"] | Float[ArrayLike, "n d"],
        group: Int[ArrayLike, " n"],
        label: Int[ArrayLike, " n"] | None = None,
        *,
        key: Key[Array, ""] | None = None,
        strength: float | Float[Array, ""] = 1.0,
        deterministic: bool = False,
    ) -> Array:
        """Steer rows.

        Cost O(n d^2) and a sort of the rows by group (without labels) or cell (with
        them), however many there are; a few are applied to every row instead.

        Args:
            x: ``[n]`` or ``[n, d]`` features, in the family's shape.
            group: ``[n]`` group codes.
            label: ``[n]`` class codes: then each row goes to its own cell of `target`
                (training data); None takes the label-free group maps.
            key: The randomness of a channel; the same key gives the same rows.
            strength: 0 leaves the data, 1 is the full map; in between, displacement
                interpolation.
            deterministic: Leave a channel's noise out. The result is then only
                approximately fair.

        Returns:
            Steered rows; NaN for codes out of range under ``jit``, and in rows that
            hold NaN or infinity themselves.

        Raises:
            ValueError: If codes are unknown, shapes differ, a channel lacks its key, or
                rows on the host leave the range of the precision that they are steered
                in.
        """
        if not isinstance(x, jax.Array | np.ndarray):
            x = np.asarray(x)
        check_same_length(x=x, group=group, label=label)
        n_groups = self.source.n_groups
        check_codes("group", group, n_groups)
        # Products of codes leave the range of the narrow types that codes come in.
        index, count = jnp.asarray(group).astype(jnp.int32), n_groups
        maps = self.group_maps
        if label is not None:
            check_codes("label", label, self.source.n_classes)
            label = jnp.asarray(label).astype(jnp.int32)
            outside = (index < 0) | (index >= n_groups)
            index = jnp.where(outside, -1, label * n_groups + index)
            count = self.source.n_classes * n_groups
            maps = jax.tree.map(
                lambda leaf: leaf.reshape((count, *leaf.shape[2:])), self.cell_maps
            )
        _check_features(x, maps)
        if not is_concrete(strength) or float(strength) != 1.0:
            maps = _partial(maps, strength)
        moved = _by_index(maps, jnp.asarray(x), index, count=count)
        _check_range(x, moved)
        if self.noise is None or deterministic:
            return moved
        if key is None:
            raise ValueError(
                "key is missing: a channel is exactly fair only with its noise; pass "
                "key=jax.random.key(seed), or deterministic=True for the mean, which is "
                "only approximately fair."
            )
        check_key(key)
        factors = strength * self.noise
        noise = jax.random.normal(key, moved.shape, moved.dtype)
        spread = AffineMap(factors, jnp.zeros(factors.shape[:2], moved.dtype))
        return moved + _by_index(spread, noise, index, count=n_groups)

    __call__ = transport


def _partial(maps: Any, strength: Any) -> Any:
    if isinstance(maps, AffineMap) and maps.weight.shape[-2] != maps.weight.shape[-1]:
        raise ValueError(
            "strength needs maps within one space; this channel keeps fewer coordinates "
            "than the data has: use subspace='all' or strength=1."
        )
    return jax.vmap(lambda one: one.interpolate(strength))(maps)


def _check_features(x: Any, maps: Any) -> None:
    dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
    if dtype.kind not in "biuf" and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"x must hold numbers, got dtype {dtype}; encode the columns first."
        )
    size = maps.n_features(1)
    vector = size is not None
    expected = f"[n, {size}]" if vector else "[n]"
    if jnp.ndim(x) != 1 + vector or (vector and jnp.shape(x)[1] != size):
        raise ValueError(
            f"x must have shape {expected}, as the population was fitted, got "
            f"{list(jnp.shape(x))}."
        )


def _check_range(x: Any, moved: Array) -> None:
    """Raise if rows on the host were numbers before and are none after."""
    # Rows on a device are in its precision already, and are not waited for.
    if isinstance(x, jax.Array) or not is_concrete(x, moved):
        return
    if np.shape(x) != np.shape(moved):
        return
    lost = np.isfinite(np.asarray(x)) & ~np.isfinite(np.asarray(moved))
    if lost.any():
        row = int(np.argwhere(lost)[0][0])
        raise ValueError(
            f"x leaves the range of {moved.dtype} when it is steered, first in row {row}; "
            f"standardize the features, or enable float64 (jax_enable_x64)."
        )


# Maps times features up to which every map visits every row: to sort the rows costs more.
FEW = 256
LARGEST_TILE = 256  # rows


@partial(jax.jit, static_argnames="count")
def _by_index(maps: Any, x: Array, index: Array, count: int) -> Array:
    """Apply ``maps[index[r]]`` to row ``r``; NaN where none fits.

    A few maps visit every row. More of them visit tiles of rows that are theirs, O(n d^2)
    however many there are: gathering a matrix per row would cost n d^2 memory.
    """
    few = max(2, FEW // (x.shape[1] if x.ndim > 1 else 1))
    return (_by_visits if count <= few else _by_tiles)(maps, x, index, count)


def _by_visits(maps: Any, x: Array, index: Array, count: int) -> Array:
    def visit(rows: Array, item: tuple[Array, Any]):
        code, move = item
        moved = move(x)
        mine = (index == code).reshape((-1,) + (1,) * (moved.ndim - 1))
        return jnp.where(mine, moved, rows), None

    shape = jax.eval_shape(jax.tree.map(lambda leaf: leaf[0], maps), x)
    start = jnp.full(shape.shape, jnp.nan, shape.dtype)
    codes = jnp.arange(count, dtype=index.dtype)
    return jax.lax.scan(visit, start, (codes, maps))[0]


def _by_tiles(maps: Any, x: Array, index: Array, count: int) -> Array:
    """Sort the rows by code, cut each code's rows into tiles, the last one not full."""
    n = x.shape[0]
    # Half of a code's last tile is empty on average: small tiles where codes have few.
    tile = min(LARGEST_TILE, 1 << max(n // (4 * count), 1).bit_length() - 1)
    n_tiles = min(n, n // tile + min(count, n))
    rows = jnp.arange(n, dtype=jnp.int32)
    known = (index >= 0) & (index < count)
    codes, order = _sorted(jnp.where(known, index, count), count)
    ends = jnp.searchsorted(codes, jnp.arange(count), side="right").astype(jnp.int32)
    begins = jnp.concatenate([jnp.zeros(1, jnp.int32), ends])
    last_tiles = jnp.cumsum((ends - begins[:-1] + tile - 1) // tile).astype(jnp.int32)
    first_tiles = jnp.concatenate([jnp.zeros(1, jnp.int32), last_tiles])
    # Where each row of the order goes among the tiles; unknown codes go nowhere.
    slots = first_tiles[codes] * tile + rows - begins[codes]
    slots = jnp.where(codes < count, slots, n_tiles * tile + rows)

    def put(start: Array, places: Array, values: Array):
        # As a scatter, which XLA does three times as fast on a CPU as a gather.
        return start.at[places].set(values, mode="drop", unique_indices=True)

    places = put(jnp.zeros_like(rows), order, slots)
    empty = jnp.zeros((n_tiles * tile, *x.shape[1:]), x.dtype)
    tiles = put(empty, places, x).reshape(n_tiles, tile, *x.shape[1:])
    numbers = jnp.arange(n_tiles, dtype=jnp.int32)
    owners = jnp.searchsorted(last_tiles, numbers, side="right")

    # And back, row by row as they are moved; what fills up a tile goes nowhere.
    back = n + jnp.arange(n_tiles * tile, dtype=jnp.int32)
    back = put(back, slots, order).reshape(n_tiles, tile)

    def move(rows: Array, item: tuple[Array, Array, Array]):
        owner, points, places = item
        moved = jax.tree.map(lambda leaf: leaf[owner], maps)(points)
        return put(rows, places, moved), None

    shape = jax.eval_shape(jax.tree.map(lambda leaf: leaf[0], maps), x)
    nothing = jnp.full(shape.shape, jnp.nan, shape.dtype)
    items = (jnp.minimum(owners, count - 1), tiles, back)
    return jax.lax.scan(move, nothing, items)[0]


def _sorted(codes: Array, count: int) -> tuple[Array, Array]:
    """Codes ``0..count`` in order, and the rows that they are of."""
    n = codes.shape[0]
    if (count + 1) * n >= 2**32:
        order = jnp.argsort(codes, stable=True).astype(jnp.int32)
        return codes[order], order
    # Code and row in one number: to sort it takes a third of the time.
    rows = jnp.arange(n, dtype=jnp.uint32)
    keys = jax.lax.sort(codes.astype(jnp.uint32) * n + rows, is_stable=False)
    return (keys // n).astype(jnp.int32), (keys % n).astype(jnp.int32)
