"""Occupation from biographies: which way of steering leaves which gap between genders.

Features of real biographies; the gender is known for training rows and predicted for
test rows. Every method is measured with a linear and a boosted learner, over 5 random
splits, at the learner's own decision and over all thresholds.

    python benchmarks/biographies.py DATA [--part two|six|wiki]
        [--features minilm|smollm2|steered] [--encoder FOLDER] [--decoder FILE]
        [--cache FOLDER] [--state FILE --seconds 400] [--quick]

DATA is the folder with ``bias_in_bios`` (``bios.csv.gz``, ``minilm_l6_f16.npz``) and
``wiki_bios_gender``. The texts are about real people: the folder is not part of this
project, and only figures are written.

``minilm`` are sentence embeddings (``--part wiki`` makes them, with all-MiniLM-L6-v2 in
``--encoder``); ``smollm2`` the hidden state of a language model (``--decoder``) at the
last of at most 64 tokens, of at most 2,000 biographies; for ``steered`` the maps act
inside of the model, on the residual stream after ``--block``, and the learners see the
final state.

Methods and learners work in principal components of the training rows: 64, or 32 where
a class and gender has as few as 37 training rows (``six``, ``wiki``). Maps in the model
are fitted in 64 components of the residual stream and leave the rest alone.

In pieces: with ``--state``, a file that keeps the splits that were measured, and
``--seconds``, after which no further split or batch of texts is begun, the same command
is given again until it writes the results; ``--cache`` keeps the model's states.

Writes results/biographies_NAME.{json,md,png}.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from typing import Any, NamedTuple

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from _biography_data import (  # noqa: E402
    Biographies,
    Pieces,
    few_of_each,
    read,
    sentence_embeddings,
    thinned,
)
from _biography_methods import (  # noqa: E402
    METHODS,
    Move,
    Rows,
    by_chance,
    measure,
    prepare,
)
from _biography_report import CHANCE, METRICS, TESTED, picture, tables  # noqa: E402
from _machine import RESULTS, describe, save  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402

from jaxsteer.compare import LEARNERS  # noqa: E402
from jaxsteer.moments import (  # noqa: E402
    Projection,
    accumulate,
    principal_projection,
)

COMPONENTS = {"two": 64, "six": 32, "wiki": 32}
LANGUAGE_MODEL_ROWS = 2000
# A layer is deterministic, so that the channel's noise has no place in it, and it holds
# affine maps, which a mixture's is not; the others would take ten passes more.
NOT_INSIDE = (
    "Gaussian channel",
    "mixture transport",
    "MiMiC, reweighed",
    "LEACE, reweighed",
)


class Split(NamedTuple):
    """One random split, and what every method did with it."""

    train: np.ndarray
    test: np.ndarray
    projection: Projection
    probe: Any
    rows: Rows
    moves: dict[str, Move]
    seconds: dict[str, float]


def components(x: np.ndarray, count: int) -> Projection:
    """Return the principal components of training rows."""
    nothing = np.zeros(len(x), int)
    state = accumulate([(x, nothing)], n_classes=1, scatter="pooled")
    return principal_projection(state, count)


def split(
    x: np.ndarray, found: Biographies, seed: int, count: int, names: list[str]
) -> Split:
    """Fit every method on the training rows of one split."""
    train, test = train_test_split(
        np.arange(len(x)),
        test_size=TESTED,
        random_state=seed,
        stratify=found.label * 2 + found.group,
    )
    projection = components(x[train], count)
    inner, held_out = (np.asarray(projection(x[rows])) for rows in (train, test))
    probe = LogisticRegression(solver="newton-cholesky", max_iter=200)
    probe.fit(inner, found.group[train])
    rows = Rows(
        inner,
        found.label[train],
        found.group[train],
        held_out,
        probe.predict_proba(held_out),
        seed,
    )
    moves, seconds = {}, {}
    for name in names:
        start = time.perf_counter()
        moves[name] = jax.block_until_ready(METHODS[name](rows))
        seconds[name] = time.perf_counter() - start
    return Split(train, test, projection, probe, rows, moves, seconds)


def judge(
    one: Split, name: str, x: np.ndarray, x_test: np.ndarray, found: Biographies
) -> list[dict[str, Any]]:
    """Train both learners on moved rows, and measure them on the true genders."""
    label, group = found.label[one.test], found.group[one.test]
    right = float(np.mean(one.rows.group_test == group))
    results = []
    for learner in LEARNERS.values():
        model = learner.fit(x, one.rows.label, one.moves[name].weights)
        score = model.predict_proba(x_test)
        about = {"learner": learner.name, "seed": one.rows.seed}
        seconds = {"fit_seconds": one.seconds[name], "gender_accuracy": right}
        row = measure(score, label, group)
        results.append({"method": name, **about, **seconds, **row})
        if name == "raw":
            chance = by_chance(score, label, group)
            results.append({"method": CHANCE, **about, **seconds, **chance})
    return results


def on_features(one: Split, found: Biographies) -> list[dict[str, Any]]:
    """Measure moves of the features themselves."""
    results = []
    for name, move in one.moves.items():
        results += judge(one, name, *prepare(move, one.rows), found)
    return results


def states_inside(
    splits: list[Split],
    found: Biographies,
    arguments: argparse.Namespace,
    pieces: Pieces,
) -> dict[tuple[int, str], np.ndarray]:
    """Return the final states under every split's moves inside the language model."""
    from _biography_hidden import Layer, layer_of, steered_states

    from jaxsteer.models import load_decoder, load_tokenizer

    layers: list[Layer] = []
    places: dict[tuple[int, str], int] = {}
    for one in splits:
        group = found.group.copy()
        group[one.test] = one.rows.group_test
        for name, move in one.moves.items():
            if move.maps is not None:
                places[one.rows.seed, name] = len(layers)
                layers.append(layer_of(move, one.projection, one.probe, group))
    states = steered_states(
        load_decoder(arguments.decoder),
        load_tokenizer(arguments.decoder),
        found.texts,
        arguments.block,
        layers,
        pieces,
    )
    return {key: states[place] for key, place in places.items()}


