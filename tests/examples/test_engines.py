"""Dask and Ray give the bits of one process, for any number of workers."""

from __future__ import annotations

import pytest

from jaxsteer.streaming import run_pass
from tests.streaming.rows import bits, numbers, write
from tests.streaming.test_pass import close, job_of


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for part in range(2):
        write(numbers(400, seed=part), folder / f"part-{part}.parquet")
    return job_of(folder)


def runner(engine):
    if engine == "dask":
        pytest.importorskip("dask.distributed", reason="Dask is not installed")
        from jaxsteer.examples.dask_moments import dask_moments as run
    else:
        pytest.importorskip("ray", reason="Ray is not installed")
        from jaxsteer.examples.ray_moments import ray_moments as run
    return run


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_the_same_bits_for_any_number_of_workers(engine, job):
    run = runner(engine)
    alone = run_pass(job)
    for workers in (1, 2):
        assert bits(run(job, workers)) == bits(alone), workers
    quick = run(job, 2, deterministic=False)
    close(quick.moments, alone.moments)
    assert quick.rows == alone.rows


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_without_the_engine_it_says_what_to_install(engine, job, monkeypatch):
    import importlib
    import sys

    monkeypatch.setitem(sys.modules, engine, None)
    monkeypatch.setitem(sys.modules, f"{engine}.distributed", None)
    module = importlib.import_module(f"jaxsteer.examples.{engine}_moments")
    with pytest.raises(ImportError, match=r"needs (Dask|Ray): pip install"):
        getattr(module, f"{engine}_moments")(job, 1)
