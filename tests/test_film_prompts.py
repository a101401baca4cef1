"""The bank of film prompts of benchmarks/joyfulness.py: many, distinct, alike in form."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def bank(monkeypatch):
    if not (ROOT / "benchmarks").exists():
        pytest.skip("no benchmarks beside these tests")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import _film_prompts

    return _film_prompts


def test_each_genre_has_a_hundred_distinct_prompts_and_some_to_fit_on(bank):
    for genre in bank.GENRES:
        films = bank.films(genre)
        assert bank.N_TESTED >= 100
        assert len(films) >= bank.N_TESTED + 20
        assert len({film.prompt() for film in films}) == len(films)
        assert len({film.plot for film in films}) == len(films)
        assert len({film.hero for film in films}) == len(films)


def test_banks_share_heroes_and_no_plot(bank):
    comedy, horror = (bank.films(genre) for genre in bank.GENRES)
    assert [film.hero for film in comedy] == [film.hero for film in horror]
    assert not {film.plot for film in comedy} & {film.plot for film in horror}
    assert not {f.prompt() for f in comedy} & {f.prompt() for f in horror}


def test_prompts_are_of_like_length(bank):
    pairs = list(zip(*(bank.films(genre) for genre in bank.GENRES), strict=True))
    words = [[len(film.plot.split()) for film in pair] for pair in pairs]
    assert min(map(min, words)) >= 8
    assert max(abs(comedy - horror) for comedy, horror in words) <= 5
    means = [statistics.mean(column) for column in zip(*words, strict=True)]
    assert abs(means[0] - means[1]) < 1.5


def test_a_prompt_reads_as_it_should(bank):
    for genre in bank.GENRES:
        for film in bank.films(genre):
            assert film.hero.strip() == film.hero and film.hero
            assert film.plot.strip() == film.plot and film.plot
            assert film.hero.split()[0] in ("a", "an")
            assert not film.plot.endswith(".")
            text = film.prompt("Be brief.")
            assert text.startswith(f"Write a short review of a {genre} film in which ")
            assert text.endswith(f"{film.plot}. Be brief.")


def test_manners_come_in_pairs_and_the_chat_ends_with_the_answer_to_come(bank):
    assert len(bank.JOYFUL) == len(bank.ANGRY) == len({*bank.JOYFUL, *bank.ANGRY}) / 2
    chat = bank.chat("Hello.")
    assert chat.endswith("<|im_start|>assistant\n")
    assert chat.count("<|im_start|>") == 3 and chat.count("<|im_end|>") == 2
