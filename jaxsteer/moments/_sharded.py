"""Moments of rows, and of columns, that are spread over many devices."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsteer._errors import check_choice, check_same_length
from jaxsteer._labels import cell_codes
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.linalg import matmul, symmetrize
from jaxsteer.moments._cells import blocks_of
from jaxsteer.moments._state import SCATTERS, MomentState

# Names of mesh axes: none, one, or several that share one dimension.
Axes = str | tuple[str, ...] | None


def is_spread(x: Any) -> bool:
    """Tell whether rows or columns lie on more than one device of a named mesh."""
    sharding = getattr(x, "sharding", None)
    return (
        isinstance(x, jax.Array)
        and isinstance(sharding, NamedSharding)
        and sharding.mesh.size > 1
        and isinstance(sharding.mesh, Mesh)
    )


def axes_of(x: Array) -> tuple[Mesh, Axes, Axes]:
    """Return the mesh of a spread array and the axes of its rows and columns."""
    sharding: Any = x.sharding
    spec = (*sharding.spec, None, None)
    return sharding.mesh, spec[0], spec[1] if x.ndim > 1 else None


def sharded_moments(
    x: Float[ArrayLike, "n d"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"] | None = None,
    *,
    n_classes: int,
    n_groups: int = 1,
    weights: Float[ArrayLike, " n"] | None = None,
    scatter: str = "cell",
    mesh: Mesh | None = None,
    rows: Axes = "rows",
    features: Axes = None,
) -> MomentState:
    """Take the moments of rows over a mesh of devices, without gathering them.

    Every device reads its own block of rows (and of columns, where `features` names an
    axis) and the sums are added over the devices (``psum``): first those of the means,
    then those about the means, so the result is that of :func:`update` on one device up
    to rounding. Where columns are spread, each device keeps its block of ``d / f`` rows
    of the scatter and the blocks of columns go around in a ring, so no device ever
    holds more than two blocks of the rows or a whole ``d x d`` matrix.

    Args:
        x: ``[n, d]`` features: an array that lies on a mesh already, or host rows,
            which are then spread. In several processes, make it with
            ``jax.make_array_from_process_local_data``.
        label: ``[n]`` class codes.
        group: ``[n]`` group codes; None for one group.
        n_classes: ``K``.
        n_groups: ``G``.
        weights: ``[n]`` sample weights, at least 0; None for 1.
        scatter: See :func:`init`.
        mesh: The devices; None takes those that `x` lies on.
        rows: Axis (or axes) of the mesh over which rows are spread; taken from `x` where
            that lies on a mesh.
        features: Axis over which columns are spread, or None; likewise.

    Returns:
        The state, on every device; its means, covariances and third moments spread over
        `features`. Cost O(n d^2 / devices) each, memory ``2 n d / devices + S d^2 / f``.

    Raises:
        ValueError: If the mesh is missing, columns cannot be divided evenly, or shapes,
            codes, weights or values are unusable.

    Example:
        >>> import jax, numpy as np
        >>> mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("rows",))
        >>> x, label = np.array([[0.0], [2.0], [4.0]]), np.array([0, 0, 0])
        >>> sharded_moments(x, label, n_classes=1, mesh=mesh).mean.tolist()
        [[2.0]]

    References:
        The two-pass algorithm in Chan, Golub and LeVeque 1983.
    """
    check_choice("scatter", scatter, SCATTERS)
    if np.ndim(x) != 2:
        raise ValueError(f"x must have shape [n, d], got {np.shape(x)}.")
    parts = spread(
        x, label, group, weights, mesh=mesh, rows=rows, features=features,
        sizes=(n_classes, n_groups),
    )  # fmt: skip
    state = _sharded(*parts, (n_classes, n_groups), scatter)
    cov = _symmetric(state.cov, *parts[4::2])
    return dataclasses.replace(state, cov=cov)


def spread(
    x: Any,
    label: Any,
    group: Any,
    weights: Any,
    *,
    mesh: Mesh | None,
    rows: Axes,
    features: Axes,
    sizes: tuple[int, int],
) -> tuple[Any, ...]:
    """Check rows and lay them out alike; return them with the mesh and its axes."""
    if is_spread(x) and mesh is None:
        mesh, rows, features = axes_of(x)
    if mesh is None:
        raise ValueError(
            "x lies on one device: pass mesh=jax.sharding.Mesh(devices, ('rows',)), or "
            "lay x out with jax.device_put(x, NamedSharding(mesh, P('rows')))."
        )
    n, d = np.shape(x)
    if group is None:
        group = jnp.zeros_like(jnp.asarray(label))
    check_same_length(x=x, label=label, group=group, weights=weights)
    if d % axis_size(mesh, features):
        raise ValueError(
            f"x has {d} columns, which the {axis_size(mesh, features)} devices of axis "
            f"{features!r} cannot share evenly; append columns of noise, or spread rows "
            f"only."
        )
    missing = -n % axis_size(mesh, rows)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if weights is None:
        weights = np.ones(n, dtype)
    along = NamedSharding(mesh, PartitionSpec(rows))

    def lay(values: Any, sharding: NamedSharding) -> Any:
        if missing:
            # Rows of no weight.
            zeros = np.zeros((missing, *np.shape(values)[1:]), np.result_type(values))
            values = np.concatenate([np.asarray(values), zeros])
        return jax.device_put(values, sharding)

    x = lay(x, NamedSharding(mesh, PartitionSpec(rows, features)))
    label, group, weights = (lay(v, along) for v in (label, group, weights))
    _check_values(x, label, group, weights, sizes)
    return x, label, group, weights, mesh, rows, features


def axis_size(mesh: Mesh, axes: Axes) -> int:
    """Return the number of devices along an axis, or along several."""
    if axes is None:
        return 1
    return math.prod(mesh.shape[name] for name in names_of(axes))


def names_of(axes: Axes) -> tuple[str, ...]:
    return () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)


@jax.jit
def _extremes(x: Array, label: Array, group: Array, weights: Array):
    finite = jnp.all(jnp.isfinite(x)), jnp.all(jnp.isfinite(weights))
    ends = [f(v) for v in (label, group, weights) for f in (jnp.min, jnp.max)]
    return (*finite, *ends)


def _check_values(x: Any, label: Any, group: Any, weights: Any, sizes: Any) -> None:
    """Raise as the checks of host rows do, from a few numbers that devices reduce."""
    for name, codes in (("label", label), ("group", group)):
        if not (jnp.issubdtype(codes.dtype, jnp.integer) or codes.dtype == bool):
            raise ValueError(
                f"{name} must hold integer codes 0, 1, ..., got dtype {codes.dtype}; "
                f"encode first: codes, names = jaxsteer.encode_labels({name})."
            )
    found = [np.asarray(v) for v in _extremes(x, label, group, weights)]
    if not found[0]:
        raise ValueError("x has values that are not finite; impute or drop them first.")
    for name, low, high, size in (
        ("label", found[2], found[3], sizes[0]),
        ("group", found[4], found[5], sizes[1]),
    ):
        if low < 0 or high >= size:
            raise ValueError(
                f"{name} has codes from {low} to {high}, expected 0..{size - 1}; leave "
                f"rows of unknown values out."
            )
    if not found[1] or found[6] < 0 or found[7] <= 0:
        raise ValueError(
            f"weights must be finite and at least 0 with a positive sum, got a minimum "
            f"of {found[6]} and a maximum of {found[7]}."
        )


@partial(jax.jit, static_argnums=(4, 5, 6, 7, 8))
def _sharded(
    x: Array,
    label: Array,
    group: Array,
    weights: Array,
    mesh: Mesh,
    rows: Axes,
    features: Axes,
    sizes: tuple[int, int],
    scatter: str,
):
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    along, columns = PartitionSpec(rows), PartitionSpec(None, features)
    one_device = partial(
        _block_moments,
        rows=names_of(rows),
        features=names_of(features),
        n_blocks=axis_size(mesh, features),
        sizes=sizes,
        scatter=scatter,
    )
    like = PartitionSpec()
    layout: dict[str, Any] = dict.fromkeys(("mass", "squares", "fourth", "level"), like)
    layout |= dict.fromkeys(("mean", "cov", "third"), columns)
    out = MomentState(**layout, n_groups=sizes[1])
    return jax.shard_map(
        one_device,
        mesh=mesh,
        in_specs=(PartitionSpec(rows, features), along, along, along),
        out_specs=out,
        check_vma=False,
    )(x.astype(dtype), label, group, weights.astype(dtype))


@partial(jax.jit, static_argnums=(1, 2))
def _symmetric(cov: Array, mesh: Mesh, features: Axes):
    """Make entries (i, j) and (j, i) equal, which two devices summed in two orders.

    A program of its own: joined to the one above, the division there and the sum here
    round together, differently for the two.
    """
    layout = NamedSharding(mesh, PartitionSpec(None, features))
    return jax.lax.with_sharding_constraint(symmetrize(cov), layout)


def _block_moments(
    x: Array,
    label: Array,
    group: Array,
    weights: Array,
    *,
    rows: Axes,
    features: Axes,
    n_blocks: int,
    sizes: tuple[int, int],
    scatter: str,
):
    """What one device adds: its rows, its columns, its block of the scatter."""

    def add(values: Any) -> Any:
        return jax.lax.psum(values, rows) if rows else values

    def across(values: Any) -> Any:
        return jax.lax.psum(values, features) if features else values

    n_cells, dtype = sizes[0] * sizes[1], x.dtype
    d = x.shape[1] * n_blocks
    cell = cell_codes(label, group, sizes[1])

    def by_cell(values: Any) -> Any:
        return add(jnp.zeros((n_cells, *values.shape[1:]), dtype).at[cell].add(values))

    mass, squares = by_cell(weights), by_cell(weights * weights)
    safe = jnp.where(mass > 0, mass, 1.0)
    origin = add(jnp.sum(weights[:, None] * x, 0)) / jnp.sum(mass)
    mean = by_cell(weights[:, None] * (x - origin)) / safe[:, None]
    y = x - origin - mean[cell]
    norms = across(jnp.sum(y * y, -1))
    level = by_cell(weights * norms) / safe / d
    norms = norms / jnp.where(level > 0, level, 1.0)[cell]
    third, fourth = jnp.zeros((n_cells, x.shape[1]), dtype), jnp.zeros(n_cells, dtype)
    if scatter == "cell":
        root = jnp.sqrt(jnp.where(level > 0, level, 1.0))[cell]
        third = by_cell((weights * norms / root)[:, None] * y) / safe[:, None]
        fourth = by_cell(weights * norms * norms) / safe
    kept = {"cell": n_cells, "group": sizes[1], "pooled": 1}[scatter]
    owner = {"cell": cell, "group": cell % sizes[1], "pooled": cell * 0}[scatter]
    total = add(jnp.zeros(kept, dtype).at[owner].add(weights))
    cov = add(_ring(y, owner, kept, weights, features, n_blocks))
    return MomentState(
        mass=mass,
        squares=squares,
        mean=jnp.where(mass[:, None] > 0, mean + origin, 0.0),
        cov=cov / jnp.where(total > 0, total, 1.0)[:, None, None],
        third=third,
        fourth=fourth,
        level=level,
        n_groups=sizes[1],
    )


def _ring(
    y: Array, owner: Array, kept: int, weights: Array, features: Axes, n_blocks: int
):
    """Own columns against all columns, ``[S, d / f, d]``; blocks go from hand to hand."""
    product = _grams(owner, kept, weights)
    width = y.shape[1]
    if n_blocks == 1:
        return product(y, y)
    place = jax.lax.axis_index(features)
    onward = [(i, (i - 1) % n_blocks) for i in range(n_blocks)]

    def step(carry: Any, turn: Any) -> Any:
        total, other = carry
        block = (place + turn) % n_blocks
        total = jax.lax.dynamic_update_slice(
            total, product(y, other), (0, 0, block * width)
        )
        return (total, jax.lax.ppermute(other, features, onward)), None

    empty = jnp.zeros((kept, width, width * n_blocks), y.dtype)
    return jax.lax.scan(step, (empty, y), jnp.arange(n_blocks))[0][0]


def _grams(owner: Array, kept: int, weights: Array) -> Any:
    """Return ``(left, right) -> [S, a, b]``, the sums of ``w left right'`` by owner."""
    if kept == 1:
        return lambda left, right: matmul((weights[:, None] * left).T, right)[None]
    blocks = blocks_of(owner, kept)

    def product(left: Any, right: Any) -> Any:
        def add_block(total: Any, block: Any) -> Any:
            code, row, held = block
            mine = jnp.where(held[:, None], left[row], 0.0)
            other = jnp.where(held[:, None], weights[row][:, None] * right[row], 0.0)
            return total.at[code].add(matmul(mine.T, other)), None

        empty = jnp.zeros((kept, left.shape[1], right.shape[1]), left.dtype)
        return jax.lax.scan(add_block, empty, blocks)[0]

    return product
