"""A hundred starts of EM in one program, against loops in NumPy and scikit-learn.

The paper's simulation (8,000 rows, 20 columns, 4 groups), the same starts and the same
number of EM steps everywhere. The loops run a few starts, and their time is scaled to
all: "scikit-learn" fits its own LogisticRegression and LinearRegression in each M-step;
"numpy" takes the very steps that the library takes, written out with einsum and solve
by one who knows them. Compilation is timed apart.

    python benchmarks/bench_rome_restarts.py            # prints and writes the results
    python benchmarks/bench_rome_restarts.py --quick    # small, prints only
"""

from __future__ import annotations

import argparse
import json
import time

import jax
import numpy as np
from _machine import describe, first_and_median, save
from scipy.special import logsumexp
from sklearn.linear_model import LinearRegression, LogisticRegression

from jaxsteer.latent import fit_rome_em, simulate_rome
from jaxsteer.latent._em import draw_starts

RIDGE = 1e-3


def standardized(rows):
    """Columns at unit scale, after a column of ones."""
    scaled = (rows - rows.mean(0)) / rows.std(0)
    return np.concatenate([np.ones((len(rows), 1)), scaled], 1)


def e_step(y, x, s, gamma, coef, variance):
    """Responsibilities ``[n, G]``."""
    logits = s @ gamma.T
    log_share = logits - logsumexp(logits, 1, keepdims=True)
    joint = log_share - 0.5 * (y[:, None] - x @ coef.T) ** 2 / variance
    return np.exp(joint - logsumexp(joint, 1, keepdims=True))


def newton(s, gamma, theta):
    """One Newton step of a multinomial logistic regression, rows but the last free."""
    n_groups, width = gamma.shape
    free = n_groups - 1
    p = np.exp(s @ gamma.T)
    p /= p.sum(1, keepdims=True)
    slope = ((theta - p)[:, :free].T @ s).reshape(-1)
    hessian = np.empty((free, width, free, width))
    for j in range(free):
        for k in range(free):
            w = p[:, j] * ((j == k) - p[:, k])
            hessian[j, :, k] = (s * w[:, None]).T @ s
    hessian = hessian.reshape(free * width, -1) + RIDGE * np.eye(free * width)
    new = gamma.copy()
    new[:free] += np.linalg.solve(hessian, slope).reshape(free, width)
    return new


def numpy_loop(y, x, s, theta, steps):
    """EM from one start, by NumPy."""
    n_groups = theta.shape[1]
    gamma = np.zeros((n_groups, s.shape[1]))
    for step in range(steps + 1):
        for _ in range(3 if step == 0 else 1):
            gamma = newton(s, gamma, theta)
        coef = np.empty((n_groups, x.shape[1]))
        for j in range(n_groups):
            weighted = x * theta[:, j, None]
            gram = weighted.T @ x + RIDGE * np.eye(x.shape[1])
            coef[j] = np.linalg.solve(gram, weighted.T @ y)
        variance = np.sum(theta * (y[:, None] - x @ coef.T) ** 2) / len(y)
        theta = e_step(y, x, s, gamma, coef, variance)
    return coef, variance


def sklearn_loop(y, x, s, theta, steps):
    """EM from one start, by scikit-learn's regressions."""
    n, n_groups = theta.shape
    rows, labels = np.tile(s, (n_groups, 1)), np.repeat(np.arange(n_groups), n)
    gate = LogisticRegression(C=1e6, warm_start=True, max_iter=100, fit_intercept=False)
    for _ in range(steps + 1):
        gate.fit(rows, labels, sample_weight=theta.T.reshape(-1))
        coef = np.stack(
            [
                LinearRegression(fit_intercept=False)
                .fit(x, y, sample_weight=theta[:, j])
                .coef_
                for j in range(n_groups)
            ]
        )
        variance = np.sum(theta * (y[:, None] - x @ coef.T) ** 2) / n
        theta = e_step(y, x, s, gate.coef_, coef, variance)
    return coef, variance


def timed(loop, count, thetas, *args):
    """Seconds a start, and the last noise variance."""
    start = time.perf_counter()
    variances = [loop(*args[:3], thetas[r].T, args[3])[1] for r in range(count)]
    return (time.perf_counter() - start) / count, variances


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    quick = parser.parse_args().quick
    n, restarts, steps = (500, 4, 3) if quick else (8000, 100, 20)
    counts = (
        {"numpy": 2, "scikit-learn": 1} if quick else {"numpy": 10, "scikit-learn": 3}
    )
    sample = simulate_rome(n)
    key = jax.random.key(0)
    found = []

    def ours():
        found[:] = [
            fit_rome_em(
                sample.y,
                sample.x,
                sample.s,
                4,
                restarts=restarts,
                max_steps=steps,
                tolerance=-1.0,  # all steps, as the loops do
                ridge=RIDGE,
                key=key,
            )
        ]
        return found[0].params

    first, median = first_and_median(ours, 1 if quick else 3)
    y = (sample.y - sample.y.mean()) / sample.y.std()
    x, s = standardized(sample.x), standardized(sample.s)
    thetas = np.asarray(
        draw_starts(
            key,
            np.asarray(s[:, 1:], np.float32),
            kind="partition",
            n_groups=4,
            restarts=restarts,
        ),
        float,
    )
    report = {
        **describe("scikit-learn", "scipy"),
        "dtype": "float32, the loops float64",
        "problem": {
            "rows": n,
            "columns": 20,
            "groups": 4,
            "starts": restarts,
            "em_steps": steps,
        },
        "one_program_s": median,
        "first_call_s": first,
    }
    loops = {"numpy": numpy_loop, "scikit-learn": sklearn_loop}
    for name, loop in loops.items():
        each, variances = timed(loop, counts[name], thetas, y, x, s, steps)
        report[name] = {
            "starts_timed": counts[name],
            "s_a_start": each,
            "s_all_starts": each * restarts,
            "times_slower": each * restarts / median,
            "least_noise_variance": float(min(variances) * sample.y.var()),
        }
    report["least_noise_variance"] = float(found[0].variance[0])
    if quick:
        print(json.dumps(report, indent=2))
    else:
        save("rome_restarts", report)


if __name__ == "__main__":
    main()
