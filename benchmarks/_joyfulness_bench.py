"""The bench of the experiment: models, prompts read, and sweeps over strength."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from _film_prompts import ANGRY, GENRES, JOYFUL, N_TESTED, chat, films
from _joyfulness_model import Opened, look, open_prompts, speak, surprise
from _joyfulness_probe import JoyfulnessProbe
from _joyfulness_report import Curve
from _joyfulness_steering import Plan, Recorded

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


class Bench:
    """The models and what was measured so far."""

    def __init__(self, options: argparse.Namespace, sizes: Sizes):
        self.start, self.sizes = time.perf_counter(), sizes
        self.probe = JoyfulnessProbe(options.goemotions, options.minilm, sizes.comments)
        self.log(f"probe {self.probe.figures}")
        self.model = load_decoder(options.smollm2)
        self.tokenizer = load_tokenizer(options.smollm2)
        requests = [film.prompt(m) for g in GENRES for film in films(g) for m in JOYFUL]
        longest = max(len(self.tokenizer.encode(chat(text))) for text in requests)
        self.width = -(-longest // 8) * 8 + sizes.steps

    def log(self, text: str) -> None:
        """Say how far it is."""
        print(f"[{time.perf_counter() - self.start:.0f} s] {text}", flush=True)

    def open(self, requests: list[str]) -> Opened:
        """Read requests but for their last token."""
        prompts = [chat(text) for text in requests]
        return open_prompts(self.model, self.tokenizer, prompts, self.width)

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
        strengths: tuple[float, ...],
    ) -> list[Any]:
        """Tokens that are said at each strength."""
        said = []
        for strength in strengths:
            with self.steered(plans, arm, strength):
                said.append(
                    speak(
                        self.model,
                        opened,
                        steps=self.sizes.steps,
                        temperature=TEMPERATURE,
                        seed=0,
                        forbidden=self.tokenizer.stop,
                    )
                )
        return said

    def texts(self, said: Any) -> list[str]:
        """Texts of tokens ``[B, steps]``."""
        return [self.tokenizer.decode(row) for row in np.asarray(said)]

    def scores(self, *sweep: Any) -> np.ndarray:
        """Log odds of being joyful ``[S, n]``; arguments as :meth:`say`."""
        return np.array([self.probe.score(self.texts(s)) for s in self.say(*sweep)])

    def sweep(
        self,
        opened: Opened,
        plans: dict[str, Plan],
        arm: int,
        strengths: tuple[float, ...] = STRENGTHS,
        first: Curve | None = None,
    ) -> Curve:
        """Measure an arm at all strengths; what it does at 0 may be known already."""
        said = self.say(opened, plans, arm, strengths[0 if first is None else 1 :])
        texts = [self.texts(s) for s in said]
        score = [self.probe.score(rows) for rows in texts]
        nll = [np.asarray(surprise(self.model, opened, s)).mean(1) for s in said]
        distinct = [[distinct_pairs(row) for row in np.asarray(s)] for s in said]
        if first is not None:
            texts, score = [first.texts[0], *texts], [first.score[0], *score]
            nll, distinct = [first.surprise[0], *nll], [first.distinct[0], *distinct]
        return Curve(*map(np.array, (score, nll, distinct)), texts)


def distinct_pairs(row: np.ndarray) -> float:
    """Share of distinct pairs of neighboring tokens: low where a text repeats itself."""
    return len(set(pairwise(row))) / (len(row) - 1)


def record(bench: Bench) -> tuple[Recorded, list[list[Opened]]]:
    """States of the fitting prompts at every place, and the prompts by genre."""
    opened, states, label, group = [], [], [], []
    for a, genre in enumerate(GENRES):
        bank = films(genre)[N_TESTED : N_TESTED + bench.sizes.fitted]
        requests = []
        for i, manners in enumerate((ANGRY, JOYFUL)):
            for manner in manners[: bench.sizes.manners]:
                requests += [film.prompt(manner) for film in bank]
                label += [i] * len(bank)
                group += [a] * len(bank)
        parts = [requests[k : k + BATCH] for k in range(0, len(requests), BATCH)]
        opened.append([bench.open(part) for part in parts])
        states += [look(bench.model, part, PLACES) for part in opened[-1]]
    joined = {p: np.concatenate([np.asarray(s[p]) for s in states]) for p in PLACES}
    return Recorded(joined, np.array(label), np.array(group)), opened
