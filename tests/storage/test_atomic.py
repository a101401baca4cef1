"""The one writer: the old or the new whole file, whatever happens in between."""

from __future__ import annotations

import errno
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import jaxsteer
from jaxsteer.storage import atomic_file, load, save, write_bytes, write_text

ROOT = pathlib.Path(jaxsteer.__file__).parent


def parts(folder: pathlib.Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".partial")]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), OSError(errno.ENOSPC, "full")]
)
def test_whatever_is_raised_the_old_file_stays(tmp_path, error):
    path = tmp_path / "a"
    for old in (None, b"old"):
        with pytest.raises(type(error)), atomic_file(path) as file:
            file.write(b"new" * 100_000)
            raise error
        assert (path.read_bytes() if path.exists() else None) == old
        assert parts(tmp_path) == []
        path.write_bytes(b"old")


def test_eight_threads_save_one_path_and_readers_see_whole_files(tmp_path):
    path, errors, stop = tmp_path / "a.safetensors", [], threading.Event()
    save(path, {"a": np.zeros(5000)})

    def saver(number: int) -> None:
        try:
            for _ in range(15):
                save(path, {"a": np.full(5000, float(number))})
        except Exception as error:
            errors.append(error)

    def reader() -> None:
        try:
            while not stop.is_set():
                assert len(set(load(path)["a"].tolist())) == 1
        except Exception as error:
            errors.append(error)

    savers = [threading.Thread(target=saver, args=(i,)) for i in range(8)]
    watcher = threading.Thread(target=reader)
    watcher.start()
    for thread in savers:
        thread.start()
    for thread in savers:
        thread.join()
    stop.set()
    watcher.join()
    assert errors == []
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals and locks")
def test_a_killed_writer_leaves_the_old_file_and_the_next_write_cleans_up(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    # Loaded from its file: the import of the whole package would take seconds.
    code = (
        "import importlib.util, sys, time\n"
        f"spec = importlib.util.spec_from_file_location('w', {str(ROOT)!r}"
        " + '/storage/_atomic.py')\n"
        "w = importlib.util.module_from_spec(spec); spec.loader.exec_module(w)\n"
        "with w.atomic_file(sys.argv[1]) as file:\n"
        "    file.write(b'new'); file.flush(); print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    # A writer that lives keeps its part: it is locked.
    write_bytes(path, b"mine")
    assert len(parts(tmp_path)) == 1
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert path.read_bytes() == b"mine" and len(parts(tmp_path)) == 1
    write_bytes(path, b"next")
    assert path.read_bytes() == b"next" and parts(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="permissions are others on Windows")
def test_permissions_are_those_of_any_file_or_of_the_old_one(tmp_path):
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_bytes(b"")
    save(ours, 1)
    assert ours.stat().st_mode == plain.stat().st_mode
    ours.chmod(0o640)
    save(ours, 2)
    assert ours.stat().st_mode & 0o777 == 0o640


def test_links_are_followed_and_long_names_fit(tmp_path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / ("n" * 240), tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_text(link, "neu ü")
    assert link.is_symlink() and target.read_text(encoding="utf-8") == "neu ü"
    assert parts(tmp_path / "real") == []


def test_folders_are_refused(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder; name a file"):
        write_bytes(tmp_path, b"")
    with pytest.raises(FileNotFoundError, match=r"The folder .*no of .* does not"):
        write_bytes(tmp_path / "no" / "a", b"")


def test_a_writer_may_close_the_file(tmp_path):
    with atomic_file(tmp_path / "a") as file:
        file.write(b"all of it")
        file.close()
    assert (tmp_path / "a").read_bytes() == b"all of it"


# Hashes that are stored nowhere: draws by row, and the format of another program.
OTHER_HASHES = {
    "audit_report/_document.py",
    "_row_draws.py",
    "export/_easysteer.py",
}


def test_the_package_has_one_writer_and_one_hash():
    ways = {
        "_atomic.py": r"os\.replace|\.replace\(target|NamedTemporaryFile|mkstemp",
        "_hash.py": r"hashlib",
    }
    for name, pattern in ways.items():
        found = {
            path.relative_to(ROOT).as_posix()
            for path in ROOT.rglob("*.py")
            if re.search(pattern, path.read_text(encoding="utf-8"))
        }
        assert found - OTHER_HASHES == {f"storage/{name}"}


def test_a_write_is_not_slow(tmp_path):
    start = time.process_time()
    for i in range(50):
        write_bytes(tmp_path / f"{i % 5}", b"x")
    assert time.process_time() - start < 1
