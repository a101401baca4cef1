"""Text is parsed once, in memory of one block, and lines are copied byte for byte."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from jaxsteer.streaming import _steer as steering
from jaxsteer.streaming import _write as writing
from jaxsteer.streaming import apply_file, open_files, steer_file
from jaxsteer.streaming._files import RowFiles, is_bytewise
from jaxsteer.streaming._kept import keep_columns
from tests.programs import ROOT
from tests.streaming.rows import pa, parquet

BATCH = 64
HOW = {"label": "y", "group": "g", "drop": ["note"], "batch_rows": BATCH}


def lines(n=300, note="ok"):
    rng = np.random.default_rng(0)
    label, group = rng.integers(0, 2, (2, n))
    x = rng.normal(size=n) + label * (1 + group)
    return [
        f"{x[i]:.6f},{['no', 'yes'][label[i]]},{'fm'[group[i]]},{note}"
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "in.csv"
    path.write_text("\n".join(["x,y,g,note", *lines(), ""]))
    return path


@pytest.fixture(scope="module")
def wanted(source):
    steer_file(source, out=source.with_name("out.csv"), kept_bytes=0, **HOW)
    return source.with_name("out.csv").read_bytes()


def opened(monkeypatch):
    """Count how often the rows of a text file are parsed."""
    count, parse = [], RowFiles._text
    monkeypatch.setattr(
        RowFiles, "_text", lambda *given: count.append(1) or parse(*given)
    )
    return count


@pytest.mark.parametrize(
    "options, times",
    [({}, 1), ({"kept_bytes": 0}, 3), ({"kept_bytes": 2_000}, 3)],
    ids=["kept", "not", "too many bytes"],
)
def test_text_is_parsed_once(options, times, source, wanted, tmp_path, monkeypatch):
    count = opened(monkeypatch)
    steer_file(source, out=tmp_path / "out.csv", **HOW, **options)
    assert len(count) == times
    assert (tmp_path / "out.csv").read_bytes() == wanted
    assert os.listdir(tmp_path) == ["out.csv"]


def test_without_room_to_keep_text_is_parsed_again(
    source, wanted, tmp_path, monkeypatch
):
    real = tempfile.TemporaryFile

    class Full:
        def __init__(self, **options):
            self.file = real(**options)

        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    count = opened(monkeypatch)
    steer_file(source, out=tmp_path / "out.csv", **HOW)
    assert len(count) == 3
    assert (tmp_path / "out.csv").read_bytes() == wanted


def test_a_pass_goes_on_from_any_kept_batch(source, tmp_path):
    files = open_files(source)
    with keep_columns(files, ["x", "g"], beside=tmp_path / "out.csv") as kept:
        # A pass that is left early keeps nothing.
        next(kept.batches(["x"], BATCH))
        for _ in range(2):
            whole = list(kept.batches(["x", "g"], BATCH))
        for start in ((0, 0), (0, 2 * BATCH), (1, 0)):
            given = list(kept.batches(["x"], BATCH, start=start))
            plain = list(files.batches(["x"], BATCH, start=start))
            assert [b[1:] for b in given] == [b[1:] for b in plain]
            for one, other in zip(given, plain, strict=True):
                assert one.table["x"].equals(other.table["x"])
        assert whole[-1].table.equals(list(files.batches(["x", "g"], BATCH))[-1].table)
        # Other columns, and other batches, come from the files.
        for columns, size in ((None, BATCH), (["x"], 100)):
            given, plain = (list(f.batches(columns, size)) for f in (kept, files))
            assert [b.table for b in given] == [b.table for b in plain]


@pytest.mark.parametrize("block", [5, 64])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_counted_wherever_blocks_end(block, end, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_BLOCK", block)
    for tail in ("", end, end * 3):
        path = tmp_path / "in.csv"
        text = end.join(["x,y", "", "1,2", "", "", "3,4", "5,6"]) + tail
        path.write_bytes(text.encode())
        assert writing._Lines(str(path)).count() == 3
        files = open_files(path)
        assert writing.copies_lines("out.csv", files, 3)
        # A row that takes two lines: one more line than rows.
        assert not writing.copies_lines("out.csv", files, 2)
    path.write_bytes(b"x,y\n1,2\r3,4\n")
    assert writing._Lines(str(path)).count() == -1


def test_files_that_change_in_the_meantime_are_refused(source, tmp_path, monkeypatch):
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    path.write_bytes(source.read_bytes())
    solve = steering.nearest_ideal

    def change(*given, **options):
        path.write_bytes(source.read_bytes().replace(b"ok", b"no", 1))
        return solve(*given, **options)

    monkeypatch.setattr(steering, "nearest_ideal", change)
    with pytest.raises(ValueError, match="changed in the meantime"):
        steer_file(path, out=out, **HOW)
    assert not out.exists()


def test_an_error_of_the_last_batch_is_not_lost(source, tmp_path, monkeypatch):
    join = writing._texts

    def fail(values, **options):
        if len(values) < BATCH and not pa.types.is_dictionary(values.type):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return join(values, **options)

    monkeypatch.setattr(writing, "_texts", fail)
    with pytest.raises(OSError, match=r"out\.csv"):
        steer_file(source, out=tmp_path / "out.csv", **HOW)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", [0, 290], ids=["first", "last"])
def test_letters_of_other_encodings_pass_through(place, tmp_path):
    rows = lines()
    rows[place] = rows[place].replace("ok", "M\u00fcller")
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes("\n".join(["x,y,g,note", *rows, ""]).encode("latin-1"))
    steer_file(source, out=out, maps_file=tmp_path / "maps.safetensors", **HOW)
    written = out.read_bytes().split(b"\n")[place + 1]
    assert written.startswith(rows[place].encode("latin-1") + b",")
    again = tmp_path / "again.csv"
    apply_file(tmp_path / "maps.safetensors", source, out=again, batch_rows=BATCH)
    assert (
        again.read_bytes()
        .split(b"\n")[place + 1]
        .startswith(written.rsplit(b",", 1)[0])
    )


def test_text_that_is_used_says_how_it_is_spelled(tmp_path):
    rows = [row.replace(",f,", ",h\u00e9,") for row in lines()]
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes("\n".join(["x,y,g,note", *rows, ""]).encode("latin-1"))
    with pytest.raises(ValueError, match="encoding='latin-1'"):
        steer_file(source, out=out, **HOW)
    found = steer_file(source, out=out, encoding="latin-1", **HOW)
    assert found.group_names == ("h\u00e9", "m")
    assert [line.rsplit(",", 2)[0] for line in out.read_text("latin-1").split()] == [
        "x,y,g,note",
        *rows,
    ]
    # Into Parquet every column is text, which must be spelled out.
    table = tmp_path / "out.parquet"
    how = {**HOW, "drop": ["note", "g2"]}
    source.write_bytes(
        "\n".join(
            ["x,y,g,note,g2", *(f"{row},{row.split(',')[2]}" for row in lines()), ""]
        )
        .replace("f\n", "h\u00e9\n")
        .encode("latin-1")
    )
    with pytest.raises(ValueError, match="encoding='latin-1'"):
        steer_file(source, out=table, **how)
    assert not table.exists()
    steer_file(source, out=table, encoding="cp1252", **how)
    names = parquet.read_table(table)["g2"].to_pylist()
    assert set(names) == {"h\u00e9", "m"}
    with pytest.raises(ValueError, match="encoding='klingon' is not known"):
        open_files(source, encoding="klingon")


def test_lines_are_copied_where_bytes_mean_what_they_seem():
    known = {
        **dict.fromkeys(["utf8", "latin-1", "cp1252", "koi8-r"], True),
        **dict.fromkeys(["utf-16", "gbk", "shift_jis", "iso2022_jp", "cp037"], False),
    }
    assert {name: is_bytewise(name) for name in known} == known


MEMORY = """
import sys
from jaxsteer.streaming import open_files
def peak():
    text = open("/proc/self/status").read()
    return int(text.split("VmHWM:")[1].split()[0])
files = open_files(sys.argv[1])
before = peak()
rows = sum(batch.table.num_rows for batch in files.batches(None, 4096))
assert rows == int(sys.argv[2])
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is told by /proc")
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_file(kind, tmp_path):
    """Data sets of pyarrow are held whole: text with one thread, Parquet always."""
    path = tmp_path / f"in.{kind}"
    rows, parts = 500_000, 50
    if kind == "csv":
        row = b"0.123456,yes,f," + b"word " * 80 + b"\n"
        with path.open("wb") as file:
            file.write(b"x,y,g,note\n")
            for _ in range(parts):
                file.write(row * (rows // parts))
    else:
        noise = np.random.default_rng(0).random((100, rows // parts), np.float32)
        table = pa.table({f"x{j}": column for j, column in enumerate(noise)})
        with parquet.ParquetWriter(path, table.schema, use_dictionary=False) as writer:
            for _ in range(parts):
                writer.write_table(table)
    assert path.stat().st_size > 180_000_000
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    out = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), str(rows)],
        env=env,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert int(out) < 100_000  # kB
