"""Standard errors of a fitted mixture, from its observed information."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from jaxsteer._chunks import map_in_chunks
from jaxsteer._errors import check_same_length
from jaxsteer._types import Array, ArrayLike, Float
from jaxsteer.latent._em import Problem, log_likelihood
from jaxsteer.latent._logistic import contrasts
from jaxsteer.latent._outcomes import ClassOutcome, NormalOutcome, Params
from jaxsteer.latent._result import RomeErrors, RomeFit, coef_to_original
from jaxsteer.linalg import cholesky_inverse, einsum, matmul, transpose

WIDTH = 16  # columns of the information computed side by side


def rome_standard_errors(
    fit: RomeFit,
    y: ArrayLike,
    x: Float[ArrayLike, "n p"],
    s_membership: Float[ArrayLike, "n q"],
    *,
    weights: Float[ArrayLike, " n"] | None = None,
    ridge: float = 0.0,
) -> RomeFit:
    """Add standard errors: the inverse of minus the log-likelihood's Hessian.

    The Hessian is that of the observed data's likelihood, not of EM's completed one,
    so that what is lost by not seeing the groups counts. It is taken in free
    coordinates (memberships up to a common shift, logarithms of variances) and carried
    to the units of the data. Errors are NaN where the fit is no strict maximum. Cost:
    two gradients for each of the `m` parameters, and O(m^3).

    Args:
        fit: The fit, by a multinomial membership.
        y: ``[n]`` its outcomes.
        x: ``[n, p]`` its columns.
        s_membership: ``[n, q]`` its membership columns.
        weights: ``[n]`` its sample weights.
        ridge: Its pseudo-rows, which add to the information.

    Returns:
        The fit with `standard_errors`.

    Raises:
        ValueError: If the membership is one-vs-rest, which maximizes no likelihood, or
            lengths differ.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxsteer.latent import fit_rome_em
        >>> x = jax.random.normal(jax.random.key(0), (400, 1))
        >>> y = x[:, 0] + jax.random.normal(jax.random.key(1), (400,))
        >>> fit = rome_standard_errors(fit_rome_em(y, x, x, 1), y, x, x)
        >>> bool(abs(fit.standard_errors.coef[0, 1] - 0.05) < 0.01)
        True

    References:
        Louis 1982, "Finding the observed information matrix when using the EM
        algorithm" (here by automatic differentiation).
    """
    if fit.one_vs_rest:
        raise ValueError(
            "membership='one_vs_rest' maximizes no likelihood, so that there is no "
            "information; fit with membership='multinomial'."
        )
    check_same_length(y=y, x=x, s_membership=s_membership)
    if weights is not None:
        weights = jnp.asarray(weights, fit.params.membership.dtype)
    problem = fit.problem(y, x, s_membership, weights)
    problem = problem._replace(ridge=jnp.asarray(ridge, problem.ridge.dtype))
    return dataclasses.replace(fit, standard_errors=_errors(fit, problem))


@jax.jit
def _errors(fit: RomeFit, problem: Problem) -> RomeErrors:
    free, unfold = _coordinates(fit)

    def loss(free: Array, problem: Problem):
        params = unfold(free)
        penalty = 0.5 * problem.ridge * jnp.sum(params.membership**2)
        penalty = penalty + fit.outcome.penalty(params, problem.ridge)
        return penalty - log_likelihood(params, problem, fit.outcome)

    slope = partial(jax.grad(loss), problem=problem)

    def column(e: Array):
        return jax.jvp(slope, (free,), (e,))[1]

    size = free.shape[0]
    information = map_in_chunks(column, jnp.eye(size, dtype=free.dtype), WIDTH)
    information = 0.5 * (information + transpose(information))
    # Unit diagonal: membership and outcome differ in scale by the noise.
    level = jnp.sqrt(jnp.abs(jnp.diagonal(information)))
    level = jnp.where(level > 0, level, 1.0)
    _, inverse = cholesky_inverse(information / level / level[:, None])

    def outputs(free: Array):
        params = unfold(free)
        coef = coef_to_original(
            params.coef, fit.x_scaling, fit.y_mean, fit.y_scale, fit.family
        )
        return RomeErrors(
            membership=fit.s_scaling.to_original(params.membership),
            coef=coef,
            variance=params.variance * fit.y_scale**2,
        )

    jacobian = jax.jacfwd(outputs)(free)
    return jax.tree.map(
        lambda leaf: jnp.sqrt(
            jnp.sum(matmul(leaf / level, transpose(inverse)) ** 2, -1)
        ),
        jacobian,
    )


def _coordinates(fit: RomeFit):
    """Free coordinates of the parameters, and the way back."""
    params, outcome = fit.params, fit.outcome
    n_groups = fit.n_groups
    dtype = params.membership.dtype
    across = jnp.asarray(contrasts(n_groups), dtype)
    parts: list[Array] = [matmul(transpose(across), params.membership)]
    classes = isinstance(outcome, ClassOutcome)
    if isinstance(outcome, ClassOutcome):
        between = jnp.asarray(contrasts(outcome.n_classes), dtype)
        parts.append(einsum("cf,gcm->gfm", between, params.coef))
    else:
        between = None
        parts.append(params.coef)
    kind = outcome.variance if isinstance(outcome, NormalOutcome) else "fixed"
    logs = jnp.log(params.variance)
    parts.append({"common": logs[:1], "group": logs, "fixed": logs[:0]}[kind])
    sizes = [part.size for part in parts]
    cuts = [sizes[0], sizes[0] + sizes[1]]

    def unfold(free: Array) -> Params:
        own, coef, logs = jnp.split(free, cuts)
        coef = coef.reshape(parts[1].shape)
        if classes:
            coef = einsum("cf,gfm->gcm", between, coef)
        if kind == "fixed":
            variance = params.variance
        else:
            variance = jnp.broadcast_to(jnp.exp(logs), params.variance.shape)
        return Params(matmul(across, own.reshape(parts[0].shape)), coef, variance)

    return jnp.concatenate([part.reshape(-1) for part in parts]), unfold
