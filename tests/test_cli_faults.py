"""The command line under faults: interrupted, full, closed; files stay whole."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("typer", reason="typer is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("skops", reason="skops is not installed")
import typer
from typer.testing import CliRunner

from jaxsteer.cli import (
    _app,
    _audit,
    _console,
    _errors,
    _fit,
    _memory,
    _rows,
    _signals,
    _steer,
    _writing,
)
from jaxsteer.compare import LEARNERS
from tests.programs import run_fresh

OPTIONS = ["--label", "paid", "--group", "sex", "--method", "reweigh", "--no-check"]


def run(*args: object, code: int = 0):
    result = CliRunner().invoke(_app.app, [str(a) for a in args])
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result


def content(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> pathlib.Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("in") / "rows.csv"
    frame = pd.DataFrame(
        {
            "zip": [f"{i % 97:05d}" for i in range(400)],
            "region": np.array(["NA", "EU", "None"])[np.arange(400) % 3],
            "kids": [str(i % 5) if i % 7 else "" for i in range(400)],
            "member": np.array(["TRUE", "FALSE"])[np.arange(400) % 2],
            "income": rng.normal(size=400).round(3).astype(str),
            "sex": rng.choice(["F", "M"], 400),
            "paid": rng.choice(["no", "yes"], 400),
        }
    )
    frame.to_csv(path, index=False)
    return path


def test_help_and_typos_load_nothing_heavy():
    code = (
        "import sys, time\n"
        "from typer.testing import CliRunner\n"
        "from jaxsteer.cli._app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "found = CliRunner().invoke(app, ['steeer'])\n"
        "assert found.exit_code == 2 and 'steer' in found.output\n"
        "heavy = {'jax', 'numpy', 'pandas', 'sklearn', 'flax', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert time.process_time() < 1.5, time.process_time()\n"
    )
    done = run_fresh(code)
    assert done.returncode == 0, done.stderr


def test_the_methods_named_are_those_that_exist():
    assert tuple(_fit.FEATURE_FITS) == _app.METHODS
    assert set(LEARNERS) == set(_app.LEARNERS)


COMPLETE = """
import sys
sys.argv = ["jaxsteer"]
from jaxsteer.cli import main
try:
    main()
finally:
    heavy = {"jax", "numpy", "pandas", "sklearn"} & set(sys.modules)
    assert not heavy, heavy
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("jaxsteer a", {"apply", "audit"}),
        ("jaxsteer steer rows.csv --method me", {"mean_match"}),
        ("jaxsteer steer rows.csv --learner b", {"boosted"}),
        ("jaxsteer audit rows.csv --profile f", {"four-fifths"}),
        ("jaxsteer apply maps rows.csv --det", {"--deterministic"}),
    ],
)
def test_tab_completes_commands_options_and_choices(typed, offered):
    environment = os.environ | {
        "_JAXSTEER_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
    }
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    assert set(done.stdout.split()) == offered, (done.stdout, done.stderr)
    assert "AssertionError" not in done.stderr


def test_the_shell_script_of_completion_is_shown(monkeypatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    for shell in ("bash", "zsh", "fish"):
        code = "from jaxsteer.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, "--show-completion", shell],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0 and "_COMPLETE" in done.stdout, done.stderr


def test_rows_are_copied_as_they_are_written(source, tmp_path):
    out = tmp_path / "out.csv"
    result = run("steer", source, "--out", out, *OPTIONS)
    before = source.read_text().splitlines()
    after = out.read_text().splitlines()
    assert after[0] == before[0] + ",sample_weight"
    assert [line.rpartition(",")[0] for line in after[1:]] == before[1:]
    modes = {p.stat().st_mode & 0o777 for p in tmp_path.rglob("*") if p.is_file()}
    assert len(modes) == 1
    assert "'NA' (134)" in result.output and "'None' (133)" in result.output
    quiet = run("steer", source, "--out", out, *OPTIONS, "--missing", "", "--force")
    assert "'NA'" not in quiet.output


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "No space left on device: '",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "memory of this machine is too small"),
    ],
)
def test_a_write_that_fails_leaves_the_old_file_or_none(
    source, tmp_path, monkeypatch, old, error, code, message
):
    def cut(work, n):
        yield [b"half of it"]
        raise error

    out = tmp_path / "out.csv"
    if old is not None:
        out.write_bytes(old)
    monkeypatch.setattr(_writing, "parts_of", cut)
    result = run("steer", source, "--out", out, *OPTIONS, "--force", code=code)
    assert message in result.output and result.output.count("error:") == 1
    assert content(tmp_path) == ({} if old is None else {"out.csv": old})


def test_a_file_beyond_memory_is_pointed_to_streams(source, tmp_path, monkeypatch):
    monkeypatch.setattr(_memory, "_available", lambda: source.stat().st_size)
    result = run("steer", source, "--out", tmp_path / "out.csv", *OPTIONS, code=1)
    assert "GB of memory are needed" in result.output
    assert "'jaxsteer stream steer'" in result.output
    assert content(tmp_path) == {}
    # Where the system does not tell, nothing is refused.
    monkeypatch.setattr(_memory, "_available", lambda: None)
    _memory.check_memory(source)