def in_the_model(
    one: Split,
    found: Biographies,
    final: np.ndarray,
    states: dict[tuple[int, str], np.ndarray],
) -> list[dict[str, Any]]:
    """Measure moves inside the language model, on its final states."""
    results = []
    for name in one.moves:
        x = np.asarray(states.get((one.rows.seed, name), final), np.float64)
        view = components(x[one.train], one.rows.x.shape[1])
        parts = (np.asarray(view(x[rows])) for rows in (one.train, one.test))
        results += judge(one, name, *parts, found)
    return results


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--part", choices=COMPONENTS, default="two")
    parser.add_argument(
        "--features", choices=("minilm", "smollm2", "steered"), default="minilm"
    )
    parser.add_argument("--encoder", type=pathlib.Path)
    parser.add_argument("--decoder", type=pathlib.Path)
    parser.add_argument("--block", type=int, default=15)
    parser.add_argument("--components", type=int)
    parser.add_argument("--cache", type=pathlib.Path, help="keeps features")
    parser.add_argument("--state", type=pathlib.Path, help="keeps measured splits")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    pieces = Pieces(arguments.cache, arguments.decoder, arguments.seconds)
    count = arguments.components or COMPONENTS[arguments.part]
    found, names = read(arguments.data, arguments.part), list(METHODS)
    if arguments.quick:
        found, count = few_of_each(found, 24), 4
        names.remove("affirmative, full")
    final = None
    if arguments.features == "minilm":
        x = sentence_embeddings(
            found, arguments.data, arguments.part, arguments.encoder, arguments.cache
        )
    else:
        found = thinned(found, LANGUAGE_MODEL_ROWS)
        states = hidden_states(found, arguments, pieces)
        final = states["final"]
        x = states["middle" if arguments.features == "steered" else "final"]
    if arguments.features == "steered":
        names = [name for name in names if name not in NOT_INSIDE]
    x = np.asarray(x, np.float64)
    done: dict[str, dict[str, Any]] = {}
    if arguments.state is not None and arguments.state.is_file():
        done = json.loads(arguments.state.read_text())
    todo = [s for s in range(1 if arguments.quick else 5) if str(s) not in done]
    splits, inside = {}, None
    if arguments.features == "steered" and todo:
        # All of them at once: a text is read once for the moves of all splits.
        splits = {seed: split(x, found, seed, count, names) for seed in range(5)}
        inside = states_inside(list(splits.values()), found, arguments, pieces)
    for seed in todo:
        pieces.stop_if_over()
        one = splits.get(seed) or split(x, found, seed, count, names)
        if inside is None:
            rows = on_features(one, found)
        else:
            rows = in_the_model(one, found, final, inside)
        done[str(seed)] = {"share": float(one.projection.share), "rows": rows}
        if arguments.state is not None:
            arguments.state.write_text(json.dumps(done))
        print(f"split {seed + 1} measured", flush=True)
    table = pd.DataFrame([row for one in done.values() for row in one["rows"]])
    if arguments.quick:
        print(table[["method", "learner", *METRICS]].to_string())
        return
    share = float(np.mean([one["share"] for one in done.values()]))
    report(table, share, found, count, arguments)


def hidden_states(
    found: Biographies, arguments: argparse.Namespace, pieces: Pieces
) -> dict[str, np.ndarray]:
    """Return the language model's states, or those of an earlier run."""
    from _biography_hidden import last_states

    from jaxsteer.models import load_decoder, load_tokenizer

    if arguments.decoder is None:
        raise SystemExit(f"--features {arguments.features} needs --decoder FILE.gguf.")
    model = load_decoder(arguments.decoder)
    tokenizer = load_tokenizer(arguments.decoder)
    return last_states(model, tokenizer, found.texts, arguments.block, pieces)


def report(
    table: pd.DataFrame,
    share: float,
    found: Biographies,
    count: int,
    arguments: argparse.Namespace,
) -> None:
    """Write the figures, the tables and the picture."""
    names = [arguments.part, arguments.features]
    names = names[:1] if arguments.features == "minilm" else names[::-1]
    stem = "biographies_" + "_".join(n for n in names if n != "two" or len(names) == 1)
    about = {
        "part": arguments.part,
        "features": arguments.features,
        "classes": found.classes,
        "biographies": found.cells(),
        "components": count,
        "variance_kept": share,
        "gender_accuracy": float(table.gender_accuracy.mean()),
    }
    if arguments.features == "steered":
        about["block"] = arguments.block
    text = tables(table, found.classes)
    versions = describe("scikit-learn", "flax")
    save(stem, {**versions, **about, "rows": table.to_dict("records")})
    (RESULTS / f"{stem}.md").write_text(text)
    picture(table, RESULTS / f"{stem}.png")
    print(text)


if __name__ == "__main__":
    main()
