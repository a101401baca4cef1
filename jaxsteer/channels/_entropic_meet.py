"""The ROC channel from binned counts to kernels in pure JAX: jit, vmap and gradients."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_finite, is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.channels._entropic_kernel import check_smoothing, diluted, entropic_kernel
from jaxsteer.channels._meet_curve import meet_atoms
from jaxsteer.linalg import einsum
from jaxsteer.solvers import Status, require_converged


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class EntropicMeet:
    """Kernels of every group to common atoms, and how their solves ended.

    Attributes:
        kernels: ``[G, B, T]`` rows on the simplex, ``P(atom | bin, group)``.
        atoms: ``[2, T]`` law of the atom given class 0 and 1, lowest posterior first.
        atom_scores: ``[T]`` ``P(Y = 1 | atom)`` under the counts' class shares,
            non-decreasing.
        cost: ``[G]`` expected squared change of rank in each group.
        gap: ``[]`` largest difference between two groups' TPR or FPR over all
            thresholds, as delivered.
        residual: ``[G]`` largest difference between a group's delivered law and `atoms`.
        status: ``[G]`` int32 :class:`jaxsteer.Status`.
        steps: ``[G]`` Newton steps, int32.
    """

    kernels: Float[Array, "G B T"]
    atoms: Float[Array, "2 T"]
    atom_scores: Float[Array, " T"]
    cost: Float[Array, " G"]
    gap: Float[Array, ""]
    residual: Float[Array, " G"]
    status: Int[Array, " G"]
    steps: Int[Array, " G"]

    @property
    def converged(self) -> Array:
        """Whether every group's solve converged, ``[]`` bool."""
        return jnp.all(self.status == Status.CONVERGED, -1)

    def require(self) -> EntropicMeet:
        """Return self, or raise :class:`jaxsteer.SolveError` naming the failing rows."""
        require_converged(self.status, "entropic meet")
        return self


#: Least share of a class in the mixture by which ranks are taken.
RAREST = 0.05


def _posterior(law: Array, shares: Array) -> Array:
    """``P(Y = 1 | atom)``; an atom without mass takes the share of class 1."""
    joint = shares[:, None] * law
    total = jnp.sum(joint, 0)
    some = total > 0
    return jnp.where(some, joint[1] / jnp.where(some, total, 1.0), shares[1])


@partial(jax.jit, static_argnames=("atoms", "max_steps"))
def _solve(
    counts: Array, temperature: Array, margin: Array, *, atoms: int, max_steps: int
) -> EntropicMeet:
    cells = jnp.sum(counts, -1)
    usable = jnp.all(jnp.isfinite(counts)) & jnp.all(counts >= 0) & jnp.all(cells > 0)
    # Where a class is missing nothing is right; a law is put there so that all is finite.
    counts = jnp.where(usable, counts, 1.0)
    laws = counts / jnp.sum(counts, -1, keepdims=True)
    shares = jnp.sum(counts, (0, 2)) / jnp.sum(counts)
    # What is delivered to a class is known to rounding over its share of the mixture in
    # which ranks and masses are taken: a rare class gets more of it than its rows.
    mix = jnp.clip(shares, RAREST, 1 - RAREST)
    target = meet_atoms(laws, mix, atoms=atoms)
    found = jax.vmap(
        lambda law: entropic_kernel(
            law, target, mix, temperature=temperature, margin=margin,
            max_steps=max_steps,
        )
    )(laws)  # fmt: skip
    goal = diluted(target, mix, margin)
    rates = jnp.cumsum(einsum("gyb,gbt->gyt", laws, found.kernel), -1)
    return EntropicMeet(
        kernels=found.kernel,
        atoms=goal,
        atom_scores=_posterior(goal, shares),
        cost=found.cost,
        gap=jnp.max(jnp.max(rates, 0) - jnp.min(rates, 0)),
        residual=found.residual,
        status=jnp.where(usable, found.status, int(Status.BAD_INPUT)).astype(jnp.int32),
        steps=found.steps,
    )


def entropic_meet(
    counts: Float[ArrayLike, "G 2 B"],
    *,
    atoms: int | None = None,
    temperature: float | Float[ArrayLike, ""] = 1e-3,
    margin: float | Float[ArrayLike, ""] = 1e-3,
    max_steps: int = 200,
) -> EntropicMeet:
    """Fit the ROC channel to binned counts: a pure function of fixed shape.

    The groups' concave ROC hulls, their pointwise least curve at ``T + 1`` equidistant
    shares of rows (joined by straight lines below it), and one entropic kernel a group
    to its ``T`` atoms of equal mass. Given the class, the atom has one law in every
    group, to rounding: `gap`. What is given up for it, beyond the meet itself: the
    lines below the curve, ``O(1 / T^2)`` of its height, and the share `margin` of it,
    without which kernels of full support do not exist where a group's hull is the least.

    One score; batch many with ``vmap`` (and ``lax.map(..., batch_size=...)``: a batch
    takes the steps of its slowest problem). Cost ``O(G B^2 T)`` a step, 15 to 30 steps.
    Differentiable in `counts`, `temperature` and `margin` by the implicit function
    theorem wherever the hulls keep their corners and no two cross at a grid point. Take
    derivatives in float64: in float32 they are off by a few percent at the defaults.

    Args:
        counts: ``[G, 2, B]`` weighted rows of each group, class and score bin, lowest
            scores first; bins may be empty, and need not be the same in two groups.
        atoms: ``T``; None takes ``B``.
        temperature: Weight of the entropy, in squared ranks: kernels blur by about
            ``sqrt(temperature / 2)`` of the rows, and at 0 would be the linear program's.
        margin: Share of rows whose atom is redrawn from its marginal, in [0, 1).
        max_steps: Step limit.

    Returns:
        The kernels; BAD_INPUT where counts are negative or not finite, or a group lacks
        a class.

    Raises:
        ValueError: On shapes that do not fit, or concrete values out of range.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> counts = jnp.array([[[6.0, 3, 1], [1, 3, 6]], [[5, 3, 2], [2, 4, 4]]])
        >>> found = entropic_meet(counts, atoms=4)
        >>> found.kernels.shape, bool(found.gap < 1e-5)
        ((2, 3, 4), True)
        >>> slope = jax.grad(lambda c: entropic_meet(c, atoms=4).atom_scores[-1])(counts)

    References:
        As :func:`jaxsteer.roc_channel`; :func:`entropic_kernel` for the smoothing.
    """
    check_finite("counts", counts)
    counts = jnp.asarray(counts, jnp.result_type(counts, jnp.float32))
    if counts.ndim != 3 or counts.shape[1] != 2 or counts.shape[0] < 2:
        raise ValueError(
            f"counts has shape {counts.shape}, expected [groups, 2, bins] with at least "
            f"two groups; batch many scores with jax.vmap."
        )
    if is_concrete(counts) and np.min(counts) < 0:
        raise ValueError(f"counts must be at least 0, got {np.min(counts)}.")
    atoms = counts.shape[-1] if atoms is None else atoms
    if not (isinstance(atoms, int) and atoms >= 2):
        raise ValueError(f"atoms={atoms!r} must be a whole number of at least 2.")
    check_smoothing(temperature, margin)
    temperature, margin = (jnp.asarray(v, counts.dtype) for v in (temperature, margin))
    return _solve(counts, temperature, margin, atoms=atoms, max_steps=max_steps)
