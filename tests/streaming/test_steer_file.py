"""Files steered batch by batch are what the same rows steered in memory are."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import warnings

import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.estimators import TabularEncoder
from jaxsteer.storage import save
from jaxsteer.streaming import (
    Progress,
    RowEncoder,
    apply_file,
    open_files,
    print_progress,
    row_encoder,
    steer_file,
    table_statistics,
)
from jaxsteer.streaming._write import columns_writer
from tests.streaming.rows import pa, parquet, write

BATCH = 128
TOLD: list[Progress] = []


def table(n=700, seed=0):
    """Columns of every kind."""
    rng = np.random.default_rng(seed)
    label, group = rng.integers(0, 2, n), rng.integers(0, 2, n)
    age = 40 + 10 * rng.normal(size=n) + 5 * label * group
    job = rng.choice(["clerk", "nurse", "cook", None], n, p=[0.5, 0.3, 0.15, 0.05])
    return pa.table(
        {
            "age": pa.array(age, mask=rng.random(n) < 0.1),
            "job": job.tolist(),
            "part_time": pa.array(rng.random(n) < 0.3 + 0.3 * group),
            "hired": (np.datetime64("2020-01-01") + rng.integers(0, 900, n)),
            "number": [f"id-{i}" for i in range(n)],
            "hired_by": rng.choice(["x"] * 300 + ["rare 1", "rare 2"], n).tolist(),
            "passed": np.array(["no", "yes"])[label].tolist(),
            "sex": np.array(["f", "m"])[group].tolist(),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("steered")


@pytest.fixture(scope="module")
def source(folder):
    for part in range(2):
        write(table(seed=part), folder / f"part-{part}.parquet")
    return [folder / f"part-{part}.parquet" for part in range(2)]


@pytest.fixture(scope="module")
def steered(source, folder):
    return steer_file(
        source,
        label="passed",
        group="sex",
        drop=["number"],
        out=folder / "out.parquet",
        maps_file=folder / "maps.safetensors",
        batch_rows=BATCH,
        progress=TOLD.append,
    )


def test_encoded_as_in_memory_but_for_medians(source):
    whole = pa.concat_tables([table(seed=part) for part in range(2)])
    files = open_files(source)
    columns = [c for c in files.types if c not in ("passed", "sex")]
    statistics = table_statistics(files, columns, batch_rows=BATCH, max_values=100)
    with pytest.warns(UserWarning, match=r"'number' \(too many values\)"):
        encoder = row_encoder(statistics, columns)
    x = encoder(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = TabularEncoder()
        y = expected.fit_transform(whole.select(columns).to_pandas())
    names = list(expected.get_feature_names_out())
    assert set(names) == set(encoder.names)
    y = y[:, [names.index(name) for name in encoder.names]]
    kept = np.asarray(whole["age"].is_valid())
    # Missing ages take the mean here; the mean and scale of the others follow from it.
    slope, intercept = np.polyfit(y[kept, 0], x[kept, 0], 1)
    np.testing.assert_allclose(x[kept, 0], slope * y[kept, 0] + intercept, atol=1e-5)
    assert np.all(x[~kept, 0] == 0)
    np.testing.assert_allclose(x[:, 1:], y[:, 1:], atol=1e-5)
    assert RowEncoder.from_json(encoder.to_json()) == encoder


def test_statistics_merge(source):
    files = open_files(source)
    columns = ["age", "job", "sex"]
    parts = [table_statistics(open_files(p), columns, batch_rows=BATCH) for p in source]
    whole = table_statistics(files, columns, batch_rows=1000)
    parts[0].merge(parts[1])
    for name in columns:
        a, b = parts[0].columns[name], whole.columns[name]
        assert (a.rows, a.missing, a.values) == (b.rows, b.missing, b.values)
        np.testing.assert_allclose([a.mean, a.squares], [b.mean, b.squares], rtol=1e-12)
    assert whole.names(["sex"]) == ("f", "m")
    assert whole.rows == 1400


def test_steered_as_in_memory(source, steered, folder):
    whole = pa.concat_tables([table(seed=part) for part in range(2)])
    x = steered.encoder(whole)
    label = np.array(whole["passed"].to_pylist()) == "yes"
    group = np.array(whole["sex"].to_pylist()) == "m"
    pop = js.fit_population(x, label.astype(int), group.astype(int))
    expected = js.nearest_ideal(
        pop, maps="shared_covariance", reference=int(group.mean() > 0.5)
    )
    moved = expected.transport(x, group.astype(int))
    out = parquet.read_table(folder / "out.parquet")
    assert out.select(whole.column_names).equals(whole)
    assert out.column_names[len(whole.column_names) :] == list(steered.columns)
    found = np.stack([out[c].to_numpy() for c in steered.columns[:-1]], 1)
    np.testing.assert_allclose(found, moved, atol=2e-3)
    balanced = js.baselines.reweighing(label.astype(int), group.astype(int))
    np.testing.assert_allclose(out["sample_weight"].to_numpy(), balanced, rtol=1e-5)
    assert steered.rows == 1400 and steered.group_names == ("f", "m")


def test_applied_to_new_rows_without_labels(steered, folder):
    new = table(seed=9).drop_columns(["passed"])
    sex = new["sex"].to_pylist()
    sex[4], sex[130] = "x", None
    new = new.set_column(new.column_names.index("sex"), "sex", [sex])
    new = new.set_column(0, "age", [[np.inf, *new["age"].to_pylist()[1:]]])
    files = [write(new, folder / "new.parquet"), write(new, folder / "new.csv")]
    outs = [folder / "applied.csv", folder / "applied.parquet"]
    tables = []
    for file, out in zip(files, outs, strict=True):
        found = apply_file(folder / "maps.safetensors", file, out=out, batch_rows=BATCH)
        assert found.left_out == {"group": 2, "features": 1}
        assert found.rows == 700
        back = open_files(out)
        tables.append(pa.concat_tables([b.table for b in back.batches(None, 1000)]))
    for name in found.columns:
        values = [np.asarray(t[name].to_numpy(), float) for t in tables]
        np.testing.assert_allclose(*values, atol=1e-5)
        assert np.isnan(values[0][[0, 4, 130]]).all()
        assert np.isfinite(np.delete(values[0], [0, 4, 130])).all()
    group = np.array([s == "m" for s in sex], int)
    moved = steered.steering.transport(np.nan_to_num(steered.encoder(new)), group)
    kept = np.delete(np.arange(700), [0, 4, 130])
    own = np.stack([tables[1][c].to_numpy() for c in found.columns], 1)[kept]
    np.testing.assert_allclose(own, np.asarray(moved)[kept], atol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"out": "rows.txt"}, "must end in one of"),
        ({"label": "z"}, "no column 'z'"),
        ({"drop": ["z"]}, "no column 'z'"),
        ({"reference": "x"}, "reference='x' is no group; the groups are f, m"),
        ({"maps": "none"}, "maps='none'"),
        ({"label": "number"}, "column 'number' has more than can be values"),
    ],
)
def test_errors_write_nothing(source, tmp_path, change, message):
    given = {"label": "passed", "group": "sex", "drop": ["number"], "out": "o.csv"}
    given |= change
    given["out"] = tmp_path / given["out"]
    with pytest.raises(ValueError, match=message):
        steer_file(source, batch_rows=BATCH, **given)
    assert os.listdir(tmp_path) == []


def test_an_input_or_other_maps_are_refused(source, steered, tmp_path):
    with pytest.raises(ValueError, match="is a file that is read"):
        steer_file(source, label="passed", group="sex", out=source[0])
    other = tmp_path / "other.safetensors"
    save(other, {"maps": steered.steering.group_maps})
    with pytest.raises(ValueError, match="was not written by steer_file"):
        apply_file(other, source, out=tmp_path / "o.csv")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_full_disk_leaves_the_old_file(ending, tmp_path):
    path, source = tmp_path / "out.csv", tmp_path / f"in.{ending}"
    path.write_text("old\n")
    write(table(20_000), source)
    files = open_files(source)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with (
            pytest.raises(OSError, match=r"out\.csv"),
            columns_writer(path, files, ["new"]) as put,
        ):
            for batch in files.batches(None, 4096):
                put(batch, [np.zeros(batch.table.num_rows)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_text() == "old\n"
    assert sorted(os.listdir(tmp_path)) == [f"in.{ending}", "out.csv"]


def test_progress_is_one_line(capsys):
    state = Progress(
        task="reading",
        rows=5,
        total=10,
        seconds=1.0,
        rows_per_second=5.0,
        seconds_left=1.0,
    )
    print_progress(state)
    assert "reading: 5 of 10 rows, 5 rows/s, 1 s left" in capsys.readouterr().err


def test_progress_tells_of_each_pass(steered):
    tasks = ["reading columns", "taking moments", "writing rows"]
    assert list(dict.fromkeys(told.task for told in TOLD)) == tasks
    last = {told.task: told for told in TOLD}
    assert [last[task].rows for task in tasks] == [1400] * 3
    assert all(last[task].seconds_left == 0 for task in tasks)


def test_the_command_line_steers_and_applies(folder, source):
    from typer.testing import CliRunner

    from jaxsteer.cli._app import app

    def run(*arguments):
        return CliRunner().invoke(app, ["stream", *map(str, arguments)])

    out, maps = folder / "by-command.parquet", folder / "by-command.safetensors"
    given = [*source, "--label", "passed", "--group", "sex", "--out", out]
    found = run("steer", *given, "--maps", maps, "--drop", "number", "--json")
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert said["rows"] == parquet.read_table(out).num_rows
    assert set(said["columns"]) <= set(parquet.read_table(out).column_names)
    again = folder / "applied-by-command.parquet"
    found = run("apply", maps, *source, "--out", again)
    assert found.exit_code == 0, found.output
    assert f"{said['rows']:,} rows" in found.stdout
    name = said["columns"][0]
    np.testing.assert_array_equal(
        parquet.read_table(out)[name].to_numpy(),
        parquet.read_table(again)[name].to_numpy(),
    )
    text = folder / "by-command.csv"
    groups = ("h\u00e9", "m")
    rows = [f"{i % 7},{'yes' if i % 3 else 'no'},{groups[i % 2]}\n" for i in range(200)]
    text.write_bytes("".join(["x,passed,sex\n", *rows]).encode("cp1252"))
    spelled = [text, "--label", "passed", "--group", "sex", "--out", folder / "t.csv"]
    assert "--encoding" in run("steer", *spelled).output
    found = run("steer", *spelled, "--encoding", "cp1252", "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["groups"] == list(groups)
    refused = run("steer", *given)
    assert refused.exit_code == 2
    assert "exists already" in refused.output
    refused = run(
        "steer", *source, "--label", "past", "--group", "sex", "--out", "x.csv"
    )
    assert refused.exit_code == 3
    assert "past" in refused.output


def odd_rows(n=300, seed=0):
    """Lines whose fields would be written otherwise by any writer of CSV."""
    rng = np.random.default_rng(seed)
    return [
        f"{i:05d},{rng.normal():.4f}0,{'yes' if i % 3 else 'no'},{'fm'[i % 2]},"
        f"{['NA', '1e3', chr(34) + 'a, b' + chr(34), ''][i % 4]}"
        for i in range(n)
    ]


HEADER = '"person",x,y,g,"a ""note"""'


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_rows_of_text_are_copied_as_they_stand(end, mark, tmp_path):
    parts = [odd_rows(seed=0), odd_rows(150, seed=1)]
    for place, lines in enumerate(parts):
        text = end.join([HEADER, *lines, ""])
        (tmp_path / f"{place}.csv").write_bytes(mark + text.encode())
    sources = [tmp_path / "0.csv", tmp_path / "1.csv"]
    maps, out, again = (tmp_path / n for n in ("m.safetensors", "out.csv", "again.csv"))
    drop = ["person", 'a "note"']
    how = {"maps_file": maps, "batch_rows": BATCH, "drop": drop}
    steer_file(sources, label="y", group="g", out=out, **how)
    apply_file(maps, sources, out=again, batch_rows=BATCH)
    for path, new in ((out, 2), (again, 1)):
        header, *written = path.read_bytes().removeprefix(mark).decode().splitlines()
        assert header.startswith(HEADER + ",steered_x")
        old = [line.rsplit(",", new) for line in written]
        assert [fields[0] for fields in old] == parts[0] + parts[1]
        assert all(np.isfinite(float(fields[1])) for fields in old)


