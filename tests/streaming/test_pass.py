"""Moments of row files: exact, in constant pieces, resumed, and the faults of files."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxsteer.moments import accumulate
from jaxsteer.streaming import (
    MomentPass,
    RowEncoder,
    Tower,
    merge_pieces,
    open_files,
    run_pass,
    run_with,
    table_statistics,
)
from tests.programs import ROOT
from tests.streaming.rows import (
    BATCH,
    GROUPS,
    LABELS,
    PIECE,
    bits,
    numbers,
    pa,
    write,
)

EPS = float(np.finfo(np.float32).eps)


def job_of(source, **changes):
    files = open_files(source)
    options = {
        "label": "y",
        "label_names": LABELS,
        "group": "g",
        "group_names": GROUPS,
        "batch_rows": BATCH,
        "piece_rows": PIECE,
    }
    encoder = RowEncoder.as_they_are(files, ["a", "b"])
    return MomentPass(files=files, encoder=encoder, **{**options, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for part in range(3):
        write(numbers(seed=part), folder / f"part-{part}.parquet")
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    return run_pass(job_of(folder))


def in_memory(table, weights=None):
    x = np.stack([table["a"].to_numpy(), table["b"].to_numpy()], 1)
    codes = [
        np.array([names.index(v) for v in table[column].to_pylist()])
        for column, names in (("y", LABELS), ("g", GROUPS))
    ]
    rows = (np.asarray(x, np.float32), *codes, weights)
    return accumulate([rows], n_classes=2, n_groups=2)


def close(found, expected):
    for name in ("mass", "squares", "mean", "cov", "level"):
        a, b = np.asarray(getattr(found, name)), np.asarray(getattr(expected, name))
        np.testing.assert_allclose(a, b, rtol=0, atol=20 * EPS * np.abs(b).max())


def test_a_pass_is_one_batch_in_memory(whole):
    close(
        whole.moments, in_memory(pa.concat_tables([numbers(seed=s) for s in range(3)]))
    )
    assert whole.rows == 2100
    assert whole.left_out == {"label": 0, "group": 0, "weight": 0, "features": 0}
    # 700 rows are five pieces of 128 and one of 60, three times.
    assert whole.pieces == 18


def test_csv_and_lists_are_the_same_rows(whole, folder, tmp_path):
    tables = [numbers(seed=part) for part in range(3)]
    for part, table in enumerate(tables):
        write(table, tmp_path / f"part-{part}.csv")
    assert bits(run_pass(job_of(tmp_path))) == bits(whole)
    both = pa.concat_tables(tables)
    x = np.stack([both["a"].to_numpy(), both["b"].to_numpy()], 1).ravel()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x), 2)
    path = write(
        pa.table({"v": lists, "y": both["y"], "g": both["g"]}), tmp_path / "v.pq"
    )
    files = open_files(path)
    job = dataclasses.replace(
        job_of(folder), files=files, encoder=RowEncoder.as_they_are(files, ["v"])
    )
    assert job.encoder.names == ["v[0]", "v[1]"]
    close(run_pass(job).moments, whole.moments)


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same_bits(whole, folder, workers):
    with ThreadPoolExecutor(workers) as pool:
        found = run_with(job_of(folder), pool.map)
    assert bits(found) == bits(whole)
    assert found.rows == whole.rows


def test_the_order_of_merging_is_what_fixes_the_bits(whole, folder):
    job = job_of(folder)
    backwards = run_with(
        job, lambda run, pieces: map(run, pieces[::-1]), deterministic=False
    )
    assert bits(backwards) != bits(whole)
    close(backwards.moments, whole.moments)
    with pytest.raises(ValueError, match="17 results for 18 pieces"):
        run_with(job, lambda run, pieces: map(run, pieces[1:]))
    with pytest.raises(ValueError, match="states is empty"):
        merge_pieces([])


def test_rows_that_cannot_count_are_left_out_and_counted(tmp_path):
    table = numbers(300)
    weights = np.random.default_rng(5).uniform(0.5, 2, 300)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    columns["w"] = weights.tolist()
    columns["a"][3] = float("nan")
    columns["b"][70] = float("inf")
    columns["a"][71] = None
    columns["y"][5] = None
    columns["y"][140] = "perhaps"
    columns["g"][9] = "x"
    columns["w"][10] = -1.0
    columns["w"][11] = None
    columns["y"][12], columns["w"][12] = None, None  # counts once, for the label
    found = run_pass(
        job_of(write(pa.table(columns), tmp_path / "rows.parquet"), weight="w")
    )
    assert found.left_out == {"label": 3, "group": 1, "weight": 2, "features": 3}
    assert found.rows == 300
    kept = np.setdiff1d(np.arange(300), [3, 5, 9, 10, 11, 12, 70, 71, 140])
    close(found.moments, in_memory(table.take(kept), weights[kept]))


KILLED = """
import os, signal, sys
from tests.streaming.test_pass import job_of
from jaxsteer.streaming import run_pass, MomentPass
add, seen = MomentPass.add, 0
def counted(self, *rest):
    global seen
    seen += 1
    if seen == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return add(self, *rest)
