"""``fit_rome_em``: the mixture by maximum likelihood, from many starts at once."""

from __future__ import annotations

import dataclasses
import numbers
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import (
    check_choice,
    check_codes,
    check_finite,
    check_same_length,
    check_weights,
    is_concrete,
)
from jaxsteer._types import Array, ArrayLike, Float, Key, PyTree
from jaxsteer.latent._design import Scaling, make_design
from jaxsteer.latent._em import (
    Model,
    Problem,
    Schedule,
    draw_starts,
    given_start,
    run_many,
)
from jaxsteer.latent._outcomes import ClassOutcome, NormalOutcome, Outcome, Params
from jaxsteer.latent._result import RomeFit
from jaxsteer.latent._standard_errors import rome_standard_errors
from jaxsteer.linalg import transpose
from jaxsteer.solvers import Status

FAMILIES = ("normal", "bernoulli", "categorical")
MEMBERSHIPS = ("multinomial", "one_vs_rest")
VARIANCES = ("common", "group")
TRACE = 512  # traces grow by so many steps at a time, each size is compiled once


def released_choices() -> dict[str, Any]:
    """Options of :func:`fit_rome_em` that do as the code released with the paper.

    Unit variance whatever the noise, memberships by separate regressions without an
    intercept, half steps, and one start from random labels. That code's rule for
    shortening steps further compares values that are no likelihood; it is left out.

    Example:
        >>> released_choices()["variance"]
        1.0
    """
    return {
        "variance": 1.0,
        "membership": "one_vs_rest",
        "membership_intercept": False,
        "damping": 0.5,
        "restarts": 1,
        "init": "labels",
    }


