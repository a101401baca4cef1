"""One part of the figures on a GPU, by name, as JSON lines: see run_all.py.

    python benchmarks/gpu/parts.py NAME [quick]
    python benchmarks/gpu/parts.py large_shared_covariance 512 8192    # of these sizes

A part prints what it knows after each of its figures, so that a cut one loses little.
Most of its time goes into compilation: 20 to 50 s for a program of large matrices.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from _gauge_problems import population, unrelated

import jaxsteer as js

LARGE = {"shared_covariance": (1024, 4096, 8192), "positive_definite": (1024, 4096)}


def seconds(call, repeats=5):
    """Seconds of the first call, compilation included, and the median of later ones."""
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(call())
        found.append(time.perf_counter() - start)
    return {"first_s": found[0], "seconds": sorted(found[1:])[repeats // 2]}


def tell(found):
    """Print what is known so far."""
    print(json.dumps(found), flush=True)


def peak():
    """Largest memory of arrays and programs on the device so far, GB, where told."""
    known = jax.devices()[0].memory_stats() or {}
    return known["peak_bytes_in_use"] / 2**30 if "peak_bytes_in_use" in known else None


def device(quick):
    """What the figures come from."""
    del quick
    tell(
        {
            "device": jax.devices()[0].device_kind,
            "count": jax.device_count(),
            "platform": jax.default_backend(),
            "jax": jax.__version__,
        }
    )


def agreement(quick):
    """The same problems here and on the CPU of this machine: relative differences."""

    def ask(maps, intervention):
        def gap(pop):
            found = js.nearest_ideal(
                pop, intervention=intervention, maps=maps, reference=1
            )
            return found.kl, (found.kl, found.status, found.residual)

        slope, (kl, status, residual) = jax.jit(
            jax.grad(gap, has_aux=True, allow_int=True)
        )(pop)
        return [
            np.asarray(v)
            for v in (kl, status, residual, slope.priors, slope.conditionals.cov)
        ]

    def apart(a, b):
        return float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-30))

    rng, found = np.random.default_rng(0), {}
    pop = population(unrelated(rng, 2, 3 if quick else 10), "float32")
    cases = [("general", "affirmative"), ("shared_covariance", "affirmative")]
    cases += [(maps, "all_groups") for maps in ("general", "positive_definite")]
    for maps, intervention in cases[-1:] if quick else cases:
        here = ask(maps, intervention)
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            there = ask(maps, intervention)
        found[f"{maps}, {intervention}"] = {
            "status": [js.Status(int(each[1])).name for each in (here, there)],
            "residual": [float(each[2]) for each in (here, there)],
            "kl": float(here[0]),
            "kl_apart": apart(here[0], there[0]),
            "gradient_of_priors_apart": apart(here[3], there[3]),
            "gradient_of_covariances_apart": apart(here[4], there[4]),
        }
        tell(found)


def rate(quick):
    """Streamed moments against the matrix products of the same rows."""
    from jaxsteer.moments import init
    from jaxsteer.moments._stream import _updated

    found = {}
    for d in (32,) if quick else (256, 4096):
        n = 1024 if quick else 2**26 // d
        x = jax.random.normal(jax.random.key(0), (n, d))
        label, group = (
            jax.random.randint(jax.random.key(k), (n,), 0, 2) for k in (1, 2)
        )
        weights = jnp.ones(n)
        product = jax.jit(lambda x: jnp.matmul(x.T, x, precision="highest"))
        base = seconds(lambda x=x, product=product: product(x))["seconds"]
        for scatter in ("pooled", "cell"):
            state = init(d, n_classes=2, n_groups=2, scatter=scatter)
            rows = (x, label, group, weights)
            mine = seconds(lambda state=state, rows=rows: _updated(state, *rows))
            found[f"{scatter}_{d}"] = {
                "rows": n,
                "product_s": base,
                "update_s": mine["seconds"],
                "share": base / mine["seconds"],
            }
            tell(found)


def sharded(quick):
    """Moments of rows that lie on all devices."""
    from jax.sharding import Mesh, NamedSharding
    from jax.sharding import PartitionSpec as P

    from jaxsteer.moments import sharded_moments

    n, d = (1024, 32) if quick else (2**18, 256)
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    lay = NamedSharding(mesh, P("rows"))
    x = jax.device_put(jax.random.normal(jax.random.key(0), (n, d)), lay)
    label, group = (
        jax.device_put(jax.random.randint(jax.random.key(k), (n,), 0, 2), lay)
        for k in (1, 2)
    )
    sizes = {"n_classes": 2, "n_groups": 2, "mesh": mesh}
    tell(
        {
            "rows": n,
            "features": d,
            "devices": jax.device_count(),
            **seconds(lambda: sharded_moments(x, label, group, **sizes)),
        }
    )


def batch(quick):
    """Many problems at once, here and on the CPU of this machine."""
    from bench_batch import problems

    n, d = (8, 3) if quick else (1000, 32)
    places = {"here": jax.devices()[0], "cpu": jax.local_devices(backend="cpu")[0]}
    found = {"maps": "positive_definite", "problems": n, "features": d}
    for name, place in places.items():
        with jax.default_device(place):
            pops = jax.device_put(problems(n, d), place)
            answer = []

            def call(pops=pops, answer=answer):
                answer[:] = [
                    js.nearest_ideal_batch(pops, maps="positive_definite", reference=1)
                ]
                return answer[0].kl

            found[name] = seconds(call, 3)
            found[name]["converged"] = int(jnp.sum(answer[0].status == 0))
        tell(found)


def training_step(quick):
    """A training step of the decoder with the gap in its loss, against the plain one."""
    import optax
    from bench_training_step import (
        Run,
        continue_texts,
        decoder,
        gap_of,
        make_step,
        texts,
    )
    from flax import nnx

    d, rows, blocks, length = (16, 64, 2, 16) if quick else (256, 256, 8, 64)
    maps = "shared_covariance" if quick else "positive_definite"
    kinds = {"plain": None, maps: gap_of(maps=maps)}
    tokens = texts(np.random.default_rng(0), rows, length)
    found = {"rows": rows, "features": d, "blocks": blocks, "tokens_a_text": length}
    for name, gap in kinds.items():
        model = decoder(d, blocks, length)
        optimizer = nnx.Optimizer(model, optax.adam(1e-4), wrt=nnx.Param)
        step = make_step(gap, continue_texts)
        run = Run(nnx.cached_partial(step, model, optimizer))
        found[name] = seconds(lambda run=run: run(*tokens))
        found[name]["times_plain"] = found[name]["seconds"] / found["plain"]["seconds"]
        tell(found)


def large(maps, quick):
    """Maps of thousands of features, with the memory that they took."""
    found = {}
    sizes = [int(each) for each in sys.argv[2:] if each.isdigit()] or LARGE[maps]
    for d in (32,) if quick else sizes:
        key = jax.random.key(0)

        @jax.jit
        def make(key, d=d):
            # As of groups of 2 d rows: the largest variance is 34 times the smallest.
            root = jax.random.normal(key, (2, d, 2 * d)) / (2 * d) ** 0.5
            cov = jnp.einsum("gij,gkj->gik", root, root, precision="highest")
            mean = jax.random.normal(key, (2, 2, d)) / 8
            cov = jnp.broadcast_to(cov, (2, 2, d, d))
            return js.Population(
                jnp.array([[0.3, 0.2], [0.3, 0.2]]), js.MultivariateNormal(mean, cov)
            )

        pop = jax.block_until_ready(make(key))
        last = []

        def call(pop=pop, last=last):
            last.clear()  # its memory is no part of what the next call takes
            last.append(
                js.nearest_ideal(pop, maps=maps, reference=1, differentiate="none")
            )
            return last[0].kl

        figures = seconds(call, 1)
        found[str(d)] = {
            **figures,
            "kl": float(last[0].kl),
            "steps": int(last[0].steps),
            "residual": float(last[0].residual),
            "status": js.Status(int(last[0].status)).name,
            "population_gb": sum(v.nbytes for v in jax.tree.leaves(pop)) / 2**30,
            "peak_gb_so_far": peak(),
        }
        tell(found)


PARTS = {
    each.__name__: each
    for each in (device, agreement, rate, sharded, batch, training_step)
} | {
    "large_shared_covariance": lambda quick: large("shared_covariance", quick),
    "large_positive_definite": lambda quick: large("positive_definite", quick),
}

if __name__ == "__main__":
    PARTS[sys.argv[1]]("quick" in sys.argv[2:])
