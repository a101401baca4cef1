"""Claim: LEACE and MiMiC are fitted faster than by concept-erasure, and as exactly.

LEACE: 100,000 rows, 768 features, 28 classes, float32, whole fits from rows and labels;
concept-erasure with its default options, and with those that give the same eraser as
ours (no shrinkage, no bound on the trace). The moment pass alone is compared with the
product ``X'Y`` of matrices of the same size, the faster of NumPy's and JAX's. MiMiC: the
transport map of two given covariances at 768 and 2,048 features. Errors are the largest
differences of matrix entries from concept-erasure in float64.

Every method runs in a process of its own, several rounds in turn, because thread pools
of different libraries disturb each other; times are medians after a first call, whose
time (compilation included) is beside them.

    python benchmarks/bench_baselines.py            # prints and writes the results
    python benchmarks/bench_baselines.py --quick    # small, prints only: does it run?
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from _machine import RESULTS, describe, save

ROUNDS = 2


def leace_data(n, d, k, seed=0):
    """Draw rows whose variances fall off as a power law, with classes apart."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, k, n)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    mixing = (np.arange(1, d + 1) ** -0.35)[:, None] * turn
    x = rng.standard_normal((n, d), dtype=np.float32) @ mixing.astype(np.float32)
    x += 0.2 * rng.standard_normal((k, d), dtype=np.float32)[z]
    return x + np.float32(0.3), z


def covariances(d, seed=0):
    """Draw the sample covariances of two populations with falling variances."""
    rng = np.random.default_rng(seed)
    deviations = np.arange(1, d + 1) ** -0.35
    covs = []
    for _ in range(2):
        turn = np.eye(d) + 0.3 * rng.normal(size=(d, d)) / d**0.5
        rows = rng.normal(size=(3 * d, d)) * deviations @ turn
        covs.append((rows.T @ rows / len(rows) + 1e-5 * np.eye(d)).astype(np.float32))
    return np.stack(covs)


def leace_jaxsteer(x, z):
    from jaxsteer.baselines import fit_leace

    return lambda: np.asarray(fit_leace(x, z).weight)


def moments_jaxsteer(x, z):
    from jaxsteer.baselines._leace_moments import moments_on_host

    size = int(z.max()) + 1
    return lambda: np.asarray(moments_on_host(x, z, True, size, None).corr)


def leace_concept_erasure(x, z, dtype="float32", **options):
    import torch
    from concept_erasure import LeaceEraser

    rows = torch.from_numpy(x).to(getattr(torch, dtype))
    hot = torch.nn.functional.one_hot(torch.from_numpy(z)).to(rows.dtype)
    return lambda: LeaceEraser.fit(rows, hot, **options).P.numpy()


def product_numpy(x, z):
    other = x.copy()
    return lambda: x.T @ other


def product_jax(x, z):
    import jax

    rows = jax.numpy.asarray(x)
    product = jax.jit(lambda x: x.T @ x)
    return lambda: np.asarray(product(rows))


def mimic_jaxsteer(covs):
    import jax.numpy as jnp

    from jaxsteer.baselines import mimic_from_moments

    covs, means = jnp.asarray(covs), jnp.zeros(covs.shape[:2], jnp.float32)
    return lambda: np.asarray(mimic_from_moments(means, covs, ridge=0.0).weight[0])


def mimic_concept_erasure(covs, dtype="float32"):
    import torch
    from concept_erasure.optimal_transport import ot_map

    source, target = torch.from_numpy(covs).to(getattr(torch, dtype))
    return lambda: ot_map(source, target).numpy()


PLAIN = {"shrinkage": False, "constrain_cov_trace": False, "svd_tol": 1e-6}
LEACE = {
    "jaxsteer": leace_jaxsteer,
    "moments": moments_jaxsteer,
    "product_numpy": product_numpy,
    "product_jax": product_jax,
    "concept_erasure": leace_concept_erasure,
    "concept_erasure_plain": lambda x, z: leace_concept_erasure(x, z, **PLAIN),
    "exact": lambda x, z: leace_concept_erasure(x, z, "float64", **PLAIN),
}
MIMIC = {
    "jaxsteer": mimic_jaxsteer,
    "concept_erasure": mimic_concept_erasure,
    "exact": lambda covs: mimic_concept_erasure(covs, "float64"),
}


def work(task, method, sizes, out, repeats):
    """Time one method in this process; write times and what it found."""
    data = leace_data(*sizes) if task == "leace" else (covariances(*sizes),)
    call = (LEACE if task == "leace" else MIMIC)[method](*data)
    times = []
    for _ in range(1 if method == "exact" else repeats + 1):
        start = time.perf_counter()
        found = call()
        times.append(time.perf_counter() - start)
    np.savez(out, times=times, found=found)


