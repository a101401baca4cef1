"""How joyful a text is: a probe of sentence embeddings, fitted on GoEmotions.

Joyful comments carry one of the labels `JOYFUL` and none of `GLOOMY`. Half of the others
carry one of `GLOOMY`, half are neutral: a flat text is not a joyful one.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from _pieces import Kept
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from jaxsteer.models import embed_texts, load_encoder, load_tokenizer

JOYFUL = ("amusement", "excitement", "gratitude", "joy", "love")
GLOOMY = (
    "anger",
    "annoyance",
    "disappointment",
    "disapproval",
    "disgust",
    "embarrassment",
    "fear",
    "grief",
    "nervousness",
    "remorse",
    "sadness",
)
NEUTRAL = ("neutral",)
MAX_TOKENS = 64


class JoyfulnessProbe:
    """A logistic regression on all-MiniLM-L6-v2's embeddings.

    Attributes:
        figures: Rows, and the areas under the ROC curve on comments held out.
    """

    def __init__(
        self, data: pathlib.Path, encoder: pathlib.Path, rows: int, kept: Kept
    ):
        self._encoder = load_encoder(encoder)
        self._tokenizer = load_tokenizer(encoder)
        self._regression, self.figures = kept("probe", lambda: self._fit(data, rows))

    def _fit(self, data: pathlib.Path, rows: int) -> tuple[Any, dict[str, Any]]:
        train = comments(data, "train", rows)
        held_out = comments(data, "test", min(rows, 2400))
        regression = LogisticRegression(max_iter=1000).fit(
            self.embed(train.text), train.kind == "joyful"
        )
        score = regression.decision_function(self.embed(held_out.text))
        joyful = (held_out.kind == "joyful").to_numpy()

        def auc(rest):
            chosen = joyful | held_out.kind.isin(rest).to_numpy()
            return float(roc_auc_score(joyful[chosen], score[chosen]))

        return regression, {
            "training_comments": len(train),
            "held_out_comments": len(held_out),
            "auc": auc(["gloomy", "neutral"]),
            "auc_against_gloomy": auc(["gloomy"]),
            "auc_against_neutral": auc(["neutral"]),
            "accuracy": float(np.mean((score > 0) == joyful)),
        }

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``[n, 384]``."""
        return embed_texts(
            self._encoder,
            self._tokenizer,
            list(texts),
            max_length=MAX_TOKENS,
            batch_size=64,
        )

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return log odds ``[n]`` of being joyful, half of all texts taken to be so."""
        return self._regression.decision_function(self.embed(texts))


def comments(data: pathlib.Path, part: str, rows: int) -> pd.DataFrame:
    """Return about `rows` comments, half of them joyful, with their kind."""
    names = (data / "labels.txt").read_text().split()
    table = pd.read_csv(
        data / f"{part}.tsv.gz",
        sep="\t",
        header=None,
        quoting=3,
        names=["text", "codes", "id"],
        dtype=str,
    )
    labels = table.codes.map(lambda codes: {names[int(c)] for c in codes.split(",")})
    joyful = labels.map(lambda own: bool(own & set(JOYFUL)))
    gloomy = labels.map(lambda own: bool(own & set(GLOOMY)))
    kinds = {
        "joyful": (joyful & ~gloomy, rows // 2),
        "gloomy": (gloomy & ~joyful, rows // 4),
        "neutral": (labels.map(lambda own: own == set(NEUTRAL)), rows // 4),
    }
    parts = [
        table[mask].sample(min(count, mask.sum()), random_state=0).assign(kind=kind)
        for kind, (mask, count) in kinds.items()
    ]
    return pd.concat(parts, ignore_index=True)
