"""What people hand over that cannot be used: one line, a remedy, and no file touched."""
# ruff: noqa: E501

from __future__ import annotations

import gzip
import io
import threading
import warnings

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("typer", reason="typer is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("skops", reason="skops is not installed")
from typer.testing import CliRunner

from jaxsteer.cli import _files
from jaxsteer.cli._app import app

RNG = np.random.default_rng(0)
N = 80
GOOD = pd.DataFrame(
    {
        "id": np.arange(N),
        "x": RNG.normal(size=N).round(3),
        "job": np.array(["cook", "clerk"])[np.arange(N) // 2 % 2],
        "sex": np.array(["F", "M"])[np.arange(N) % 2],
        "y": np.array(["no", "no", "yes", "yes"])[np.arange(N) % 4],
        "s": RNG.random(N).round(3),
    }
)
TEXT = GOOD.to_csv(index=False)
LINES = TEXT.splitlines(keepends=True)


def changed(**columns) -> bytes:
    return GOOD.assign(**columns).to_csv(index=False).encode()


def parquet(frame: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.to_parquet(out, index=False)
    return out.getvalue()


STEER = ["--label", "y", "--group", "sex", "--out", "OUT.csv", "--no-check"]
WEIGHTS = [*STEER, "--sample-weights"]
SCORE = [*STEER, "--score", "--learner", "logistic"]
AUDIT = ["--label", "y", "--group", "sex", "--score", "s", "--out", "OUT.html"]

# Name of the case: command, name and bytes of the file, options, exit code, the remedy.
CASES = {
    # Files that are none, or not what their ending says.
    "no file": ("steer", "none.csv", None, STEER, 3, "does not exist"),
    "a folder": ("steer", "", None, STEER, 3, "must end in|is a folder"),
    "empty": ("steer", "a.csv", b"", STEER, 3, "is empty"),
    "blank lines": ("steer", "a.csv", b"\n\n", STEER, 3, "is empty|no rows"),
    "two outputs in one stream": (
        "steer",
        "a.csv",
        TEXT.encode(),
        ["--label", "y", "--group", "sex", "--out", "-", "--report", "-", "--maps", "M"],
        2,
        "named for two outputs",
    ),
    "header alone": ("steer", "a.csv", LINES[0].encode(), STEER, 3, "no rows below"),
    "excel": ("steer", "a.xlsx", b"PK\x03\x04", STEER, 3, "must end in"),
    "excel named csv": ("steer", "a.csv", b"PK\x03\x04\x14\x00\x06\x00\xff\xfe", STEER, 3, "not UTF-8|cannot be read|no rows"),
    "json": ("steer", "a.json", b"[]", STEER, 3, "must end in"),
    "no ending": ("steer", "rows", TEXT.encode(), STEER, 3, "must end in"),
    "parquet cut short": ("steer", "a.parquet", parquet(GOOD)[:-40], STEER, 3, "cannot be read"),
    "csv named parquet": ("steer", "a.parquet", TEXT.encode(), STEER, 3, "cannot be read"),
    "parquet named csv": ("steer", "a.csv", parquet(GOOD), STEER, 3, "not UTF-8|cannot be read"),
    "csv named gz": ("steer", "a.csv.gz", TEXT.encode(), STEER, 3, "cannot be read"),
    "gz cut short": ("steer", "a.csv.gz", gzip.compress(TEXT.encode())[:-30], STEER, 3, "cannot be read"),
    "zeros": ("steer", "a.csv", b"\0" * 200, STEER, 3, "no column|no rows|cannot be read|is empty"),
    "html": ("steer", "a.csv", b"<!doctype html>\n<html><body>404</body></html>\n", STEER, 3, "there is no column 'y'"),
    # Lines that do not fit their header.
    "a line too long": ("steer", "a.csv", (TEXT + "1,2,cook,F,yes,.5,7,8\n").encode(), STEER, 3, "cannot be read"),
    "an open quote": ("steer", "a.csv", (TEXT + '1,"2,cook,F,yes,.5\n').encode(), STEER, 3, "cannot be read|missing"),
    "latin-1 bytes": ("steer", "a.csv", b"x,sex,y\n1,F,\xe9\n", STEER, 3, "name its encoding"),
    "wrong encoding named": ("steer", "a.csv", TEXT.encode(), [*STEER, "--encoding", "utf-16"], 3, "name its encoding"),
    "unknown encoding": ("steer", "a.csv", TEXT.encode(), [*STEER, "--encoding", "klingon"], 3, "try utf-8"),
    "wrong separator": ("steer", "a.csv", TEXT.encode(), [*STEER, "--separator", ";"], 3, "no column 'y'"),
    "unknown decimal": ("steer", "a.csv", TEXT.encode(), [*STEER, "--decimal", "x"], 3, "choose one of"),
    "names repeated": ("steer", "a.csv", TEXT.replace("id,x", "x,x").encode(), STEER, 3, "rename or drop"),
    # Columns.
    "no such label": ("steer", "a.csv", TEXT.encode(), [*STEER, "--label", "yy"], 3, "did you mean 'y'|columns are"),
    "no such group": ("steer", "a.csv", TEXT.encode(), [*STEER, "--group", "Sex"], 3, "did you mean 'sex'"),
    "one of two groups": ("steer", "a.csv", TEXT.encode(), [*STEER, "--group", "sex,race"], 3, "no column 'race'"),
    "no such drop": ("steer", "a.csv", TEXT.encode(), [*STEER, "--drop", "z"], 3, "no column 'z'"),
    "no such id": ("steer", "a.csv", TEXT.encode(), [*STEER, "--id", "idd"], 3, "did you mean 'id'"),
    "no such weights": ("steer", "a.csv", TEXT.encode(), [*STEER, "--weights", "w"], 3, "no column 'w'"),
    "label is group": ("steer", "a.csv", TEXT.encode(), [*STEER, "--group", "y"], 3, "same column"),
    "nothing left": ("steer", "a.csv", GOOD[["sex", "y"]].to_csv(index=False).encode(), STEER, 3, "No feature column"),
    "all constant": ("steer", "a.csv", changed(x=1, job="a", s=2, id=3), STEER, 3, "every one is constant"),
    "a name taken": ("steer", "a.csv", changed(sample_weight=1), WEIGHTS, 3, "rename or drop"),
    "an empty id": ("steer", "a.csv", changed(id=""), [*STEER, "--id", "id"], 3, "fill them in"),
    # Labels and groups.
    "label missing": ("steer", "a.csv", changed(y=["", "yes"] * 40), STEER, 3, "fill them in or drop"),
    "one label": ("steer", "a.csv", changed(y="yes"), STEER, 3, "at least two classes"),
    "a number as label": ("steer", "a.csv", changed(y=RNG.normal(size=N)), STEER, 3, "at least two|too many|no rows|fewer"),
    "one group": ("steer", "a.csv", changed(sex="F"), STEER, 3, "at least two groups"),
    "no group at all": ("steer", "a.csv", changed(sex=""), STEER, 3, "missing values"),
    "groups of one": ("steer", "a.csv", changed(sex=np.arange(N).astype(str)), STEER, 3, "no rows in the cells"),
    "an empty cell": ("steer", "a.csv", changed(y=np.where(GOOD["sex"] == "F", "no", GOOD["y"])), STEER, 3, "no rows in the cells"),
    "unknown positive": ("steer", "a.csv", TEXT.encode(), [*STEER, "--positive", "yess"], 3, "did you mean 'yes'"),
    "unknown reference": ("steer", "a.csv", TEXT.encode(), [*STEER, "--reference", "X"], 2, "the groups are F, M"),
    # Values.
    "infinite": ("steer", "a.csv", changed(x=np.inf), STEER, 3, "replace them"),
    "negative weights": ("steer", "a.csv", changed(x=-1), [*STEER, "--weights", "x"], 3, "at least 0"),
    "weights of text": ("steer", "a.csv", TEXT.encode(), [*STEER, "--weights", "job"], 3, "must hold numbers"),
    "too few for folds": ("steer", "a.csv", "".join(LINES[:5]).encode(), SCORE, 3, "more rows|fewer than|merge"),
    # The command line.
    "unknown method": ("steer", "a.csv", TEXT.encode(), [*STEER, "--method", "magic"], 2, "choose one of"),
    "unknown learner": ("steer", "a.csv", TEXT.encode(), [*STEER, "--learner", "magic"], 2, "choose one of"),
    "unknown ending": ("steer", "a.csv", TEXT.encode(), [*STEER, "--out", "o.xlsx"], 2, "ending must be"),
    "two for one": ("steer", "a.csv", TEXT.encode(), [*STEER, "--report", "OUT.csv"], 2, "two outputs"),
    "over the input": ("steer", "a.csv", TEXT.encode(), [*STEER, "--out", "a.csv"], 2, "never overwritten"),
    "a score of three": ("steer", "a.csv", changed(y=list("abcd") * 20), SCORE, 2, "--positive"),
    "features of none": ("steer", "a.csv", TEXT.encode(), [*STEER, "--method", "reweigh", "--features"], 2, "another --method"),
    "json and rows": ("steer", "a.csv", TEXT.encode(), [*STEER, "--out", "-", "--json"], 2, "name a file"),
    # New rows.
    "no maps": ("apply nothing", "a.csv", TEXT.encode(), ["--out", "OUT.csv"], 3, "folder ending in .maps"),
    "a column gone": ("apply", "a.csv", GOOD.drop(columns="x").to_csv(index=False).encode(), ["--out", "OUT.csv"], 3, "no column 'x'"),
    "the group gone": ("apply", "a.csv", GOOD.drop(columns="sex").to_csv(index=False).encode(), ["--out", "OUT.csv"], 3, "no column 'sex'"),
    "text for numbers": ("apply", "a.csv", changed(x="many"), ["--out", "OUT.csv"], 3, "must hold numbers"),
    "other groups": ("apply", "a.csv", changed(sex="Q"), ["--out", "OUT.csv"], 3, "known are 'F', 'M'"),
    "strict": ("apply", "a.csv", changed(sex=["Q"] + ["F"] * 79), ["--out", "OUT.csv", "--strict"], 3, "leave those rows out"),
    "apply over the input": ("apply", "a.csv", TEXT.encode(), ["--out", "a.csv", "--force"], 2, "never overwritten"),
    # Audits.
    "nothing to audit": ("audit", "a.csv", TEXT.encode(), AUDIT[:4], 2, "Give --prediction"),
    "audit as text": ("audit", "a.csv", TEXT.encode(), [*AUDIT, "--out", "o.txt"], 2, "must be .json or .html"),
    "a score of text": ("audit", "a.csv", TEXT.encode(), [*AUDIT, "--score", "job"], 3, "must hold numbers"),
    "a score without end": ("audit", "a.csv", changed(s=np.inf), AUDIT, 3, "replace them"),
    "predictions of others": ("audit", "a.csv", TEXT.encode(), [*AUDIT, "--prediction", "job"], 3, "For scores use --score"),
    "a gate of none": ("audit", "a.csv", TEXT.encode(), [*AUDIT, "--fail-if", "luck > 1"], 2, "the metrics are"),
    "an unknown profile": ("audit", "a.csv", TEXT.encode(), [*AUDIT, "--profile", "iso"], 2, "choose one of"),
    "no resample": ("audit", "a.csv", TEXT.encode(), [*AUDIT, "--n-boot", "0"], 2, "at least one"),
    "bins of text": ("audit", "a.csv", TEXT.encode(), [*AUDIT, "--group", "job", "--bin", "job=3"], 3, "must hold numbers"),
    "groups of numbers": ("audit", "a.csv", pd.concat([GOOD] * 4).assign(id=np.arange(4 * N)).to_csv(index=False).encode(), [*AUDIT, "--group", "id"], 3, "--bin id=4"),
    "nobody known": ("audit", "a.csv", changed(sex=""), AUDIT, 3, "nothing to count"),
    "one group to audit": ("audit", "a.csv", changed(sex="F"), AUDIT, 3, "at least two groups"),
}  # fmt: skip


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    GOOD.to_csv(folder / "rows.csv", index=False)
    options = ["steer", folder / "rows.csv", "--label", "y", "--group", "sex"]
    options += ["--drop", "id", "--features", "--no-check", "--out", folder / "out.csv"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = CliRunner().invoke(app, [str(o) for o in options])
    assert result.exit_code == 0, (result.output, result.exception)
    return folder / "out.maps"


def test_there_are_sixty_of_them():
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", CASES)
def test_it_is_one_line_with_a_remedy(name, maps, tmp_path, monkeypatch):
    command, file, content, options, code, remedy = CASES[name]
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / file).write_bytes(content)
    arguments = [command.split()[0]]
    if command.startswith("apply"):
        arguments.append("nothing" if command.endswith("nothing") else str(maps))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / file), *options])
    assert result.exit_code == code, (result.output, result.exception)
    errors = [o for o in result.output.splitlines() if o.startswith("error:")]
    assert len(errors) == 1 and "Traceback" not in result.output
    assert any(words in errors[0] for words in remedy.split("|")), errors[0]
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert after == before


def test_nothing_resets_warnings_beside_the_reader(maps, monkeypatch):
    """Loading skops does so, and rows that do not fit are known by a warning."""
    seen = []

    def load():
        seen.append(threading.current_thread() is threading.main_thread())

    monkeypatch.setattr(_files, "load_skops", load)
    _files.load_fitted(maps)[1].result()
    assert seen == [True]
