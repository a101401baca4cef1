"""One prediction for all groups: the mixture's worst case, found with cross-fitting."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_choice, check_finite, check_same_length, is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, Int, Key
from jaxsteer.latent._fit import fit_rome_em
from jaxsteer.latent._outcomes import NormalOutcome
from jaxsteer.latent._result import RomeFit
from jaxsteer.linalg import eigh, einsum, matmul, transpose
from jaxsteer.solvers import (
    ProjectedGradient,
    Solution,
    project_simplex,
    project_simplex_ball,
)


def _spread(v: Array, gram: Array) -> Array:
    return 0.5 * v @ matmul(gram, v)


def maximin_weights(
    gram: Float[ArrayLike, "G G"],
    *,
    prior: Float[ArrayLike, " G"] | None = None,
    radius: float | None = None,
    max_steps: int = 5000,
    tolerance: float | None = None,
) -> Solution:
    """Weights of the maximin aggregate, ``argmin_v v' Gram v`` over probabilities.

    With ``Gram_kl = E[f_k(X) f_l(X)]`` the prediction ``sum_k v_k f_k`` has the largest
    guaranteed explained variance over all mixtures of the groups; with a ball around
    the groups' shares, over the mixtures within it. Solved by accelerated projected
    gradient; batch with ``vmap``.

    Args:
        gram: ``[G, G]`` symmetric positive semi-definite.
        prior: ``[G]`` probabilities in the middle of the ball; needed with `radius`.
        radius: Euclidean radius of the ball; None is the whole simplex, 0 is `prior`.
        max_steps: Limit on steps.
        tolerance: Residual that counts as converged; None takes the rounding unit to
            the power .7 (1e-11 in float64).

    Returns:
        The solution: `x` holds the weights, `value` half of ``v' Gram v`` relative to
        the mean diagonal entry.

    Raises:
        ValueError: If shapes, the prior or the radius are unusable.

    Example:
        >>> import jax.numpy as jnp
        >>> found = maximin_weights(jnp.array([[1.0, 0.0], [0.0, 3.0]]))
        >>> [round(v, 3) for v in found.x.tolist()]
        [0.75, 0.25]

    References:
        Meinshausen and Bühlmann 2015, "Maximin effects in inhomogeneous large-scale
        data", Annals of Statistics 43; Wang, Bühlmann and Guo 2023, arXiv 2309.02211;
        arXiv 2509.17411, section 4.
    """
    check_finite("gram", gram)
    gram = jnp.asarray(gram)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram must have shape [G, G], got {list(gram.shape)}.")
    n_groups = gram.shape[0]
    if radius is not None and prior is None:
        raise ValueError("radius needs prior, the point in the middle of the ball.")
    if is_concrete(radius) and radius is not None and radius < 0:
        raise ValueError(f"radius={radius!r} must be at least 0.")
    if prior is None:
        center = jnp.full(n_groups, 1 / n_groups, gram.dtype)
    else:
        center = jnp.asarray(prior, gram.dtype)
        if center.shape != (n_groups,):
            raise ValueError(
                f"prior must have shape [{n_groups}], got {list(center.shape)}."
            )
        if is_concrete(center):
            total = float(np.asarray(center).sum())
            if abs(total - 1) > 1e-3 or (np.asarray(center) < 0).any():
                raise ValueError(
                    f"prior must hold probabilities, got a sum of {total}."
                )
        center = project_simplex(center)
    if tolerance is None:
        tolerance = float(jnp.finfo(gram.dtype).eps) ** 0.7
    solver = ProjectedGradient(max_steps=max_steps, tolerance=tolerance)
    size = None if radius is None else jnp.asarray(radius, gram.dtype)
    return _solve(gram, center, size, solver=solver)


@partial(jax.jit, static_argnames="solver")
def _solve(
    gram: Array, center: Array, radius: Array | None, *, solver: ProjectedGradient
) -> Solution:
    level = jnp.trace(gram) / gram.shape[0]
    gram = gram / jnp.where(level > 0, level, 1.0)

    def project(x: Array):
        if radius is None:
            return project_simplex(x)
        return project_simplex_ball(x, center, radius)

    return solver.run(_spread, center, gram, projection=project)


RATIOS = ("none", "membership")
FLOOR = 1e-6  # of eigenvalues, relative to the mean diagonal entry


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustAggregate:
    """Weights that turn the groups' predictions into one.

    Attributes:
        fit: The mixture.
        weights: ``[G]`` probabilities.
        gram: ``[G, G]`` bias-corrected second moments of the groups' predictions.
        plain_gram: ``[G, G]`` the same before the correction.
        status: ``[]`` int32 :class:`jaxsteer.Status` of the weights' solve.
    """

    fit: RomeFit
    weights: Float[Array, " G"]
    gram: Float[Array, "G G"]
    plain_gram: Float[Array, "G G"]
    status: Int[Array, ""]

    def predict(self, x: Float[ArrayLike, "n p"]) -> Float[Array, "n ..."]:
        """``sum_k v_k f_k(x)``: needs no sensitive column beyond those in `x`."""
        groups = self.fit.predict_groups(x)
        weights = self.weights.reshape((-1,) + (1,) * (groups.ndim - 2))
        return jnp.sum(weights * groups, 1)

    @property
    def guaranteed(self) -> Float[Array, ""]:
        """``v' Gram v``, the explained second moment in the worst mixture."""
        return self.weights @ matmul(self.gram, self.weights)