MomentPass.add = counted
run_pass(job_of(sys.argv[1]), checkpoint=sys.argv[2])
"""


@pytest.mark.slow
def test_killed_at_any_batch_and_resumed_it_is_the_same(whole, folder, tmp_path):
    path = tmp_path / "state.safetensors"
    # 33 batches: killed in the middle of a piece, twice, then run to the end.
    for batch in np.random.default_rng().integers(3, 15, 2):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(folder), str(path), str(batch)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=120,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, batch
    resumed = run_pass(job_of(folder), checkpoint=path)
    assert bits(resumed) == bits(whole)
    assert (resumed.rows, resumed.pieces) == (whole.rows, whole.pieces)
    # At its end it adds nothing more.
    assert bits(run_pass(job_of(folder), checkpoint=path)) == bits(whole)


def test_a_pass_resumes_within_a_csv_file(tmp_path, monkeypatch):
    source = write(numbers(500), tmp_path / "rows.csv")
    path = tmp_path / "state.safetensors"
    whole = run_pass(job_of(source))

    add, seen = MomentPass.add, []

    class StopError(Exception):
        pass

    def stop(self, moments, table, left_out):
        seen.append(table.num_rows)
        if len(seen) == 6:
            raise StopError
        return add(self, moments, table, left_out)

    monkeypatch.setattr(MomentPass, "add", stop)
    with pytest.raises(StopError):
        run_pass(job_of(source), checkpoint=path)
    monkeypatch.undo()
    assert path.exists()
    resumed = run_pass(job_of(source), checkpoint=path)
    assert bits(resumed) == bits(whole)
    assert resumed.rows == 500


def test_the_checkpoint_of_another_pass_is_refused(folder, tmp_path):
    path = tmp_path / "state.safetensors"
    mine = tmp_path / "rows.parquet"
    run_pass(job_of(write(numbers(100), mine)), checkpoint=path)
    with pytest.raises(ValueError, match="'files' differs"):
        run_pass(job_of(folder), checkpoint=path)
    with pytest.raises(ValueError, match="'scatter' differs"):
        run_pass(job_of(mine, scatter="pooled"), checkpoint=path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="damaged"):
        run_pass(job_of(mine), checkpoint=path)


def test_a_file_that_was_cut_off_is_named(folder, tmp_path):
    path = write(numbers(seed=1), tmp_path / "cut.parquet")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"cut\.parquet is damaged, cut off"):
        open_files(path)
    # The footer is whole, a page is not: its checksum tells.
    path.write_bytes(data[:200] + bytes(100) + data[300:])
    with pytest.raises(ValueError, match=r"cut\.parquet cannot be read"):
        run_pass(job_of(path))


def test_a_column_that_changes_its_type_is_named(tmp_path):
    write(numbers(), tmp_path / "a.parquet")
    other = numbers(seed=1).set_column(0, "a", pa.array(["1"] * 700))
    write(other, tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"column 'a' changes its type: double in "):
        open_files(tmp_path)
    with pytest.raises(ValueError, match=r"not the same columns: z"):
        short = write(
            numbers().append_column("z", [range(700)]), tmp_path / "c.parquet"
        )
        open_files([tmp_path / "a.parquet", short])
    for name, first in (("a", "1"), ("b", "1.5")):
        (tmp_path / f"{name}.csv").write_text(f"a,y\n{first},no\n")
    assert open_files(sorted(tmp_path.glob("*.csv"))).types["a"] == "double"
    late = tmp_path / "late.csv"
    late.write_text("a,b,y,g\n" + "1,2,no,f\n" * 300_000 + "one,2,no,f\n")
    with pytest.raises(ValueError, match=r"late\.csv cannot be read.*types="):
        list(open_files(late).batches(["a"], 65_536))
    texts = open_files(late, types={"a": "string"})
    assert sum(b.table.num_rows for b in texts.batches(["a"], 65_536)) == 300_001


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda f, t: open_files(t / "none.parquet"), "No row file"),
        (lambda f, t: open_files(__file__), "row files end in"),
        (
            lambda f, t: open_files([*f.iterdir(), write(numbers(), t / "a.csv")]),
            "mixes",
        ),
        (
            lambda f, t: open_files(f, types={"z": "string"}),
            "types names the column 'z'",
        ),
        (lambda f, t: run_pass(job_of(f, label="z")), "no column 'z'"),
        (lambda f, t: run_pass(job_of(f, piece_rows=100)), "must be a multiple"),
        (lambda f, t: run_pass(job_of(f, scatter="z")), "scatter='z'"),
        (lambda f, t: RowEncoder.as_they_are(open_files(f), ["y"]), "holds string"),
        (
            lambda f, t: table_statistics(open_files(f), ["a"], as_values=["a"]).names(
                ["a"]
            ),
            "more than can be values",
        ),
    ],
)
def test_errors_say_what_to_do(folder, tmp_path, make, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make(folder, tmp_path)


def test_pieces_are_merged_in_pairs(folder):
    job = job_of(folder)
    tower = Tower()
    for piece in job.pieces()[:13]:
        tower.add(job.run_piece(piece))
    assert [part.pieces for part in tower.parts] == [8, 4, 1]
    total = tower.total()
    assert (total.pieces, total.rows) == (13, tower.rows)


def test_an_update_compiles_once_for_all_batches(folder):
    from jaxsteer.moments import _stream

    before = _stream._updated._cache_size()
    run_pass(job_of(folder))
    assert _stream._updated._cache_size() == before
