"""``Population``: the joint law of features, class and group."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_key
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, Int, Key
from jaxsteer.families import Family, Product, SharedBijection
from jaxsteer.linalg import relative_entropy


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Population:
    """Priors and class-conditionals of every class-by-group cell.

    Attributes:
        priors: ``[K, G]``, ``P(Y = i, A = a)``; they sum to 1.
        conditionals: One family with batch shape ``[K, G]``, the law of the features in
            each cell.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> pop = js.Population(jnp.full((2, 2), 0.25),
        ...                     js.Normal(jnp.zeros((2, 2)), jnp.ones((2, 2))))
        >>> pop.n_classes, pop.n_groups, float(pop.kl(pop))
        (2, 2, 0.0)
    """

    priors: Float[Array, "K G"]
    conditionals: Family

    @property
    def n_classes(self) -> int:
        """Number of classes ``K``."""
        return self.priors.shape[-2]

    @property
    def n_groups(self) -> int:
        """Number of groups ``G``."""
        return self.priors.shape[-1]

    def kl(self, other: Population) -> Float[Array, ""]:
        """``KL(self || other)`` of the joint laws, in nats.

        ``sum_ia q_ia (log(q_ia / r_ia) + KL(f_ia || g_ia))`` with the priors ``q`` of
        `self` as weights. Cells without mass in `self` count as 0.
        """
        prior, feature = kl_parts(self, other)
        return prior + feature

    def cell(self, i: int | ArrayLike, a: int | ArrayLike) -> Family:
        """Law of the features of class `i` in group `a`."""
        return _cell(self.conditionals, i, a)

    def sample(
        self, key: Key[Array, ""], n: int
    ) -> tuple[Array, Int[Array, " n"], Int[Array, " n"]]:
        """Draw ``n`` rows.

        Args:
            key: A random key.
            n: Number of rows.

        Returns:
            Features ``[n]`` or ``[n, d]``, class codes ``[n]``, group codes ``[n]``.

        Raises:
            ValueError: If `key` is no key.
        """
        check_key(key)
        return _sample(self, key, n)


@partial(jax.jit, static_argnames="n")
def _sample(pop: Population, key: Array, n: int) -> tuple[Array, Array, Array]:
    cell_key, x_key = jax.random.split(key)
    logits = jnp.log(pop.priors).reshape(-1)
    cell = jax.random.categorical(cell_key, logits, shape=(n,))
    label, group = cell // pop.n_groups, cell % pop.n_groups

    # A cell at a time (not a matrix per row), then pick each row's own cell.
    keys = jax.random.split(x_key, pop.n_classes * pop.n_groups)

    def add_cell(total: Array, code: Array):
        i, a = code // pop.n_groups, code % pop.n_groups
        rows = _cell(pop.conditionals, i, a).sample(keys[code], (n,))
        mine = (cell == code).reshape((n,) + (1,) * (rows.ndim - 1))
        return jnp.where(mine, rows, total), None

    one = jax.eval_shape(lambda: _cell(pop.conditionals, 0, 0).sample(key, (n,)))
    start = jnp.zeros(one.shape, one.dtype)
    x, _ = jax.lax.scan(add_cell, start, jnp.arange(len(keys)))
    return x, label, group


def _cell(conditionals: Any, i: Any, a: Any) -> Any:
    """Law of cell ``(i, a)``; a shared bijection has no cells to pick from."""
    if isinstance(conditionals, SharedBijection):
        return conditionals.with_base(_cell(conditionals.base, i, a))
    if isinstance(conditionals, Product):
        return Product(tuple(_cell(block, i, a) for block in conditionals.blocks))
    return jax.tree.map(lambda leaf: leaf[i, a], conditionals)


def kl_parts(
    target: Population,
    source: Population,
    cells: Float[Array, "K G"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the prior and the feature part of ``KL(target || source)``, in nats.

    Args:
        target: The first population.
        source: The second one.
        cells: The divergences of the cells, where they are known.
    """
    prior = jnp.sum(relative_entropy(target.priors, source.priors), (-2, -1))
    costs = target.conditionals.kl(source.conditionals) if cells is None else cells
    used = target.priors > 0
    cost = jnp.where(used, target.priors * jnp.where(used, costs, 0.0), 0.0)
    feature = jnp.sum(cost, (-2, -1))
    return prior, feature