def test_the_memory_that_is_free_is_read():
    found = _memory._available()
    assert found is None or 1 << 20 < found < 1 << 50
    assert (found is None) == (not os.path.exists("/proc/meminfo"))


def test_a_swallowed_interrupt_does_not_let_the_run_go_on(
    source, tmp_path, monkeypatch
):
    real = _steer.fit_columns

    def swallowing(*args, **kwargs):
        with contextlib.suppress(KeyboardInterrupt):
            _signals._raise(signal.SIGINT, None)
        return real(*args, **kwargs)

    monkeypatch.setattr(_steer, "fit_columns", swallowing)
    run("steer", source, "--out", tmp_path / "out.csv", *OPTIONS, code=130)
    assert content(tmp_path) == {}
    monkeypatch.setattr(_steer, "fit_columns", real)
    run("steer", source, "--out", tmp_path / "out.csv", *OPTIONS)


def test_the_input_is_never_an_output(source, tmp_path):
    copy, link = tmp_path / "rows.csv", tmp_path / "link.csv"
    copy.write_bytes(source.read_bytes())
    os.link(copy, link)
    for out in (copy, link, tmp_path / "no" / ".." / "rows.csv"):
        result = run("steer", copy, "--out", out, *OPTIONS, "--force", code=2)
        assert "is never overwritten" in result.output
    out = tmp_path / "out.csv"
    result = run("steer", copy, "--out", out, "--report", out, *OPTIONS, code=2)
    assert "named for two outputs" in result.output
    out.mkdir()
    assert "is a folder" in run("steer", copy, "--out", out, *OPTIONS, code=2).output
    assert copy.read_bytes() == source.read_bytes()


def test_an_output_that_exists_needs_force(source, tmp_path):
    out = tmp_path / "out.csv"
    run("steer", source, "--out", out, *OPTIONS)
    first = content(tmp_path)
    result = run("steer", source, "--out", out, *OPTIONS, code=2)
    assert "give --force" in result.output and content(tmp_path) == first
    out.unlink()
    # The maps of a run are an output too.
    assert (
        "exists already" in run("steer", source, "--out", out, *OPTIONS, code=2).output
    )
    run("steer", source, "--out", out, *OPTIONS, "--force")
    assert content(tmp_path)["out.csv"] == first["out.csv"]


def test_a_folder_of_two_runs_is_refused(source, tmp_path):
    score = ["--label", "paid", "--group", "sex", "--no-check", "--learner", "logistic"]
    for name in ("a", "b"):
        seed = ["--seed", "1" if name == "a" else "2"]
        run(
            "steer", source, "--out", tmp_path / f"{name}.csv", *score, *seed, "--score"
        )
    maps, out = tmp_path / "a.maps", tmp_path / "new.csv"
    other = (tmp_path / "b.maps" / "maps.safetensors").read_bytes()
    mine = (maps / "maps.safetensors").read_bytes()
    assert other != mine
    (maps / "maps.safetensors").write_bytes(other)
    result = run("apply", maps, source, "--out", out, code=3)
    assert "mixes two runs" in result.output and not out.exists()
    (maps / "maps.safetensors").write_bytes(mine)
    run("apply", maps, source, "--out", out)
    # The page belongs to them; it may be elsewhere, but no other may be in its place.
    page = tmp_path / "a.report.html"
    own = page.read_bytes()
    page.write_bytes((tmp_path / "b.report.html").read_bytes())
    result = run("apply", maps, source, "--out", out, "--force", code=3)
    assert "a.report.html is not the one" in result.output.replace("\n", " ")
    page.unlink()
    run("apply", maps, source, "--out", out, "--force")
    page.write_bytes(own)
    run("apply", maps, source, "--out", out, "--force")
    # Without its manifest, or with a damaged one, the folder is not whole.
    (maps / "manifest.json").write_text("{}")
    assert (
        "is damaged"
        in run("apply", maps, source, "--out", out, "--force", code=3).output
    )
    (maps / "manifest.json").unlink()
    result = run("apply", maps, source, "--out", out, "--force", code=3)
    assert "has no manifest.json" in result.output
    result = run("apply", maps, source, "--out", maps / "encoder.skops", code=2)
    assert "the ending must be" in result.output


