"""Biographies, their classes and genders, sentence embeddings, and what is kept of them.

The texts are about real people: nothing here writes a text, and a cache holds numbers
under a hash.
"""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from _pieces import Clock

SIX = ("accountant", "dentist", "nurse", "physician", "psychologist", "surgeon")
CLASSES = {
    "two": ("nurse", "surgeon"),
    "six": SIX,
    "wiki": ("athlete", "politician", "royal", "scientist", "singer", "writer"),
}
ENCODER_TOKENS = 128  # as the embeddings that come with bias_in_bios


class Biographies(NamedTuple):
    """One part of the data.

    Attributes:
        texts: The biographies.
        label: ``[n]`` class codes, in the order of `classes`.
        group: ``[n]`` genders as the data set has them: women 0, men 1.
        place: ``[n]`` rows of the file.
        classes: Names of the classes.
    """

    texts: list[str]
    label: np.ndarray
    group: np.ndarray
    place: np.ndarray
    classes: tuple[str, ...]

    def take(self, rows: np.ndarray) -> Biographies:
        """Return some of the biographies."""
        return Biographies(
            [self.texts[row] for row in rows],
            self.label[rows],
            self.group[rows],
            self.place[rows],
            self.classes,
        )

    def cells(self) -> dict[str, int]:
        """Return the number of biographies of each class and gender."""
        return {
            f"{name}, {gender}": int(np.sum((self.label == i) & (self.group == a)))
            for i, name in enumerate(self.classes)
            for a, gender in enumerate(("women", "men"))
        }


def read(data: pathlib.Path, part: str) -> Biographies:
    """Read a part: surgeons and nurses, six occupations, or six of Wikipedia's."""
    wiki = part == "wiki"
    name = "wiki_bios_gender/wiki_bios" if wiki else "bias_in_bios/bios"
    table, classes = pd.read_csv(data / f"{name}.csv.gz"), CLASSES[part]
    keep = table.occupation.isin(classes)
    if part == "two":
        keep = keep & (table.source == "find")
    table = table[keep]
    label = table.occupation.map({name: i for i, name in enumerate(classes)})
    return Biographies(
        table.text.astype(str).tolist(),
        label.to_numpy(int),
        (table.gender == "M").to_numpy(int),
        table.index.to_numpy(),
        classes,
    )


def thinned(found: Biographies, count: int, seed: int = 0) -> Biographies:
    """Return `count` biographies: each class's rarer gender whole, and a random share.

    The share of the others is drawn from all classes together.
    """
    sizes = np.bincount(found.label * 2 + found.group).reshape(-1, 2)
    rarer = found.group == sizes.argmin(1)[found.label]
    others = np.flatnonzero(~rarer)
    room = max(count - int(rarer.sum()), 0)
    if room >= len(others):
        return found
    drawn = np.random.default_rng(seed).permutation(others)[:room]
    return found.take(np.sort(np.concatenate([np.flatnonzero(rarer), drawn])))


def few_of_each(found: Biographies, count: int) -> Biographies:
    """Return the first `count` biographies of every class and gender."""
    cell = found.label * 2 + found.group
    rows = [np.flatnonzero(cell == code)[:count] for code in np.unique(cell)]
    return found.take(np.sort(np.concatenate(rows)))


def sentence_embeddings(
    found: Biographies,
    data: pathlib.Path,
    part: str,
    encoder: pathlib.Path | None,
    cache: pathlib.Path | None,
) -> np.ndarray:
    """Return all-MiniLM-L6-v2's vectors of at most 128 tokens, ``[n, 384]``.

    Those of bias_in_bios come with it; the others are computed from the encoder's files.
    """
    if part != "wiki":
        stored = np.load(data / "bias_in_bios" / "minilm_l6_f16.npz")["emb"]
        return stored[found.place].astype(np.float32)
    if encoder is None:
        raise SystemExit(
            "--part wiki needs --encoder FOLDER (all-MiniLM-L6-v2's files)."
        )

    def compute() -> dict[str, np.ndarray]:
        from jaxsteer.models import embed_texts, load_encoder, load_tokenizer

        model, tokenizer = load_encoder(encoder), load_tokenizer(encoder)
        vectors = embed_texts(model, tokenizer, found.texts, max_length=ENCODER_TOKENS)
        return {"x": vectors}

    (weights,) = sorted(encoder.glob("*.safetensors"))
    return kept(cache, weights, found.texts, (ENCODER_TOKENS,), compute)["x"]


def kept(
    cache: pathlib.Path | None,
    weights: pathlib.Path,
    texts: Sequence[str],
    settings: tuple[int | str, ...],
    compute: Callable[[], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Return `compute`'s arrays, from the cache where the same were computed before.

    Args:
        cache: Folder; None keeps nothing.
        weights: The model's file; its content is part of the key, as are the texts.
        texts: What the model reads.
        settings: Numbers and hashes that the arrays depend on besides.
        compute: Computes the arrays.
    """
    if cache is None:
        return compute()
    digest = hashlib.sha256(weights.read_bytes())
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    digest.update(repr(settings).encode())
    path = cache / f"{digest.hexdigest()[:32]}.npz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        arrays = compute()
        with path.with_suffix(".part").open("wb") as file:
            np.savez(file, **arrays)
        path.with_suffix(".part").replace(path)
    with np.load(path) as stored:
        return dict(stored)


class Pieces(Clock):
    """A long run in pieces: batches of texts that are kept, and a time to stop.

    Args:
        cache: Folder of what was computed; None keeps nothing.
        weights: The model's file, part of every key.
        seconds: After which nothing new is begun.
    """

    def __init__(
        self,
        cache: pathlib.Path | None = None,
        weights: pathlib.Path | None = None,
        seconds: float = float("inf"),
    ):
        super().__init__(seconds)
        self._cache, self._weights = cache, weights

    def batch(
        self,
        texts: Sequence[str],
        settings: tuple[int | str, ...],
        compute: Callable[[], dict[str, np.ndarray]],
    ) -> dict[str, np.ndarray]:
        """Return a batch's arrays, from the cache or computed if there is time."""

        def in_time() -> dict[str, np.ndarray]:
            self.stop_if_over()
            return compute()

        if self._weights is None:
            return in_time()
        return kept(self._cache, self._weights, texts, settings, in_time)