def measured(task, methods, sizes, folder, repeats, rounds):
    """Run the methods in turn, each in a process of its own."""
    times, first, found = {}, {}, {}
    for turn in range(rounds):
        for method in methods:
            if method == "exact" and turn:
                continue
            out = Path(folder, f"{task}.npz")
            if repeats > 1:
                command = [sys.executable, __file__, "--work", task, method]
                tail = [json.dumps(sizes), str(out), str(repeats)]
                subprocess.run([*command, *tail], check=True)
            else:  # only to see that it runs
                work(task, method, sizes, out, repeats)
            with np.load(out) as part:
                first.setdefault(method, float(part["times"][0]))
                times.setdefault(method, []).extend(part["times"][1:].tolist())
                found[method] = part["found"]
    report = {}
    for method in methods:
        if method == "exact":
            continue
        report[method] = {
            "run_s": statistics.median(times[method]),
            "least_s": min(times[method]),
            "first_call_s": first[method],
        }
        if "exact" in found and found[method].shape == found["exact"].shape:
            error = np.abs(found[method] - found["exact"]).max()
            report[method]["error"] = float(error)
    return report


def leace(sizes, folder, repeats, rounds, peers):
    wanted = [m for m in LEACE if peers or m in ("jaxsteer", "moments") or "prod" in m]
    report = measured("leace", wanted, sizes, folder, repeats, rounds)
    for method in ("moments", "product_numpy", "product_jax"):
        report[method].pop("error", None)
    n, d, k = sizes
    product = min(report[m]["run_s"] for m in ("product_numpy", "product_jax"))
    report["rates"] = {
        "product_gflops": 2e-9 * n * d * d / product,
        # Half of a symmetric product is enough: counted as done, and as asked for.
        "moments_gflops_done": 1e-9 * n * d * d / report["moments"]["run_s"],
        "moments_share_of_product": product / report["moments"]["run_s"],
    }
    if peers:
        for name in ("concept_erasure", "concept_erasure_plain"):
            ratio = report[name]["run_s"] / report["jaxsteer"]["run_s"]
            report[name]["times_as_long"] = ratio
    return {"rows": n, "features": d, "classes": k, **report}


def mimic(d, folder, repeats, rounds, peers):
    wanted = list(MIMIC) if peers else ["jaxsteer"]
    report = measured("mimic", wanted, [d], folder, repeats, rounds)
    if peers:
        ratio = report["concept_erasure"]["run_s"] / report["jaxsteer"]["run_s"]
        report["concept_erasure"]["times_as_long"] = ratio
    return report


def table(report):
    """Return the figures as a Markdown table."""
    rows = [
        "| task | jaxsteer | concept-erasure | times as long |",
        "|---|---|---|---|",
    ]
    part = report["leace"]
    for name, label in (
        ("concept_erasure", "its defaults"),
        ("concept_erasure_plain", "the same eraser"),
    ):
        rows.append(
            f"| LEACE, {part['rows']:,} x {part['features']}, {part['classes']} classes "
            f"({label}) | {part['jaxsteer']['run_s']:.2f} s | "
            f"{part[name]['run_s']:.2f} s | {part[name]['times_as_long']:.2f} |"
        )
    for d, part in report["mimic"].items():
        peer = part["concept_erasure"]
        rows.append(
            f"| MiMiC map, {d} | {part['jaxsteer']['run_s']:.2f} s | "
            f"{peer['run_s']:.2f} s | {peer['times_as_long']:.2f} |"
        )
    versions = report["versions"]
    rows.append(
        f"\nfloat32, {report['cores']} cores ({report['machine']}), jax "
        f"{versions['jax']}; the moment pass takes "
        f"{1 / report['leace']['rates']['moments_share_of_product']:.2f} of the time of "
        f"one matrix product of its size."
    )
    return "\n".join(rows) + "\n"


def main():
    if sys.argv[1:2] == ["--work"]:
        task, method, sizes, out, repeats = sys.argv[2:]
        work(task, method, json.loads(sizes), out, int(repeats))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    quick = parser.parse_args().quick
    peers = find_spec("concept_erasure") is not None
    if not peers and not quick:
        raise SystemExit("This compares with concept-erasure: install jaxsteer[peers].")
    sizes = [2000, 16, 3] if quick else [100_000, 768, 28]
    repeats, rounds = (1, 1) if quick else (3, ROUNDS)
    names = ("concept-erasure", "torch") if peers else ()
    with tempfile.TemporaryDirectory() as folder:
        report = {
            **describe(*names),
            "leace": leace(sizes, folder, repeats, rounds, peers),
            "mimic": {
                str(d): mimic(d, folder, repeats, rounds, peers)
                for d in ((12, 16) if quick else (768, 2048))
            },
        }
    if quick:
        print(json.dumps(report, indent=2))
    else:
        save("baselines", report)
        (RESULTS / "baselines.md").write_text(table(report))


if __name__ == "__main__":
    main()
