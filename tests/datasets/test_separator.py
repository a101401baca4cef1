"""Which mark parts the fields: files of many kinds, by their header or by clevercsv."""

from __future__ import annotations

import csv
import importlib.util
import io
import random

import pytest

from jaxsteer.datasets import read_table
from jaxsteer.datasets._separator import find_separator

has_clevercsv = importlib.util.find_spec("clevercsv") is not None


def pick(*values):
    return lambda i, rng: rng.choice(values)


def number(i, rng):
    return f"{rng.random() * 100:.3f}"


def decimal(i, rng):
    return f"{rng.random() * 100:.2f}".replace(".", ",")


def point(i, rng):
    return f"{rng.randint(1, 9)}.{rng.randint(100, 999)},{rng.randint(10, 99)}"


def date(i, rng):
    return f"{rng.randint(1, 28):02d}.{rng.randint(1, 12):02d}.2020"


def iso(i, rng):
    return f"2020-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def clock(i, rng):
    return f"2020-01-02 {rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}:00"


def pieces(i, rng):
    return f'"{", ".join(["x"] * rng.randint(1, 9))}"'


def quoted(field):
    return lambda i, rng: f'"{field(i, rng)}"'


def gaps(field, each):
    return lambda i, rng: field(i, rng) if i % each else ""


word, sex = pick("clerk", "cook", "nurse"), pick("F", "M")
income, abc = ("income, net", "job", "sex"), ("a", "b", "c")
free = pick('"He said; no, | never"', '"a; b"', '"plain, text"')
long = pick('"' + "word; " * 40 + '"')

# Name: separator, fields, names of the columns (None: c0, c1, ...), rows.
FILES = {
    "plain": (",", [number, word, sex], None),
    "semicolons, decimal commas": (";", [decimal, decimal, word, sex], None),
    "semicolons, decimal commas, dates": (";", [decimal, date, word, sex], None),
    "semicolons, one decimal column": (";", [decimal, sex], None),
    "tabs": ("\t", [number, word, sex], None),
    "tabs, decimal commas": ("\t", [decimal, decimal, sex], None),
    "bars": ("|", [number, word, sex], None),
    "quoted commas": (",", [number, pick('"other, or none"', "cook"), sex], None),
    "free text with marks": (",", [number, free, sex], None),
    "thousands in quotes": (",", [pick('"1,234"', '"56,789"'), sex], None),
    "times with colons": (",", [clock, number, sex], None),
    "dates with dashes": (",", [iso, number, sex], None),
    "lists with bars": (",", [number, pick("a|b", "b|c|d", "a"), sex], None),
    "lists with semicolons": (",", [number, pick("a;b", "b;c;d", "a"), sex], None),
    "words alone": (",", [word, sex], None),
    "many gaps": (",", [gaps(number, 2), gaps(word, 3), sex], None),
    "a blank after commas": (", ", [number, word, sex], None),
    "names with blanks": (",", [pick("Anna Maria"), pick("New York"), sex], None),
    "a comma quoted in the header": (";", [decimal, word], ('"income, net"', "job")),
    "codes with dashes": (",", [pick("001-2", "002-3"), word, sex], None),
    "addresses": (",", [pick("http://x.org/1?a=1&b=2"), number, sex], None),
    "mail": (",", [pick("p1@x.org"), pick("a b c"), sex], None),
    "objects in quotes": (",", [pick('"{""a"": 1, ""b"": 2}"'), number], None),
    "a comma in a header of semicolons": (";", [decimal, word, sex], income),
    "commas in all headers": (";", [decimal, decimal], ("a, b", "c, d")),
    "a comma in a header of tabs": ("\t", [number, word, sex], income),
    "a comma in a header of bars": ("|", [number, word, sex], income),
    "bars, text with commas": ("|", [number, pick("one, two, three"), sex], None),
    "semicolons, text with commas": (";", [number, pick("one, two, three")], None),
    "semicolons in the header": (",", [number, word, sex], ("a;b", "c;d", "e;f")),
    "a bar in the header": (",", [number, word, sex], ("sex|gender", "x", "y")),
    "one column of words": (",", [word], None),
    "one column of numbers": (",", [number], None),
    "one column, decimal commas": (",", [quoted(decimal)], None),
    "decimal commas in quotes": (",", [quoted(decimal), word, sex], None),
    "lists of one length": (",", [pick("a;b"), pick("c;d"), sex], None),
    "numbers in lists": (",", [pick("1;2;3"), number], None),
    "all quoted": (",", [quoted(number), quoted(word)], ('"a"', '"b"')),
    "semicolons, all quoted": (";", [quoted(decimal), quoted(word)], ('"a"', '"b"')),
    "empty columns": (",", [number, pick(""), pick(""), sex], None),
    "exponents": (",", [pick("-1.5e-03", "2e+10"), number, sex], None),
    "long text": (",", [long, number, sex], None),
    "lines in quotes": (",", [pick('"one\ntwo; three"'), number, sex], None),
    "money": (",", [pick("$3.50", "$1.25"), pick("5%", "7.5%"), sex], None),
    "other letters": (",", [pick("Zürich"), pick("東京"), number], None),
    "apostrophes": (",", [pick("O'Neill"), pick("d'Arc"), number], None),
    "semicolons, apostrophes": (";", [pick("O'Neill"), pick("d'Arc"), decimal], None),
    "text of many pieces": (",", [number, pieces, sex], None),
    "points for thousands": (";", [point, sex], None),
    "wide": (",", [number] * 60, None),
    "wide, semicolons": (";", [decimal] * 60, None),
    "one row": (",", [number, word, sex], None, 1),
    "one row, semicolons": (";", [decimal, word, sex], None, 1),
}
#: The header holds a comma beside the mark that parts the fields.
UNCLEAR = {
    "a comma in a header of semicolons",
    "commas in all headers",
    "a comma in a header of tabs",
    "a comma in a header of bars",
}