def test_small_cells_are_hidden_on_the_page_when_asked(source, tmp_path):
    frame = pd.read_csv(source, dtype=str, keep_default_na=False)
    frame["sex"] = np.where(np.arange(400) < 107, "X", frame["sex"])
    frame["paid"] = np.where(
        frame["sex"] == "X", np.where(np.arange(400) < 7, "no", "yes"), frame["paid"]
    )
    small = tmp_path / "small.csv"
    frame.to_csv(small, index=False)
    pages = {}
    for name, extra in (("all", []), ("some", ["--suppress", "10"])):
        out = tmp_path / f"{name}.csv"
        run("steer", small, "--out", out, *OPTIONS, *extra)
        pages[name] = (tmp_path / f"{name}.report.html").read_text()
    assert "Only 7 rows" in pages["all"] and ">7 " in pages["all"]
    assert "Only 7 rows" not in pages["some"] and ">7 " not in pages["some"]
    assert "fewer than 10 rows are hidden" in pages["some"].replace("\n", " ")
    assert "data:image" not in pages["some"]
    result = run("steer", small, "--out", out, *OPTIONS, "--suppress", "-1", code=2)
    assert "--suppress -1" in result.output


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), _errors.PIPE, ""),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "standard output cannot"),
    ],
)
def test_standard_output_that_fails_is_named(monkeypatch, capsys, error, code, message):
    class Failing(io.StringIO):
        def write(self, text):
            raise error

    @_errors.friendly
    def command():
        _console.say("a table")

    monkeypatch.setattr(sys, "stdout", Failing())
    with pytest.raises(typer.Exit) as exit_:
        command()
    assert exit_.value.exit_code == code
    said = capsys.readouterr().err
    assert message in said and bool(said) == bool(message)


def test_an_audit_is_written_whole(source, tmp_path, monkeypatch):
    rows = pd.read_csv(source, keep_default_na=False)
    rows["said"] = np.where(np.arange(400) % 3, "yes", "no")
    rows.to_csv(tmp_path / "rows.csv", index=False)
    out = tmp_path / "audit.json"
    arguments = ["audit", tmp_path / "rows.csv", "--label", "paid", "--group", "sex"]
    arguments += ["--prediction", "said", "--n-boot", "20", "--out", out]

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_audit, "_json", interrupted)
    run(*arguments, code=130)
    assert set(content(tmp_path)) == {"rows.csv"}


def test_code_faults_are_not_hidden():
    @_errors.friendly
    def command():
        raise AssertionError("a fault of the program")

    with pytest.raises(AssertionError):
        command()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_while_packages_load_gives_no_traceback(source, number, code):
    command = [
        "audit",
        source,
        "--label",
        "paid",
        "--group",
        "sex",
        "--score",
        "income",
    ]
    child = subprocess.Popen(
        [sys.executable, "-m", "jaxsteer.cli", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Once its handlers stand, the child maps the libraries that it imports.
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if "numpy" in pathlib.Path(f"/proc/{child.pid}/maps").read_text():
            break
        time.sleep(0.01)
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == code, said
    assert "Traceback" not in said


def test_reading_options_reach_the_reader(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("näme|x\nNA|1\n?|2\n".encode("latin-1"))
    read = _rows.Reading(encoding="latin-1", separator="|", missing=["?"]).read(path)
    assert list(read.frame) == ["näme", "x"]
    assert read.frame["näme"].isna().tolist() == [False, True]
    assert read.written["näme"].tolist() == ["NA", "?"]


def test_messages_speak_in_names_and_notes_come_out_on_failure(tmp_path):
    rows = pd.DataFrame(
        {
            "id": range(90),
            "income": np.random.default_rng(0).normal(size=90),
            "sex": ["F"] * 40 + ["M"] * 40 + ["X"] * 10,
            "paid": ["no", "yes"] * 40 + ["no"] * 10,
        }
    )
    rows.to_csv(tmp_path / "rows.csv", index=False)
    options = ["--label", "paid", "--group", "sex", "--out", tmp_path / "out.csv"]
    result = run("steer", tmp_path / "rows.csv", *options, "--no-check", code=3)
    assert "error: no rows in the cells (yes in X)" in result.output
    assert "note: 1 classes have no row in a group: yes in X" in result.output
    assert "'id': whole numbers without a gap" in result.output


def test_an_interrupt_inside_a_callback_is_told_without_a_traceback():
    """What a garbage collector's callback raises, Python prints and forgets."""
    code = (
        "import gc, os, signal\n"
        "from jaxsteer.cli import _errors, _signals\n"
        "_signals.install()\n"
        "@_errors.friendly\n"
        "def command():\n"
        "    gc.callbacks.append(lambda *args: os.kill(os.getpid(), signal.SIGINT))\n"
        "    gc.collect()\n"
        "    gc.callbacks.clear()\n"
        "import typer\n"
        "try:\n"
        "    command()\n"
        "except typer.Exit as error:\n"
        "    print('code', error.exit_code)\n"
    )
    done = run_fresh(code)
    assert done.stdout == "code 130\n", done.stderr
    assert "Traceback" not in done.stderr and "interrupted" in done.stderr


def test_a_file_where_a_folder_must_be_is_told_before_the_work(source, tmp_path):
    place = tmp_path / "taken.csv"
    place.write_text("mine")
    out = tmp_path / "out.csv"
    for options in (["--maps", place], ["--report", place / "page.html"]):
        found = run("steer", source, *OPTIONS, "--out", out, *options, code=2)
        assert "taken.csv is a file, no folder" in " ".join(found.output.split())
    assert content(tmp_path) == {"taken.csv": b"mine"}


def test_a_column_of_ids_that_is_not_there_is_named_by_its_option(source, tmp_path):
    asked = ["--out", tmp_path / "out.csv", "--id", "zipp"]
    found = run("steer", source, *OPTIONS, *asked, code=3)
    assert "--id: there is no column 'zipp'" in found.output
