"""Real processes on this machine: two and four, one killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxsteer.examples.multi_process import MOST_RESTARTS, plan, supervise
from jaxsteer.ideal import nearest_ideal
from jaxsteer.moments import finish
from jaxsteer.storage import load
from jaxsteer.streaming import run_pass
from tests.programs import ROOT
from tests.streaming.rows import numbers, write


class Arguments:
    """What the command line gives."""

    label, group, batch_rows, piece_rows = "y", "g", 64, 64

    def __init__(self, data, folder, processes):
        self.data, self.folder, self.processes = str(data), folder, processes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for part in range(3):
        write(numbers(6_000, seed=part), folder / f"part-{part}.parquet")
    return folder


@pytest.fixture(scope="module")
def alone(data):
    return run_pass(plan(Arguments(data, None, 1)))


def started(data, folder, processes, piece_rows=64):
    command = [sys.executable, "-m", "jaxsteer.examples.multi_process", str(data)]
    command += ["--label", "y", "--group", "g", "--processes", str(processes)]
    command += ["--folder", str(folder), "--batch-rows", "64"]
    command += ["--piece-rows", str(piece_rows)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, start_new_session=True
    )


def ended(run, timeout):
    try:
        out, _ = run.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        raise
    assert run.returncode == 0, out
    return out


def check_result(folder, alone):
    found = load(folder / "result.safetensors")
    moments = finish(alone.moments)
    maps = nearest_ideal(moments, maps="shared_covariance").group_maps
    pairs = [
        (getattr(found["moments"], name), getattr(alone.moments, name))
        for name in ("mass", "squares", "mean", "cov", "level")
    ]
    pairs.append((found["maps"].weight, maps.weight))
    # A bias is the small difference of large numbers; where rows go is what counts.
    x = np.asarray(moments.conditionals.mean)[0]
    own, expected = (
        np.einsum("gde,ge->gd", m.weight, x) for m in (found["maps"], maps)
    )
    pairs.append((own + found["maps"].bias, expected + maps.bias))
    for own, expected in pairs:
        error = np.linalg.norm(own - expected) / np.linalg.norm(expected)
        assert error <= 1e-6, error


@pytest.mark.slow
def test_four_processes_are_one(data, alone, tmp_path):
    out = ended(started(data, tmp_path, 4, 1024), timeout=200)
    assert "18,000 rows in 4 processes" in out
    assert "died" not in out
    check_result(tmp_path, alone)


@pytest.mark.slow
def test_one_of_two_is_killed_and_all_go_on(data, alone, tmp_path):
    run = started(data, tmp_path, 2)
    checkpoint = tmp_path / "process-1-of-2.safetensors"
    stop = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < stop:
        time.sleep(0.01)
    os.kill(int((tmp_path / "pids").read_text().split()[1]), signal.SIGKILL)
    halfway = sum(part[0] for part in load(checkpoint).metadata["parts"])
    out = ended(run, timeout=200)
    assert 0 < halfway < 9_000
    assert "a process died; start 2" in out
    # No row twice, none lost.
    assert "18,000 rows in 2 processes" in out
    check_result(tmp_path, alone)


def test_given_up_when_they_always_die(tmp_path, capsys):
    with pytest.raises(SystemExit, match="given up after 5 restarts"):
        supervise(Arguments(tmp_path, tmp_path, 2), [sys.executable, "-c", "exit(3)"])
    assert capsys.readouterr().out.count("a process died") == MOST_RESTARTS + 1