def written(name: str) -> tuple[str, str, int]:
    """The text of a file, its separator and the number of its columns."""
    mark, fields, names, *size = FILES[name]
    rng = random.Random(name)
    header = names or [f"c{i}" for i in range(len(fields))]
    lines = [mark.join(header)] + [
        mark.join(field(i, rng) for field in fields) for i in range(*(size or [200]))
    ]
    return "\n".join(lines) + "\n", mark.strip(" "), len(fields)


@pytest.mark.parametrize("name", FILES)
def test_the_separator_is_found(name):
    if name in UNCLEAR and not has_clevercsv:
        pytest.skip("clevercsv is not installed")
    text, mark, _ = written(name)
    header = next(csv.reader(io.StringIO(text)))
    asked = []

    def sample():
        asked.append(1)
        return text

    assert find_separator(header, sample) == mark
    # Other files are not read twice.
    assert bool(asked) == (name in UNCLEAR or ("in the header" in name and mark == ","))


@pytest.mark.filterwarnings("ignore:The fields of")
@pytest.mark.parametrize("packed", ["csv", "csv.gz"])
@pytest.mark.parametrize("name", sorted(UNCLEAR))
def test_a_file_with_an_unclear_header_is_read(name, packed, tmp_path):
    pytest.importorskip("clevercsv", reason="clevercsv is not installed")
    text, mark, width = written(name)
    path = tmp_path / f"rows.{packed}"
    if packed.endswith("gz"):
        import gzip

        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    table = read_table(path)
    assert table.shape == (200, width) and table.iloc[:, 0].dtype == float
    # Who says what it is, is not asked.
    said = read_table(path, separator=mark, decimal="," if mark == ";" else None)
    assert said.equals(table)


def test_without_clevercsv_the_usual_separator_is_kept(monkeypatch):
    import importlib

    real = importlib.import_module

    def missing(name, *rest):
        if name == "clevercsv":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert find_separator(["income", " net;job"], lambda: "income, net;job\n") == ","


def test_what_parts_a_file_by_its_ending_is_kept():
    assert find_separator(["a,b"], str, "\t") == "\t"
    assert find_separator(["a", "b"], str, "\t") == "\t"