def robust_aggregate(
    y: ArrayLike,
    x: Float[ArrayLike, "n p"],
    s_membership: Float[ArrayLike, "n q"],
    fit: RomeFit,
    *,
    radius: float | None = None,
    folds: int = 2,
    correct_bias: bool = True,
    center: bool = True,
    density_ratio: str = "none",
    clip: float = 20.0,
    key: Key[Array, ""] | None = None,
    max_steps: int = 200,
) -> RobustAggregate:
    """Aggregate the groups' predictions for the worst mixture of the groups.

    ``Gram_kl = mean_i f_k f_l``, less the mean of ``f_k (f_l - Y)`` over group `l` and
    of ``f_l (f_k - Y)`` over group `k`. The predictions are from fits that have not
    seen the row (warm-started from `fit`, so that the groups keep their names), and a
    row counts in a group by its responsibility. Eigenvalues are floored at 1e-6 of the
    mean diagonal entry before :func:`maximin_weights`.

    Args:
        y: ``[n]`` outcomes, those of `fit`.
        x: ``[n, p]`` columns of the outcome.
        s_membership: ``[n, q]`` columns of the membership.
        fit: The mixture.
        radius: Of a ball around the groups' shares (Euclidean; the released code
            divides by the root of ``G``), or None for all mixtures.
        folds: Parts for cross-fitting; 1 uses `fit` itself everywhere.
        correct_bias: Whether to correct at all.
        center: Measure outcome and predictions from the outcome's mean, so that adding a
            constant to the outcome changes nothing. Without, as in the paper, the worst
            case is relative to predicting 0.
        density_ratio: Rows of a group stand for all rows with weight 1 ("none", as
            released), or by the inverse of the membership probability ("membership").
        clip: Largest such weight.
        key: Randomness of the folds; None takes ``jax.random.key(0)``.
        max_steps: EM steps of each fold's fit.

    Returns:
        The aggregate.

    Raises:
        ValueError: If an option or a length is unusable.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxsteer.latent import fit_rome_em
        >>> x = jax.random.normal(jax.random.key(0), (400, 2))
        >>> y = jnp.where(x[:, 1] > 0, 3.0, -1.0) * x[:, 0]
        >>> fit = fit_rome_em(y, x[:, :1], x[:, 1:], 2, max_steps=30)
        >>> slopes = robust_aggregate(y, x[:, :1], x[:, 1:], fit).predict(
        ...     jnp.array([[0.0], [1.0]])
        ... )
        >>> bool(abs(slopes[1] - slopes[0]) < 0.1)  # the groups disagree in sign
        True

    References:
        Wang, Bühlmann and Guo 2023, arXiv 2309.02211; arXiv 2509.17411, section 4.
    """
    check_choice("density_ratio", density_ratio, RATIOS)
    n = check_same_length(y=y, x=x, s_membership=s_membership)
    if not 1 <= folds <= n // 2:
        raise ValueError(f"folds={folds!r} must be from 1 to half of the {n} rows.")
    if not clip >= 1:
        raise ValueError(f"clip={clip!r} must be at least 1.")
    if fit.responsibilities.shape[0] != n:
        raise ValueError(
            f"fit has {fit.responsibilities.shape[0]} rows and y has {n}; give the "
            "rows that the mixture was fitted to."
        )
    key = jax.random.key(0) if key is None else key
    part = jax.random.permutation(key, jnp.arange(n) % folds)
    f, theta, share = _seen_by(fit, y, x, s_membership)
    for fold in range(folds if folds > 1 else 0):
        # Left out by their weights, so that every fold runs the same program.
        one = _refit(fit, y, x, s_membership, part != fold, max_steps)
        here = part == fold
        f, theta, share = (
            jnp.where(here.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)
            for new, old in zip(
                _seen_by(one, y, x, s_membership), (f, theta, share), strict=True
            )
        )
    if fit.family == "categorical":
        target = jax.nn.one_hot(jnp.asarray(y, jnp.int32), f.shape[-1], dtype=f.dtype)
    else:
        f, target = f[..., None], jnp.asarray(y, f.dtype)[:, None]
    if center:
        mean = jnp.mean(target, 0)
        f, target = f - mean, target - mean
    if density_ratio == "membership":
        ratio = jnp.mean(theta, 0) / jnp.maximum(share, 1e-12)
        theta = theta * jnp.clip(ratio, 1 / clip, clip)
    plain, gram = _moments(f, target, theta, correct_bias=correct_bias)
    prior = fit.shares / jnp.sum(fit.shares)
    found = maximin_weights(gram, prior=prior, radius=radius)
    return RobustAggregate(
        fit=fit, weights=found.x, gram=gram, plain_gram=plain, status=found.status
    )


