"""Claim: the ideality gap as a loss costs little beside a model's own step.

1. A residual network of flax with 8 blocks of d = 256 features, batches of 256 rows in
   2 x 2 cells: CPU time of a jitted training step with the gap of the last block's
   activations in the loss, against the step without. All features, or 32 principal ones
   that a fixed projection keeps. Wanted: at most 1.1 times the plain step.
   "decoder": the same in a Llama-like decoder of 8 blocks and d = 256, 256 texts of 64
   tokens a batch, next-token loss, and the gap of the last block's last token. Wanted:
   at most 1.1 times the plain step, for every kind of maps. General ones are searched
   for, here from 64 rows a cell of 256 features: with a bounded search, whose gap is
   beside that of the whole search (gaps are those of the last step, each in its own
   training).
2. The same with 32 features and 512 rows and ``maps="positive_definite"``, which are
   searched for. Wanted: at most 2 times the plain step.
3. 1,000 steps on batches whose cells empty out now and then (``prior=1.0``): no NaN in
   any loss, gap or weight.

CPU seconds of the process, after compilation; the kinds of step take turns, and each is
measured against the plain step of its own turn: medians. A plain step of 1. is 12 million
multiply-adds a row.

    python benchmarks/bench_training_step.py            # prints and writes the results
    python benchmarks/bench_training_step.py --part small   # or wide, all, long, ...
    python benchmarks/bench_training_step.py --quick    # small, prints only

Writes results/training_step_{wide,all,decoder,small,long}.json.
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _machine import describe, save
from flax import nnx

import jaxsteer as js
from jaxsteer.models import Decoder, DecoderConfig
from jaxsteer.nn import capture_activations

# A search that ends where a training step needs no more.
BOUNDED = js.solvers.MatrixNewton(max_steps=8, max_products=16)
CELLS = {"n_classes": 2, "n_groups": 2, "prior": 1.0}


class Block(nnx.Module):
    """``x + down(gelu(up(norm(x))))``, four times as wide inside."""

    def __init__(self, d, rngs):
        self.norm = nnx.RMSNorm(d, rngs=rngs)
        self.up = nnx.Linear(d, 4 * d, rngs=rngs)
        self.down = nnx.Linear(4 * d, d, rngs=rngs)

    def __call__(self, x):
        """Return the residual stream after the block."""
        return x + self.down(nnx.gelu(self.up(self.norm(x))))


class Network(nnx.Module):
    """Blocks and a linear head."""

    def __init__(self, d, n_blocks, rngs):
        self.blocks = nnx.List([Block(d, rngs) for _ in range(n_blocks)])
        self.head = nnx.Linear(d, 2, rngs=rngs)

    def __call__(self, x):
        """Return logits and the last block's activations."""
        for block in self.blocks:
            x = block(x)
        return self.head(x), x