def fit_rome_em(
    y: ArrayLike,
    x: Float[ArrayLike, "n p"],
    s_membership: Float[ArrayLike, "n q"],
    n_groups: int,
    *,
    family: str = "normal",
    n_classes: int | None = None,
    variance: str | float = "common",
    membership: str = "multinomial",
    membership_intercept: bool = True,
    intercept: bool = True,
    weights: Float[ArrayLike, " n"] | None = None,
    restarts: int = 20,
    init: PyTree = "partition",
    key: Key[Array, ""] | None = None,
    damping: float = 1.0,
    newton_steps: int = 1,
    ridge: float = 1e-3,
    min_variance: float = 1e-6,
    max_steps: int = 500,
    tolerance: float | None = None,
    batch_size: int | None = None,
    standard_errors: bool = False,
) -> RomeFit:
    """Fit latent groups whose membership and outcome are both regressions.

    ``P(group j | s) = softmax_j(gamma_j' [1, s])`` and, given the group, a normal
    outcome ``y ~ N(w_j' [1, x], v_j)`` or classes ``P(y = c) = softmax_c(W_j [1, x])``.
    EM raises the penalized log-likelihood at every step (up to rounding): weighted
    least squares or Newton steps for the outcome, Newton steps of one multinomial
    logistic regression for the membership. All starts run side by side in one program
    and the highest end is kept. Groups are ordered by size unless `init` names them.

    Columns and a normal outcome are standardized inside; results are in the units of
    the data. A step costs O(R n G (p^2 + q^2 G^2)) for `R` starts and holds
    O(R n G + n (p^2 + q^2)) numbers (the squares only while they are few).

    Args:
        y: ``[n]`` outcomes, or class codes 0..C-1.
        x: ``[n, p]`` columns of the outcome's regressions; no column of ones.
        s_membership: ``[n, q]`` (or ``[n]``) columns of the membership.
        n_groups: Number of latent groups ``G``; 1 is the pooled regression.
        family: "normal", "bernoulli" or "categorical".
        n_classes: ``C``; None takes the largest code plus one.
        variance: Of a normal outcome: "common" to the groups, "group" for one each, or
            a positive number that stays.
        membership: "multinomial", or "one_vs_rest" as the released code has it, which
            is not the maximum of the likelihood.
        membership_intercept: Whether the log-odds have an intercept.
        intercept: Whether the outcome has one.
        weights: ``[n]`` non-negative sample weights.
        restarts: Number of starts ``R``, where `init` is drawn.
        init: "partition" (cells around random rows of the membership columns),
            "labels" (uniform for each row), group codes ``[n]``, or responsibilities
            ``[n, G]``; the last two are one start.
        key: Randomness of the starts; None takes ``jax.random.key(0)``.
        damping: Part of each M-step that is taken, in (0, 1].
        newton_steps: Newton steps of each logistic regression in an M-step.
        ridge: Pseudo-rows that pull each standardized coefficient to zero; keeps
            separable and empty groups finite. 0 is plain maximum likelihood.
        min_variance: Least variance, relative to that of `y`.
        max_steps: Limit on EM steps.
        tolerance: Converged where the objective changes by less, in nats a row; None
            takes the larger of 1e-9 and ten rounding units.
        batch_size: Starts that run side by side; None runs all.
        standard_errors: Add them (see :func:`rome_standard_errors`).

    Returns:
        The best fit.

    Raises:
        ValueError: If an argument is unusable; the message says what to do.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jax.random.normal(jax.random.key(0), (400, 2))
        >>> slope = jnp.where(x[:, 1] > 0, 3.0, -3.0)
        >>> fit = fit_rome_em(slope * x[:, 0], x[:, :1], x[:, 1:], 2, max_steps=30)
        >>> sorted(round(v, 2) for v in fit.coef[:, 1].tolist())
        [-3.0, 3.0]

    References:
        "ROME: Robust Mixture Models for Algorithmic Fairness Under Latent
        Heterogeneity" (arXiv 2509.17411), equation 1 and algorithm 1; Böhning 1992,
        "Multinomial logistic regression algorithm", for the step that cannot fail.
    """
    check_choice("family", family, FAMILIES)
    check_choice("membership", membership, MEMBERSHIPS)
    check_options(n_groups, restarts, damping, ridge, newton_steps, max_steps)
    rows = {"y": y, "x": x, "s_membership": s_membership}
    if weights is not None:
        rows["weights"] = weights
    n = check_same_length(**rows)
    for name, values in rows.items():
        check_finite(name, values)
    if np.ndim(y) != 1:
        raise ValueError(f"y must have shape [n], got {list(np.shape(y))}.")
    x, s = _matrix("x", x), _matrix("s_membership", s_membership)
    dtype = jnp.promote_types(x.dtype, s.dtype)
    x, s = x.astype(dtype), s.astype(dtype)
    if weights is not None:
        check_weights(weights)
        weights = jnp.asarray(weights, dtype)
    if n_groups > n:
        raise ValueError(f"n_groups={n_groups} is more than the {n} rows.")
    outcome = _outcome(y, family, n_classes, variance, min_variance)
    drawn = isinstance(init, str) and init in ("partition", "labels")
    if tolerance is None:
        tolerance = max(1e-9, 10 * float(jnp.finfo(dtype).eps))
    how = _How(
        model=Model(outcome=outcome, one_vs_rest=membership == "one_vs_rest"),
        family=family,
        n_groups=n_groups,
        intercept=intercept,
        membership_intercept=membership_intercept,
        init=init if drawn else None,
        restarts=restarts,
        capacity=TRACE * (max_steps // TRACE + 1),
        batch_size=batch_size,
    )
    fit = _fit(
        _Rows(jnp.asarray(y), x, s, weights),
        key if drawn else given_start(init, n, n_groups, dtype),
        Schedule(
            jnp.asarray(tolerance, dtype),
            jnp.asarray(damping, dtype),
            jnp.asarray(newton_steps, jnp.int32),
            jnp.asarray(max_steps, jnp.int32),
        ),
        jnp.asarray(ridge, dtype),
        None if isinstance(variance, str) else jnp.asarray(variance, dtype),
        how=how,
    )
    if len(fit.trace) > max_steps + 1:
        fit = dataclasses.replace(fit, trace=fit.trace[: max_steps + 1])
    if not standard_errors:
        return fit
    return rome_standard_errors(fit, y, x, s, weights=weights, ridge=ridge)


class _Rows(NamedTuple):
    y: Array
    x: Float[Array, "n p"]
    s: Float[Array, "n q"]
    weights: Float[Array, " n"] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _How:
    """What is compiled into a fit."""

    model: Model
    family: str
    n_groups: int
    intercept: bool
    membership_intercept: bool
    init: str | None
    restarts: int
    capacity: int
    batch_size: int | None


@partial(jax.jit, static_argnames="how")
def _fit(
    rows: _Rows,
    start: Array | None,
    schedule: Schedule,
    ridge: Array,
    variance: Array | None,
    *,
    how: _How,
) -> RomeFit:
    """The fit to checked rows, in one program; `start` is a key, or responsibilities."""
    x, s, outcome = rows.x, rows.s, how.model.outcome
    mass = jnp.ones(len(x), x.dtype) if rows.weights is None else rows.weights
    y = rows.y.astype(x.dtype)[:, None]
    x_scaling, s_scaling, y_scaling = Scaling.of_each(
        [x, s, y],
        mass,
        intercepts=[how.intercept, how.membership_intercept, how.intercept],
    )
    y_mean, y_scale = y_scaling.mean[0], y_scaling.scale[0]
    first = jnp.ones((), x.dtype)
    if isinstance(outcome, ClassOutcome):
        target = jax.nn.one_hot(rows.y, outcome.n_classes, dtype=x.dtype, axis=0)
        y_mean, y_scale = jnp.zeros_like(first), first
    else:
        target = (y[:, 0] - y_mean) / y_scale
        first = first if variance is None else variance / y_scale**2
    problem = Problem(
        target,
        make_design(x_scaling(x)),
        make_design(s_scaling(s)),
        mass,
        ridge,
        first,
    )
    if how.init is None:
        thetas = start
    else:
        thetas = draw_starts(
            jax.random.key(0) if start is None else start,
            (s - jnp.mean(s, 0)) / s_scaling.scale,
            kind=how.init,
            n_groups=how.n_groups,
            restarts=how.restarts,
        )
    ended = run_many(
        problem,
        thetas,
        schedule,
        model=how.model,
        capacity=how.capacity,
        batch_size=how.batch_size,
    )
    best = jnp.argmax(jnp.where(jnp.isnan(ended.objective), -jnp.inf, ended.objective))
    one = jax.tree.map(lambda leaf: leaf[best], ended)
    params, theta, total = one.params, one.theta, one.log_likelihood
    if how.init is not None:
        order = jnp.argsort(-jnp.sum(theta * mass, 1), stable=True)
        params, theta = Params(*(leaf[order] for leaf in params)), theta[order]
    shift = jnp.zeros((), x.dtype)
    if how.family == "normal":
        shift = jnp.sum(mass) * jnp.log(y_scale)
    status = jnp.where(
        jnp.abs(one.gain) <= schedule.tolerance, Status.CONVERGED, Status.MAX_STEPS
    ).astype(jnp.int32)
    return RomeFit(
        params=params,
        s_scaling=s_scaling,
        x_scaling=x_scaling,
        y_mean=y_mean,
        y_scale=y_scale,
        responsibilities=transpose(theta),
        log_likelihood=total - shift,
        trace=one.trace - shift,
        restart_objectives=ended.objective - shift,
        residual=one.gain,
        status=jnp.where(jnp.isfinite(one.objective), status, Status.NONFINITE),
        steps=one.steps,
        mass=jnp.sum(mass),
        family=how.family,
        outcome=outcome,
        one_vs_rest=how.model.one_vs_rest,
    )


def check_options(
    n_groups: int,
    restarts: int,
    damping: float,
    ridge: Any,
    newton_steps: int,
    max_steps: int,
) -> None:
    """Raise unless the numbers that steer EM are usable."""
    counts = {
        "n_groups": n_groups,
        "restarts": restarts,
        "newton_steps": newton_steps,
        "max_steps": max_steps,
    }
    for name, count in counts.items():
        whole = isinstance(count, numbers.Integral) and not isinstance(count, bool)
        if not whole or count < 1:
            raise ValueError(f"{name}={count!r} must be a whole number, 1 or more.")
    if not 0 < damping <= 1:
        raise ValueError(f"damping={damping!r} must be above 0 and at most 1.")
    if is_concrete(ridge) and not ridge >= 0:
        raise ValueError(f"ridge={ridge!r} must be at least 0.")


def _matrix(name: str, rows: Any) -> Array:
    rows = jnp.asarray(rows)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(
            f"{name} must have shape [n, columns], got {list(rows.shape)}; at least one "
            "column is needed."
        )
    return rows.astype(jnp.promote_types(rows.dtype, jnp.float32))


def _outcome(
    y: ArrayLike, family: str, n_classes: int | None, variance: Any, min_variance: float
) -> Outcome:
    """The outcome's law, with what decides it checked."""
    if family != "normal":
        if variance != "common":
            raise ValueError(
                f"variance={variance!r} is for family='normal', got family={family!r}."
            )
        size = check_codes("y", y, 2 if family == "bernoulli" else n_classes)
        if size < 2:
            raise ValueError("y has one class only; at least two are needed.")
        return ClassOutcome(n_classes=size)
    if n_classes is not None:
        raise ValueError(f"n_classes={n_classes} is for classes; family is 'normal'.")
    if isinstance(variance, str):
        check_choice("variance", variance, VARIANCES)
        return NormalOutcome(variance=variance, floor=min_variance)
    if is_concrete(variance) and not variance > 0:
        raise ValueError(f"variance={variance!r} must be positive.")
    return NormalOutcome(variance="fixed", floor=min_variance)
