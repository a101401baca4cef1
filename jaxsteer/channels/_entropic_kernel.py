"""Entropic kernels: the degrading kernel's linear program, smoothed, in pure JAX.

With row masses ``w_b`` and posteriors ``r_b`` of the bins, and masses ``m_t`` and
posteriors ``s_t`` of the atoms, a kernel is a coupling ``P = diag(w) M`` of the two
masses under which ``E[r | t] = s_t``: a martingale from atoms to bins. The smoothed
program is solved by ``M_bt = softmax_t(-cost_bt / temperature + u_t + v_t r_b)``.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_finite, is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.channels._roc import excess_information, meet_atoms
from jaxsteer.linalg import einsum, matmul
from jaxsteer.solvers import Status, require_converged
from jaxsteer.solvers._entropic_dual import Program, kernel_of, solve_dual


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class EntropicKernel:
    """A kernel from bins to atoms, and how its solve ended.

    Attributes:
        kernel: ``[B, T]`` rows on the simplex.
        cost: ``[]`` expected squared change of rank.
        residual: ``[]`` largest difference between the law of the atom given a class and
            the (diluted) target's.
        status: ``[]`` int32 :class:`jaxsteer.Status`.
        steps: ``[]`` Newton steps, int32.
    """

    kernel: Float[Array, "B T"]
    cost: Float[Array, ""]
    residual: Float[Array, ""]
    status: Int[Array, ""]
    steps: Int[Array, ""]

    @property
    def converged(self) -> Array:
        """Whether the solve converged, ``[]`` bool."""
        return self.status == Status.CONVERGED

    def require(self) -> EntropicKernel:
        """Return self, or raise :class:`jaxsteer.SolveError` naming the failing rows."""
        require_converged(self.status, "entropic kernel")
        return self


def diluted(
    law: Float[Array, "2 T"], mix: Float[Array, "2"], margin: Float[Array, ""] | float
) -> Float[Array, "2 T"]:
    """Law of the atom if it is redrawn from its marginal with probability `margin`."""
    return (1 - margin) * law + margin * matmul(mix, law)


def check_smoothing(temperature: object, margin: object) -> None:
    """Raise unless concrete `temperature` is positive and `margin` in [0, 1)."""
    if is_concrete(temperature) and not (np.asarray(temperature) > 0).all():
        raise ValueError(
            f"temperature={temperature} must be positive; for the limit 0 use the "
            f"linear program (method='linear_program')."
        )
    if is_concrete(margin):
        share = np.asarray(margin)
        if not ((share >= 0) & (share < 1)).all():
            raise ValueError(
                f"margin={margin} must be in [0, 1): the share of atoms redrawn."
            )


def _posterior(law: Array, mix: Array) -> tuple[Array, Array]:
    mass = matmul(mix, law)
    some = mass > 0
    return mass, jnp.where(some, mix[1] * law[1] / jnp.where(some, mass, 1.0), mix[1])


def _middle(mass: Array) -> Array:
    return jnp.cumsum(mass) - mass / 2


def _status(
    residual: Array, limit: Array, stalled: Array, feasible: Array, usable: Array
) -> Array:
    status = jnp.where(stalled > 0, Status.STALLED, Status.MAX_STEPS)
    status = jnp.where(residual <= limit, Status.CONVERGED, status)
    status = jnp.where(jnp.isfinite(residual), status, Status.NONFINITE)
    status = jnp.where(feasible, status, Status.INFEASIBLE)
    return jnp.where(usable, status, Status.BAD_INPUT).astype(jnp.int32)


@partial(jax.jit, static_argnames="max_steps")
def _solve(
    source: Array, target: Array, mix: Array, temperature: Array, margin: Array,
    *, max_steps: int,
) -> EntropicKernel:  # fmt: skip
    eps = float(jnp.finfo(source.dtype).eps)
    mass, rate = _posterior(source, mix)
    goal_mass, goal_rate = _posterior(target, mix)
    cost = jnp.square(_middle(mass)[:, None] - _middle(goal_mass))
    program = Program(
        mass, rate, cost, goal_mass, goal_rate, mix[1], temperature, margin
    )
    goal = diluted(target, mix, margin)
    laws = jnp.concatenate([source.ravel(), target.ravel(), mix])
    usable = jnp.all(jnp.isfinite(laws) & (laws >= 0)) & jnp.all(mix > 0)
    usable = usable & (temperature > 0) & (margin >= 0) & (margin < 1)
    excess = excess_information(*jax.lax.stop_gradient((source, goal, mix)))
    feasible = excess <= 100 * eps
    dual, _, steps, stalled = solve_dual(
        program, usable & feasible, max_steps=max_steps
    )
    kernel = kernel_of(dual, program)
    residual = jnp.max(jnp.abs(matmul(source, kernel) - goal))
    # A class's law is rounded as the joint law is, over the class's share.
    rare = jnp.maximum(1.0, 0.25 / jnp.min(mix))
    limit = eps * jnp.minimum(100 + 0.01 / temperature, 2000.0) * rare
    status = _status(residual, limit, stalled, feasible, usable)
    return EntropicKernel(
        kernel=kernel,
        cost=jnp.sum(mass[:, None] * kernel * cost),
        residual=residual,
        status=status,
        steps=steps.astype(jnp.int32),
    )


def entropic_kernel(
    source: Float[ArrayLike, "2 B"],
    target: Float[ArrayLike, "2 T"],
    mix: Float[ArrayLike, "2"],
    *,
    temperature: float | Float[ArrayLike, ""] = 1e-3,
    margin: float | Float[ArrayLike, ""] = 1e-3,
    max_steps: int = 200,
) -> EntropicKernel:
    """Find the smoothed kernel from `source` to `target` that moves ranks the least.

    Minimizes ``sum_b w_b sum_t M_bt (cost_bt + temperature log M_bt)`` over kernels that
    deliver the diluted target exactly, where ``w = mix @ source`` and the cost is the
    squared change of rank. Its rank cost is at most ``temperature * log(T)`` above the
    linear program's for the same (diluted) target.

    **The margin.** Where the target's ROC curve touches the source's hull, as a meet
    does, every exact kernel has zeros, and a kernel of full support, which is all that an
    entropic program can return, does not exist: its unknowns run to infinity. With
    probability `margin` the target's atom is therefore redrawn from its marginal. That
    lowers the ROC curve's height above the diagonal by the factor ``1 - margin``, the
    same for every source, and a finite solution exists. ``margin=0`` is allowed: a target
    strictly below the source is reached as ever; one that touches it is approached until
    rounding ends the run (the zeros come out as tiny numbers, after about twice the
    steps), and derivatives there mean nothing.

    One problem; batch with ``vmap``. Cost ``O(B^2 T)`` a step, 15 to 30 steps. Implicit
    derivatives with respect to everything but `max_steps`, right only where the status
    is CONVERGED; they cost ``O(B T^2 + T^3)``. CONVERGED means a residual of at most
    ``100 + 0.01 / temperature`` roundings, 2000 at most: the logits, and their rounding,
    grow as the temperature falls. (More in proportion where a class has less than a
    quarter of `mix`.)

    Args:
        source: ``[2, B]`` law of the bin given class 0 and 1, lowest scores first; bins
            without mass are allowed.
        target: ``[2, T]`` law of the atom given class 0 and 1, likewise.
        mix: ``[2]`` class shares by which ranks are taken.
        temperature: Weight of the entropy, in squared ranks: kernels blur by about
            ``sqrt(temperature / 2)`` of the rows.
        margin: Share of dilution, in [0, 1).
        max_steps: Step limit.

    Returns:
        The kernel and how the solve ended: INFEASIBLE where the target is more
        informative than the source, BAD_INPUT for laws that are negative or not finite.

    Raises:
        ValueError: On shapes that do not fit, or a concrete temperature or margin out of
            range.

    Example:
        >>> import jax.numpy as jnp
        >>> source = jnp.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]])
        >>> target = jnp.array([[0.6, 0.4], [0.4, 0.6]])
        >>> found = entropic_kernel(source, target, jnp.array([0.5, 0.5]), margin=0.0)
        >>> bool(jnp.allclose(source @ found.kernel, target, atol=1e-5))
        True

    References:
        Blackwell 1953 (kernels between experiments); Cuturi 2013 (entropic smoothing of
        transport); Nocedal & Wright 2006, chapter 3 (damped Newton).
    """
    dtype = jnp.result_type(source, target, mix, jnp.float32)
    source, target, mix = (jnp.asarray(v, dtype) for v in (source, target, mix))
    for name, law in (("source", source), ("target", target)):
        if law.ndim != 2 or law.shape[0] != 2:
            raise ValueError(
                f"{name} has shape {law.shape}, expected [2, cells]: its law given class "
                f"0 and 1; batch with jax.vmap."
            )
    if mix.shape != (2,):
        raise ValueError(f"mix has shape {mix.shape}, expected the two class shares.")
    check_smoothing(temperature, margin)
    temperature, margin = (jnp.asarray(v, source.dtype) for v in (temperature, margin))
    return _solve(source, target, mix, temperature, margin, max_steps=max_steps)


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


def _atom_posteriors(law: Array, shares: Array) -> Array:
    """``P(Y = 1 | atom)``; an atom without mass takes the share of class 1."""
    joint = shares[:, None] * law
    total = jnp.sum(joint, 0)
    some = total > 0
    return jnp.where(some, joint[1] / jnp.where(some, total, 1.0), shares[1])


@partial(jax.jit, static_argnames=("atoms", "max_steps"))
def _solve_meet(
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
        atom_scores=_atom_posteriors(goal, shares),
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
    return _solve_meet(counts, temperature, margin, atoms=atoms, max_steps=max_steps)
