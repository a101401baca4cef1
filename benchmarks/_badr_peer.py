"""Runs the peer, badr, on a file of problems; started by ``bench_badr.py``.

It needs an older numpy than this project's other peers, so it runs in an interpreter of
its own (``--peer-python``) and speaks through files.

    python _badr_peer.py PROBLEM.npz METRIC ANSWER.json
"""

import json
import sys
import time

import jax.numpy as jnp
import numpy as np
from badr import metrics
from badr.algorithms import BADRSGD, SLSQP
from badr.datasets import Dataset
from badr.models import LogisticRegression
from badr.oracles import ImplicitOracle, StochasticOracle

METRICS = {
    "demographic_parity": metrics.DemographicParity,
    "covariance": metrics.DisparateMistreatment,
}


def main(source, name, target):
    given = np.load(source)
    x, y, group, ours = (given[key] for key in ("x", "y", "group", "ours"))
    groups, iterations = int(group.max()) + 1, int(given["iterations"])
    rows = [np.flatnonzero(group == a) for a in range(groups)]
    data = Dataset("made", x, x, y, y, rows, rows)
    model = LogisticRegression(l2_reg=float(given["l2"]))
    problem = (data, model, METRICS[name]())
    oracle = ImplicitOracle(*problem)
    equal = jnp.full(groups, 1 / groups)
    answer = {
        "start": float(oracle.fun(equal)),
        "ours": float(oracle.fun(jnp.asarray(ours))),
    }

    def write():
        with open(target, "w") as file:
            json.dump(answer, file)

    # The short run compiles.
    stochastic = StochasticOracle(*problem)
    w0 = jnp.asarray(oracle.solve_lower(equal))
    seconds = []
    for steps in (2, iterations):
        solver = BADRSGD(w0=w0, batch_size=len(y) // 20, step_w=0.1, step_lambda=2.0)
        solver.set_oracle(stochastic)
        start = time.perf_counter()
        last = solver.run(max_iter=steps, verbose=0)
        seconds.append(time.perf_counter() - start)
    answer["sgd_iteration_s"] = seconds[1] / iterations
    answer["sgd"] = float(oracle.fun(jnp.asarray(np.asarray(last, float))))
    write()

    for key in ("slsqp_first_s", "slsqp_s"):  # the first run compiles
        solver = SLSQP()
        solver.set_oracle(oracle)
        start = time.perf_counter()
        solver.run(verbose=0)
        answer[key] = time.perf_counter() - start
        weights = np.asarray(solver.group_weights, float)
        answer["slsqp_weights"] = weights.tolist()
        answer["slsqp"] = float(oracle.fun(jnp.asarray(weights)))
        write()


if __name__ == "__main__":
    main(*sys.argv[1:])