def test_files_in_other_orders_are_written_by_name(tmp_path):
    lines = [line.split(",")[:4] for line in odd_rows()]
    names = ["person", "x", "y", "g"]
    for place, order in enumerate(([0, 1, 2, 3], [3, 1, 0, 2])):
        rows = [",".join(fields[i] for i in order) for fields in (names, *lines)]
        (tmp_path / f"{place}.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "out.csv"
    sources = [tmp_path / "0.csv", tmp_path / "1.csv"]
    steer_file(
        sources, label="y", group="g", out=out, drop=["person"], batch_rows=BATCH
    )
    written = [line.split(",") for line in out.read_text().splitlines()[1:]]
    assert written[: len(lines)] == written[len(lines) :]
    assert [row[0].strip('"') for row in written] == 2 * [row[0] for row in lines]


ODD_FILES = {
    "a field goes on in the next line": lambda t: t.replace(",NA", ',"a\nb"', 1),
    "the last field does": lambda t: t[:-1] + '"\n"\n',
    "a blank first line": lambda t: "\n" + t,
    "ends of an old machine": lambda t: t.replace("\n", "\r"),
    "a lone quotation mark": lambda t: t.replace(",1e3", ',5" pipe', 1),
    "a byte that parts nothing": lambda t: t.replace(",1e3", ",\x01", 1),
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_rows_and_values_belong_together_in_odd_files(name, tmp_path):
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    text = ODD_FILES[name]("\n".join(["person,x,y,g,note", *odd_rows(60), ""]))
    source.write_bytes(text.encode())
    how = {"label": "y", "group": "g", "drop": ["person", "note"], "batch_rows": BATCH}
    steer_file(source, out=tmp_path / "out.parquet", **how)
    steer_file(source, out=out, **how)
    wanted = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    with open(out, newline="") as file:
        written = list(csv.DictReader(file))
    assert len(written) == len(wanted) == 60
    for row, expected in zip(written, wanted, strict=True):
        assert row["person"] == expected["person"]
        np.testing.assert_allclose(
            float(row["steered_x"]), expected["steered_x"], rtol=1e-6
        )


def test_no_rows_make_a_file_that_says_so(folder, tmp_path):
    source, empty = tmp_path / "in.csv", tmp_path / "empty.csv"
    source.write_text("\n".join(["person,x,y,g,note", *odd_rows(), ""]))
    empty.write_text("person,x,y,g,note\n")
    maps = tmp_path / "maps.safetensors"
    how = {"label": "y", "group": "g", "drop": ["person", "note"], "batch_rows": BATCH}
    steer_file(source, out=tmp_path / "all.csv", maps_file=maps, **how)
    for ending in ("parquet", "csv", "tsv"):
        out = tmp_path / f"none.{ending}"
        assert apply_file(maps, empty, out=out, batch_rows=BATCH).rows == 0
    assert "steered_x" in parquet.read_table(tmp_path / "none.parquet").column_names
    for ending in ("csv", "tsv"):
        assert "steered_x" in (tmp_path / f"none.{ending}").read_text()

    before = source.read_bytes(), maps.read_bytes()
    refused = [
        ({"out": tmp_path / "o.csv", "maps_file": source}, "is a file that is read"),
        (
            {"out": tmp_path / "o.csv", "maps_file": tmp_path / "o.csv"},
            "file of the rows",
        ),
        ({"out": tmp_path / "o.csv", "maps_file": tmp_path / "no" / "m"}, "no folder"),
    ]
    for options, message in refused:
        with pytest.raises(ValueError, match=message):
            steer_file(source, **how, **options)
    copy = tmp_path / "maps.csv"
    copy.write_bytes(maps.read_bytes())
    with pytest.raises(ValueError, match="is a file that is read"):
        apply_file(copy, source, out=copy)
    assert (source.read_bytes(), maps.read_bytes()) == before
    assert not (tmp_path / "o.csv").exists()
