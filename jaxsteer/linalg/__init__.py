"""Numerics of positive semi-definite matrices; knows nothing of fairness."""

from jaxsteer.linalg._cholesky import (
    PsdFactor,
    cholesky_psd,
    logdet_from_cholesky,
    solve_positive_definite,
    solve_psd,
    whiten,
    whiten_transposed,
)
from jaxsteer.linalg._factor import (
    cholesky,
    cholesky_inverse,
    eigh,
    inverse_and_logdet,
    inverse_and_logdet_psd,
    log_abs_det,
    qr,
    slogdet,
    solve,
    solve_definite,
    solve_lower,
    solver,
    svd,
)
from jaxsteer.linalg._matmul import (
    einsum,
    gram,
    identity_like,
    matmul,
    matvec,
    symmetrize,
    transpose,
)
from jaxsteer.linalg._roots import (
    inv_sqrtm_psd,
    polar_orthogonal,
    project_psd,
    roots_psd,
    solve_lyapunov,
    sqrtm_psd,
)
from jaxsteer.linalg._special import (
    HALF_LOG_2PI,
    entropy_remainder,
    expm1_minus,
    gamma_excess,
    lgamma_bregman,
    log_minus_digamma,
    log_or_zero,
    log_quotient,
    relative_entropy,
    stirling_remainder,
)

__all__ = [
    "inv_sqrtm_psd",
    "polar_orthogonal",
    "project_psd",
    "sqrtm_psd",
]