def classify(model, x, label):
    """Return the loss of predicted classes, and the last block's activations."""
    logits, hidden = model(x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean(), hidden


def continue_texts(model, tokens, label):
    """Return the loss of next tokens, and the last block's at each text's last token."""
    del label
    place = f"layers.{len(model.layers) - 1}"
    with capture_activations(model, [place]) as kept:
        logits = model(tokens)
    loss = optax.softmax_cross_entropy_with_integer_labels(
        logits[:, :-1], tokens[:, 1:]
    )
    return loss.mean(), kept[place][:, -1]


def make_step(gap_of, task=classify):
    """Return a jitted training step, with the gap in the loss where there is one."""

    @nnx.jit
    def step(model, optimizer, last, x, label, group):
        def loss(model):
            nll, hidden = task(model, x, label)
            gap, found = jnp.zeros(()), None
            if gap_of is not None:
                gap, found = gap_of(hidden, label, group, last)
            return nll + 0.1 * gap, (gap, found)

        (value, (gap, found)), slope = nnx.value_and_grad(loss, has_aux=True)(model)
        optimizer.update(model, slope)
        return value, gap, found

    return step


def gap_of(view=None, *, warm=False, **options):
    """Return the gap of activations, of all features or of what a projection keeps.

    Where it is warm, the search starts at the last step's steering.
    """

    def gap(hidden, label, group, last):
        y = hidden if view is None else hidden @ view
        pop = js.fit_population(y, label, group, **CELLS)
        options_here = {**options, "start": last if warm else None}
        gap, found = js.ideality_gap(
            pop, reference=0, return_steering=True, **options_here
        )
        return gap, found if warm else None

    return gap


def batches(rng, n, d, rare=0.25):
    """Rows of two classes and groups; a cell may be small, or empty."""
    while True:
        share = np.array([0.5 - rare, 0.25, rare, 0.25])
        cell = rng.choice(4, n, p=share / share.sum())
        label, group = cell // 2, cell % 2
        x = rng.normal(size=(n, d)) + 0.5 * (label + group * (1 + label))[:, None]
        yield jnp.asarray(x, jnp.float32), jnp.asarray(label), jnp.asarray(group)


def texts(rng, n, length):
    """Texts of random tokens; classes and groups differ by which tokens are likely."""
    cell = rng.choice(4, n)
    label, group = cell // 2, cell % 2
    tokens = rng.integers(0, 256, (n, length)) + 256 * (rng.random((n, length)) < 0.3)
    tokens = tokens + 512 * (rng.random((n, length)) < (0.2 + 0.3 * label)[:, None])
    tokens = np.where(rng.random((n, length)) < 0.2 * group[:, None], 7, tokens)
    return jnp.asarray(tokens % 1024), jnp.asarray(label), jnp.asarray(group)


def decoder(d, n_blocks, length):
    """Return a decoder of Llama's architecture, randomly initialized."""
    config = DecoderConfig(
        vocab_size=1024,
        dim=d,
        hidden_dim=d * 8 // 3,
        n_layers=n_blocks,
        n_heads=max(1, d // 64),
        n_kv_heads=max(1, d // 64),
        max_length=length,
    )
    return Decoder(config, rngs=nnx.Rngs(0))


def compare_networks(d, n, n_blocks, kinds, repeats):
    """Compare steps of the residual network."""
    batch = next(batches(np.random.default_rng(0), n, d))
    return compare(
        lambda: Network(d, n_blocks, nnx.Rngs(0)), batch, classify, kinds, repeats
    )


def compare_decoders(d, n, n_blocks, length, kinds, repeats):
    """Compare steps of the decoder."""
    batch = texts(np.random.default_rng(0), n, length)
    return compare(
        lambda: decoder(d, n_blocks, length), batch, continue_texts, kinds, repeats
    )


class Run:
    """A step that hands its steering on to the next."""

    def __init__(self, step):
        self.step, self.last = step, None

    def __call__(self, *batch):
        """Return the loss and the gap."""
        value, gap, self.last = self.step(self.last, *batch)
        return value, gap


def compare(make_model, batch, task, kinds, repeats):
    """Median CPU seconds of a step of each kind, which take turns."""
    runs = {}
    for name, gap in kinds.items():
        model = make_model()
        optimizer = nnx.Optimizer(model, optax.adam(1e-4), wrt=nnx.Param)
        step = make_step(gap, task)
        start = time.process_time()
        runs[name] = Run(nnx.cached_partial(step, model, optimizer))
        # The first step of a warm search has no start: another program.
        for _ in range(2 if name.endswith("warm") else 1):
            jax.block_until_ready(runs[name](*batch))
        print(f"{name}: first call {time.process_time() - start:.1f} s", flush=True)
    times = {name: [] for name in runs}
    gaps = dict.fromkeys(runs, 0.0)
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            _, gap = jax.block_until_ready(run(*batch))
            times[name].append(time.process_time() - start)
            gaps[name] = float(gap)
    plain = times["plain"]
    return {
        name: {
            "cpu_ms": 1e3 * statistics.median(own),
            "times_plain": statistics.median(np.divide(own, plain).tolist()),
            "gap": gaps[name],
        }
        for name, own in times.items()
    }


def long_run(d, n, n_blocks, steps, gap):
    """Train on batches with a cell of about one row; count what is not finite."""
    rng = np.random.default_rng(1)
    model = Network(d, n_blocks, nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    run = Run(nnx.cached_partial(make_step(gap), model, optimizer))
    source = batches(rng, n, d, rare=1.5 / n)
    values, gaps, empty = [], [], 0
    for _ in range(steps):
        x, label, group = next(source)
        cells = np.bincount(np.asarray(label) * 2 + np.asarray(group), minlength=4)
        empty += int((cells == 0).any())
        value, gap_now = run(x, label, group)
        values.append(float(value))
        gaps.append(float(gap_now))
    weights = jax.tree.leaves(nnx.state(model, nnx.Param))
    return {
        "steps": steps,
        "rows": n,
        "features": d,
        "steps_with_an_empty_cell": empty,
        "losses_not_finite": int((~np.isfinite(values)).sum()),
        "gaps_not_finite": int((~np.isfinite(gaps)).sum()),
        "weights_not_finite": int(sum(np.sum(~np.isfinite(w)) for w in weights)),
        "gap_first_100": float(np.mean(gaps[:100])),
        "gap_last_100": float(np.mean(gaps[-100:])),
    }


def parts(quick):
    """Return what each part measures, by name."""
    d, n, blocks, repeats, steps = (
        (16, 64, 2, 3, 20) if quick else (256, 256, 8, 5, 1000)
    )
    length = 16 if quick else 64
    view = jnp.asarray(
        np.linalg.qr(np.random.default_rng(2).normal(size=(d, d // 8)))[0], jnp.float32
    )
    wide = {
        "plain": None,
        "moments only": lambda *rows: (
            jnp.mean(js.fit_population(*rows[:3], **CELLS).conditionals.cov),
            None,
        ),
        "gap of an eighth of the features": gap_of(view),
        "gap, shared covariance": gap_of(maps="shared_covariance"),
    }
    every = {
        "plain": None,
        "gap of all features": gap_of(),
        "gap of all features, bounded": gap_of(solver=BOUNDED),
        "gap of all features, warm": gap_of(warm=True),
    }
    small = {
        "plain": None,
        "gap, general": gap_of(),
        "gap, general, warm": gap_of(warm=True),
        "gap, positive definite": gap_of(maps="positive_definite"),
        "gap, positive definite, warm": gap_of(maps="positive_definite", warm=True),
    }
    kinds = {"plain": None} | {
        f"gap, {maps}": gap_of(maps=maps)
        for maps in ("general", "positive_definite", "shared_covariance")
    }
    kinds["gap, general, bounded"] = gap_of(solver=BOUNDED)
    sizes = {"blocks": blocks, "features": d, "rows": n}
    fewer = {"blocks": blocks, "features": d // 8, "rows": 2 * n}
    return {
        "wide": lambda: {**sizes, **compare_networks(d, n, blocks, wide, 3 * repeats)},
        "all": lambda: {**sizes, **compare_networks(d, n, blocks, every, 3)},
        "decoder": lambda: {
            **sizes,
            "tokens_a_text": length,
            **compare_decoders(d, n, blocks, length, kinds, 3),
        },
        "small": lambda: {
            **fewer,
            **compare_networks(d // 8, 2 * n, blocks, small, 8 * repeats),
        },
        "long": lambda: long_run(d // 8, n, blocks, steps, gap_of()),
    }


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, prints only")
    parser.add_argument("--part", choices=parts(True), action="append")
    options = parser.parse_args()
    for name, measure in parts(options.quick).items():
        if options.part and name not in options.part:
            continue
        figures = measure()
        if options.quick:
            print(name, figures)
        else:
            save(f"training_step_{name}", {**describe("flax", "optax"), **figures})


if __name__ == "__main__":
    main()
