"""The bench of the experiment: models, prompts read, and sweeps over strength."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from _film_prompts import ANGRY, GENRES, JOYFUL, N_TESTED, chat, films
from _joyfulness_model import Opened, look, open_prompts, speak, surprise
from _joyfulness_probe import JoyfulnessProbe
from _joyfulness_report import Curve
from _joyfulness_steering import Plan, Recorded
from _pieces import Clock, Kept

from jaxsteer.models import load_decoder, load_tokenizer
from jaxsteer.nn import insert_steering, set_groups

PLACES = ("layers.12", "layers.16", "layers.20")
STRENGTHS = (0.0, 0.05, 0.1, 0.15, 0.2)
TEMPERATURE = 0.7
BATCH = 56  # fitting prompts that are read together


class Sizes(NamedTuple):
    """How much of everything."""

    comments: int
    tested: int
    fitted: int
    manners: int
    probes: int
    steps: int
    seeds: int


class Point(NamedTuple):
    """What was said of every film at one strength, with one seed of the tokens.

    Attributes:
        score: ``[n]`` log odds of being joyful.
        surprise: ``[n]`` negative log-likelihood a token after the plain request.
        own_surprise: ``[n]`` likewise after the request that was made.
        distinct: ``[n]`` share of distinct pairs of tokens.
        texts: What was said.
    """

    score: np.ndarray
    surprise: np.ndarray
    own_surprise: np.ndarray
    distinct: np.ndarray
    texts: list[str]


class Bench:
    """The models and what was measured so far."""

    def __init__(self, options: argparse.Namespace, sizes: Sizes):
        self.start, self.sizes = time.perf_counter(), sizes
        about = repr((sizes, PLACES, TEMPERATURE))
        self.kept = Kept(options.state, about, Clock(options.seconds))
        self.probe = JoyfulnessProbe(
            options.goemotions, options.minilm, sizes.comments, self.kept
        )
        self.log(f"probe {self.probe.figures}")
        self.model = load_decoder(options.smollm2)
        self.tokenizer = load_tokenizer(options.smollm2)
        requests = [film.prompt(m) for g in GENRES for film in films(g) for m in JOYFUL]
        longest = max(len(self.tokenizer.encode(chat(text))) for text in requests)
        self.width = -(-longest // 8) * 8 + sizes.steps
        self._opened: dict[tuple[str, str], Opened] = {}

    def log(self, text: str) -> None:
        """Say how far it is."""
        print(f"[{time.perf_counter() - self.start:.0f} s] {text}", flush=True)

    def open(self, requests: list[str]) -> Opened:
        """Read requests but for their last token."""
        prompts = [chat(text) for text in requests]
        return open_prompts(self.model, self.tokenizer, prompts, self.width)

    def tested(self, genre: str, manner: str = "") -> Opened:
        """The requests that are steered, read when they are first asked for."""
        key = genre, manner
        if key not in self._opened:
            bank = films(genre)[: self.sizes.tested]
            self._opened[key] = self.open([film.prompt(manner) for film in bank])
        return self._opened[key]

    def fitting(self, a: int) -> list[Opened]:
        """The requests of a genre that plans are fitted to, in :func:`record`'s order."""
        requests = fitting_requests(a, self.sizes)
        return [
            self.open(requests[k : k + BATCH]) for k in range(0, len(requests), BATCH)
        ]

    def steered(self, plans: dict[str, Plan], arm: int, strength: float) -> ExitStack:
        """Put the layers of every place in, until the block ends."""
        stack = ExitStack()
        for place, plan in plans.items():
            for layer in plan.layers(strength):
                stack.enter_context(insert_steering(self.model, place, layer))
        set_groups(self.model, arm)
        return stack

    def say(
        self,
        opened: Opened,
        plans: dict[str, Plan],
        arm: int,
        strength: float,
        seed: int = 0,
    ) -> Any:
        """Tokens that are said at a strength."""
        with self.steered(plans, arm, strength):
            return speak(
                self.model,
                opened,
                steps=self.sizes.steps,
                temperature=TEMPERATURE,
                seed=seed,
                forbidden=self.tokenizer.stop,
            )

    def texts(self, said: Any) -> list[str]:
        """Texts of tokens ``[B, steps]``."""
        return [self.tokenizer.decode(row) for row in np.asarray(said)]

    def scores(
        self,
        opened: Opened,
        plans: dict[str, Plan],
        arm: int,
        strengths: tuple[float, ...],
    ) -> np.ndarray:
        """Log odds of being joyful ``[S, n]``."""
        return np.array(
            [
                self.probe.score(self.texts(self.say(opened, plans, arm, strength)))
                for strength in strengths
            ]
        )

    def sweep(
        self,
        name: str,
        genre: str,
        plans: dict[str, Plan],
        arm: int,
        strengths: tuple[float, ...] = STRENGTHS,
        first: Curve | None = None,
        manner: str = "",
    ) -> Curve:
        """Measure an arm at all strengths, with every seed of the tokens.

        Args:
            name: Of the arm.
            genre: Whose films.
            plans: What is done at each place.
            arm: Which of the plans' arms.
            strengths: All of them, 0 in front.
            first: An arm that is the same at strength 0, known already.
            manner: What the requests ask for in words.
        """

        def point(strength: float, seed: int) -> Callable[[], Point]:
            def measure() -> Point:
                opened, plain = self.tested(genre, manner), self.tested(genre)
                said = self.say(opened, plans, arm, strength, seed)
                texts = self.texts(said)
                nll = np.asarray(surprise(self.model, plain, said)).mean(1)
                own = nll
                if manner:
                    own = np.asarray(surprise(self.model, opened, said)).mean(1)
                pairs = np.array([distinct_pairs(row) for row in np.asarray(said)])
                return Point(self.probe.score(texts), nll, own, pairs, texts)

            return measure

        todo = strengths if first is None else strengths[1:]
        rows = []
        for seed in range(self.sizes.seeds):
            points = [] if first is None else [first.points[seed][0]]
            for strength in todo:
                unit = f"{name}, {strength:g}, seed {seed}"
                points.append(self.kept(unit, point(strength, seed)))
            rows.append(points)
            self.log(
                f"{name}, seed {seed}: {[p.score.mean().round(2) for p in points]}"
            )
        return Curve(rows)


def distinct_pairs(row: np.ndarray) -> float:
    """Share of distinct pairs of neighboring tokens: low where a text repeats itself."""
    return len(set(pairwise(row))) / (len(row) - 1)


def fitting_requests(a: int, sizes: Sizes) -> list[str]:
    """Requests of a genre in either manner, on films that are not tested."""
    bank = films(GENRES[a])[N_TESTED : N_TESTED + sizes.fitted]
    return [
        film.prompt(manner)
        for manners in (ANGRY, JOYFUL)
        for manner in manners[: sizes.manners]
        for film in bank
    ]


def record(bench: Bench) -> Recorded:
    """States of the fitting prompts at every place."""

    def measure() -> Recorded:
        states, label, group = [], [], []
        for a in range(len(GENRES)):
            states += [look(bench.model, part, PLACES) for part in bench.fitting(a)]
            each = bench.sizes.fitted * bench.sizes.manners
            label += [0] * each + [1] * each
            group += [a] * 2 * each
        joined = {p: np.concatenate([np.asarray(s[p]) for s in states]) for p in PLACES}
        return Recorded(joined, np.array(label), np.array(group))

    return bench.kept("recorded states", measure)