@partial(jax.jit, static_argnames="correct_bias")
def _moments(f: Array, target: Array, theta: Array, *, correct_bias: bool):
    """Second moments of predictions ``[n, G, C]``, plain and corrected."""
    plain = einsum("nkc,nlc->kl", f, f) / f.shape[0]
    gram = plain
    if correct_bias:
        mass = jnp.sum(theta, 0)
        # Entry (k, l): predictions of k times the errors of l, over group l.
        gap = theta[..., None] * (f - target[:, None])
        bias = einsum("nkc,nlc->kl", f, gap) / jnp.where(mass > 0, mass, 1.0)
        gram = plain - bias - transpose(bias)
    values, vectors = eigh(gram)
    floor = FLOOR * jnp.trace(plain) / plain.shape[0]
    lifted = matmul(vectors * jnp.maximum(values, floor), transpose(vectors))
    return plain, lifted


def _seen_by(
    fit: RomeFit, y: ArrayLike, x: ArrayLike, s_membership: ArrayLike
) -> tuple[Array, Array, Array]:
    """Predictions, responsibilities and membership probabilities of all rows."""
    return (
        fit.predict_groups(x),
        fit.posterior(y, x, s_membership),
        fit.group_probabilities(s_membership),
    )


def _refit(
    fit: RomeFit,
    y: ArrayLike,
    x: ArrayLike,
    s_membership: ArrayLike,
    keep: Array,
    max_steps: int,
) -> RomeFit:
    options: dict[str, Any] = {}
    if isinstance(fit.outcome, NormalOutcome):
        kind = fit.outcome.variance
        options["variance"] = fit.variance[0] if kind == "fixed" else kind
        options["min_variance"] = fit.outcome.floor
    else:
        size = fit.outcome.n_classes
        options["n_classes"] = None if fit.family == "bernoulli" else size
    return fit_rome_em(
        y,
        x,
        s_membership,
        fit.n_groups,
        family=fit.family,
        membership="one_vs_rest" if fit.one_vs_rest else "multinomial",
        membership_intercept=fit.s_scaling.intercept,
        intercept=fit.x_scaling.intercept,
        weights=np.asarray(keep, np.float32),
        init=fit.responsibilities,
        max_steps=max_steps,
        **options,
    )