def check_kind(pop: Any, name: str = "pop") -> None:
    """Raise unless `pop` is a population of arrays.

    Raises:
        ValueError: Naming the argument and the remedy.
    """
    if not isinstance(pop, Population):
        raise ValueError(
            f"{name} must be a jaxsteer.Population, got {type(pop).__name__}; build one "
            f"with jaxsteer.fit_population or jaxsteer.Population(priors, conditionals)."
        )
    # Bayes rates are those of a density alone, too.
    if not any(hasattr(pop.conditionals, method) for method in ("kl", "log_prob")):
        raise ValueError(
            f"{name}.conditionals must be laws of one family, such as jaxsteer.Normal, "
            f"got {type(pop.conditionals).__name__}."
        )
    leaves = jax.tree_util.tree_leaves_with_path(pop.conditionals)
    if isinstance(pop.priors, list | tuple) or any(
        _is_number_of_a_parameter(path, leaf) for path, leaf in leaves
    ):
        raise ValueError(
            f"{name} holds plain numbers or lists of them; make arrays [K, G] of them by "
            "jax.numpy.asarray."
        )


def _is_number_of_a_parameter(path: Any, leaf: Any) -> bool:
    """Whether a leaf is a number of Python that belongs to no part, say a bijection."""
    parts = sum(isinstance(key, jax.tree_util.GetAttrKey) for key in path)
    plain = isinstance(leaf, bool | int | float | str)
    return parts == 1 and plain and not isinstance(leaf, np.generic)


def check_population(pop: Any, name: str = "pop", *, batch: bool = False) -> None:
    """Raise unless `pop` is a population whose shapes agree.

    Args:
        pop: What was passed.
        name: The argument's name.
        batch: Whether many populations are stacked along one more leading axis.

    Raises:
        ValueError: Naming the argument and the remedy.
    """
    check_kind(pop, name)
    shape = jnp.shape(pop.priors)
    if len(shape) != 2 + batch:
        raise ValueError(
            f"{name}.priors must have shape {'[N, K, G]' if batch else '[K, G]'}, got "
            f"{list(shape)}; stack populations for jaxsteer.nearest_ideal_batch and "
            f"pass one at a time to the others, or use jax.vmap."
        )
    if 0 in shape[-2:]:
        raise ValueError(
            f"{name}.priors has shape {list(shape)}: there is no class, or no group; a "
            f"population has at least one of each."
        )
    own = jnp.shape(jax.tree.leaves(pop.conditionals)[0])
    if 0 in own[2 + batch :]:
        raise ValueError(
            f"{name}.conditionals have no features: the shape of their first parameter "
            f"is {list(own)}."
        )
    cells = own[: 2 + batch]
    if cells != shape:
        raise ValueError(
            f"{name}.conditionals must have batch shape {shape}, as {name}.priors has, "
            f"got {cells}."
        )


def take_groups(cells: Any, groups: Any) -> Any:
    """Cells ``[K, G]`` of the given groups, in the given order.

    Args:
        cells: Laws with batch ``[K, G]``.
        groups: ``[g]`` integer indices, which may be traced.
    """
    if isinstance(cells, SharedBijection):
        return cells.with_base(take_groups(cells.base, groups))
    if isinstance(cells, Product):
        return Product(tuple(take_groups(block, groups) for block in cells.blocks))
    return jax.tree.map(lambda leaf: leaf[:, groups], cells)


def choose_reference(
    priors: Float[Array, "K G"], reference: int | Int[Array, ""] | None
) -> Int[Array, ""]:
    """The reference group's index: the one named, or the largest, the first of equals."""
    if reference is None:
        return jnp.argmax(jax.lax.stop_gradient(jnp.sum(priors, 0))).astype(jnp.int32)
    return jnp.asarray(reference, jnp.int32)


def fixed_priors(
    priors: Float[Array, "K G"], mode: str, reference: int | Int[Array, ""]
) -> Float[Array, "K G"]:
    """Return the new priors of a mode that needs no search.

    Args:
        priors: ``[K, G]`` source priors ``q``.
        mode: "reweigh": ``q_i. q_.a`` (Kamiran and Calders); "balanced": all classes
            weigh alike, ``q_.a / K``; "reference": every group gets the reference
            group's class shares, group sizes stay; "keep": `priors`.
        reference: The reference group.

    Returns:
        ``[K, G]`` new priors.
    """
    if mode == "keep":
        return priors
    sizes = jnp.sum(priors, 0)
    if mode == "reference":
        column = priors[:, reference]
        return column[:, None] / jnp.sum(column) * sizes
    if mode == "balanced":
        return jnp.broadcast_to(sizes / priors.shape[0], priors.shape)
    return jnp.sum(priors, 1, keepdims=True) * sizes
