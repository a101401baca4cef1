"""Programs on disk: which are found again, which are not, and what damage does."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import json
import os
import pickle
import subprocess
import sys
import time
import types
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental.compilation_cache import compilation_cache

import jaxsteer as js
from jaxsteer import _chunks, _package_state, _program_keys, _stored_programs
from jaxsteer._compilation import jit_for_few_calls
from jaxsteer._package_state import Unnamed
from jaxsteer._program_keys import named, program_name
from jaxsteer._pytrees import register_dataclass
from jaxsteer.solvers import MatrixNewton, Optax, limit_programs

TRACED: list[tuple[int, ...]] = []
# As a module of the package would hold it: what tests define is no part of it.
SOURCE = """
def scaled(x, shift=0.0, *, times):
    record(x.shape)
    return {"sum": x.sum() * times, "x": x * times + shift, "given": x}
"""
ORIGIN = "jaxsteer._scaled"
MATRIX = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


@pytest.fixture(autouse=True)
def _module(monkeypatch):
    module = types.ModuleType(ORIGIN)
    vars(module)["record"] = TRACED.append
    monkeypatch.setitem(sys.modules, ORIGIN, module)


def function():
    space = vars(sys.modules[ORIGIN])
    exec(SOURCE, space)
    return space["scaled"]


@contextlib.contextmanager
def setting(name, value):
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder for programs, and a package that nobody edits meanwhile."""
    monkeypatch.setenv(_stored_programs.SWITCH, "1")
    monkeypatch.setattr(js, "_IMPORTED", time.time_ns() + 10**15)
    TRACED.clear()
    with (
        setting("jax_compilation_cache_dir", str(tmp_path)),
        setting("jax_persistent_cache_min_compile_time_secs", 0.0),
    ):
        compilation_cache.reset_cache()  # JAX's own, too, is a new one
        yield tmp_path / "jaxsteer"
    compilation_cache.reset_cache()


def in_a_new_process(*args, quick=True, **kwargs):
    """The answer of a function that no program in memory is of, and its traces."""
    before = len(TRACED)
    call = jit_for_few_calls(function(), static_argnames=("times",), quick=quick)
    return call(*args, **kwargs), len(TRACED) - before


def files(folder):
    return sorted(folder.glob("*.program"))


@pytest.mark.parametrize("quick", [True, False])
def test_a_second_process_does_not_trace(kept, quick):
    first, traces = in_a_new_process(jnp.asarray(MATRIX), times=2, quick=quick)
    assert traces == 1 and len(files(kept)) == 1
    again, traces = in_a_new_process(jnp.asarray(MATRIX), times=2, quick=quick)
    assert traces == 0 and len(files(kept)) == 1
    assert jax.tree.structure(again) == jax.tree.structure(first)
    for mine, theirs in zip(*map(jax.tree.leaves, (again, first)), strict=True):
        assert mine.dtype == theirs.dtype and mine.weak_type == theirs.weak_type
        assert not mine.committed
        np.testing.assert_array_equal(mine, theirs)


def test_what_is_loaded_takes_what_programs_take(kept):
    in_a_new_process(MATRIX, 1, times=2)
    call = jit_for_few_calls(function(), static_argnames=("times",))
    for x, shift in ((MATRIX, 1), (MATRIX + 1, -3), (jnp.asarray(MATRIX), 5)):
        np.testing.assert_array_equal(call(x, shift, times=2)["x"], x * 2 + shift)
    assert len(TRACED) == 1 and call.programs() == 1
    # Others are programs of their own.
    assert call(MATRIX, 1.5, times=2)["x"][0, 0] == 3.5
    assert call(MATRIX, np.int32(1), times=2)["x"].dtype == jnp.float32
    assert call(MATRIX[0].astype(np.int32), 1, times=2)["x"].dtype == jnp.int32
    assert call(MATRIX, 1, times=0.5)["sum"] == 5
    assert len(TRACED) == call.programs() == len(files(kept)) == 5


def test_arrays_bound_to_a_device_are_not_stored(kept):
    bound = jax.device_put(MATRIX, jax.devices()[0])
    found, _ = in_a_new_process(bound, times=2)
    assert found["x"].committed and files(kept) == []


def test_dropped_programs_are_loaded_again(kept):
    call = jit_for_few_calls(function(), static_argnames=("times",))
    before = limit_programs(1)
    try:
        for n in (1, 2, 1, 2):
            assert call(np.ones(n, np.float32), times=2)["sum"] == 2 * n
        assert call.programs() == 1 and len(TRACED) == 2
    finally:
        limit_programs(before)


def name(fn=None, static=(), args=(MATRIX,), how=()):
    leaves, tree = jax.tree.flatten((args, {}))
    return program_name(fn or function(), dict(static), tree, leaves, *how)


@pytest.fixture
def as_loaded(monkeypatch):
    monkeypatch.setattr(js, "_IMPORTED", time.time_ns() + 10**15)


def test_names_are_equal_where_all_is(as_loaded):
    law = js.Normal(jnp.zeros((2, 2)), jnp.ones((2, 2)))
    static = {"options": MatrixNewton(max_steps=7), "priors": "reweigh"}
    assert name(static=static, args=(law,)) == name(
        static=dict(reversed(static.items())), args=(jax.tree.map(jnp.exp, law),)
    )


def test_everything_that_matters_is_in_the_name(as_loaded, monkeypatch):
    law = js.Normal(MATRIX, MATRIX)
    names = [
        name(),
        name(static={"times": 2}),
        name(static={"times": 2.0}),
        name(static={"times": "2"}),
        name(static={"times": True}),
        name(static={"solver": MatrixNewton()}),
        name(static={"solver": MatrixNewton(max_steps=7)}),
        name(static={"solver": MatrixNewton(tolerance=1e-3)}),
        name(args=(MATRIX[0],)),
        name(args=(MATRIX.astype(np.int32),)),
        name(args=(MATRIX.astype(">f4"),)),
        name(args=(jnp.float32(1),)),
        name(args=(jnp.asarray(1.0),)),
        name(args=(1.0,)),
        name(args=(1,)),
        name(args=(True,)),
        name(args=(None,)),
        name(args=([MATRIX],)),
        name(args=({"x": MATRIX},)),
        name(args=({"y": MATRIX},)),
        name(args=(law,)),
        name(args=(js.Laplace(MATRIX, MATRIX),)),
        name(how=({"xla_backend_optimization_level": 1},)),
        name(how=({"xla_backend_optimization_level": 0},)),
        name(fn=_chunks.map_in_chunks),
    ]
    with jax.default_matmul_precision("highest"):
        names.append(name())
    with jax.numpy_dtype_promotion("strict"):
        names.append(name())
    with setting("jax_enable_x64", not jax.config.read("jax_enable_x64")):
        names.append(name())
    with monkeypatch.context() as patch:  # a constant, a method, another function
        patch.setattr(sys.modules[ORIGIN], "MOST", 3, raising=False)
        names.append(name())
    with monkeypatch.context() as patch:
        patch.setattr(js.Normal, "kl", js.Laplace.kl)
        names.append(name(args=(law,)))
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[ORIGIN], "record", jnp.sum)
        names.append(name())
    for key, value in (("XLA_FLAGS", "--xla_cpu_max_isa=AVX"), ("NPROC", "1")):
        with monkeypatch.context() as patch:
            patch.setenv(key, value)
            _program_keys._surroundings.cache_clear()
            names.append(name())
    _program_keys._surroundings.cache_clear()
    assert name() == names[0]
    assert len(set(names)) == len(names)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Own:
    x: np.ndarray


def local_class():
    @dataclasses.dataclass(frozen=True)
    class MatrixNewton:
        max_steps: int = 3

    MatrixNewton.__module__ = "jaxsteer.solvers._matrix_newton"
    return MatrixNewton()


def with_more():
    solver = MatrixNewton()
    object.__setattr__(solver, "judge", print)
    return solver


class OwnText(enum.StrEnum):
    FIRST = "general"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(lambda x: x, id="function"),
        pytest.param(Optax(optimizer=optax.adam(0.1)), id="optimizer"),
        pytest.param(Own(1), id="class"),  # pyright: ignore[reportArgumentType]
        pytest.param(local_class(), id="class of a name that another one has"),
        pytest.param(with_more(), id="patched solver"),
        pytest.param(np.ones(2), id="array"),
        pytest.param(object(), id="object"),
        pytest.param({1}, id="set"),
        pytest.param(OwnText.FIRST, id="enumeration"),
    ],
)
def test_static_values_have_names_or_nothing_is_stored(value):
    with pytest.raises(Unnamed):
        named(value)
    with pytest.raises(Unnamed):
        named((1, [value]))


@pytest.mark.parametrize(
    "argument",
    [Own(MATRIX), jax.tree_util.Partial(jnp.sum), jax.random.key(0), "text"],
    ids=lambda argument: type(argument).__name__,
)
def test_arguments_have_names_or_nothing_is_stored(argument, as_loaded):
    with pytest.raises(Unnamed):
        name(args=(argument,))


def test_patched_packages_have_no_name(as_loaded, monkeypatch):
    for owner, key in ((sys.modules[ORIGIN], "record"), (js.Normal, "kl")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, key, lambda *args: args)
            with pytest.raises(Unnamed, match="put into the package"):
                name(args=(js.Normal(MATRIX, MATRIX),))
    with pytest.raises(Unnamed, match="put into the package"):
        name(fn=local_class)  # of the tests


def test_functions_of_a_package_that_was_imported_before_have_no_name(
    as_loaded, monkeypatch
):
    earlier = function()
    monkeypatch.setitem(sys.modules, ORIGIN, types.ModuleType(ORIGIN))
    with pytest.raises(Unnamed, match="earlier"):
        name(fn=earlier)


def test_a_package_that_is_edited_has_no_name(monkeypatch):
    monkeypatch.setattr(js, "_IMPORTED", 0)
    with pytest.raises(Unnamed, match="changed"):
        name()


def test_a_folder_in_the_place_of_the_package_has_no_name(
    as_loaded, monkeypatch, tmp_path
):
    # A link that leads to another release now: its files are old.
    monkeypatch.setattr(_package_state, "ROOT", tmp_path)
    (tmp_path / "module.py").write_text("A = 1\n")
    with pytest.raises(Unnamed, match="in the place of another"):
        _package_state.sources()


def test_functions_that_wrap_the_packages_have_no_name(as_loaded, monkeypatch):
    from jaxsteer.ideal import _affirmative

    original = _affirmative.pooled_cov

    @functools.wraps(original)
    def patched(*args):
        return 2 * original(*args)

    modules = ["jaxsteer.ideal._affirmative"]
    _package_state.code(modules)
    with monkeypatch.context() as patch:
        patch.setattr(_affirmative, "pooled_cov", patched)
        with pytest.raises(Unnamed, match="put into the package"):
            _package_state.code(modules)
    law = js.MultivariateNormal
    wrapped = functools.wraps(law.kl)(lambda self, other: 0.0)
    monkeypatch.setattr(law, "kl", wrapped)
    with pytest.raises(Unnamed, match="put into the package"):
        _package_state.code([law.__module__])


def test_other_code_under_the_same_name_is_another_program(as_loaded, monkeypatch):
    from jaxsteer.ideal import _affirmative

    modules = ["jaxsteer.ideal._affirmative"]
    before = _package_state.code(modules)
    function_ = _affirmative._closed_forms
    line = function_.__code__.co_firstlineno
    body = (lambda group, template, *, reflect: []).__code__
    body = body.replace(co_firstlineno=line, co_freevars=function_.__code__.co_freevars)
    monkeypatch.setattr(function_, "__code__", body)
    assert _package_state.code(modules) != before


def test_sources_count_by_content(as_loaded, monkeypatch, tmp_path):
    monkeypatch.setattr(_package_state, "ROOT", tmp_path)
    monkeypatch.setattr(js, "_FOLDER", tmp_path.stat()[1:3])
    with monkeypatch.context():
        digests = []
        for text in ("A = 1\n", "A = 2\n", "A = 1\n"):
            (tmp_path / "module.py").write_text(text)
            os.utime(tmp_path / "module.py", (1, 1))  # as reproducible wheels do
            _package_state._digest.cache_clear()
            digests.append(_package_state.sources())
        (tmp_path / "module.py").rename(tmp_path / "other.py")
        digests.append(_package_state.sources())
    _package_state._digest.cache_clear()
    assert digests[0] == digests[2] and len(set(digests)) == 3


def truncated(content):
    return content[:-10]


def flipped(content):
    return content[:-10] + bytes([content[-10] ^ 1]) + content[-9:]


def signed(body):
    """A body that passes for whole under the name of the only file there."""

    def write(folder):
        (path,) = files(folder)
        head = _stored_programs._checksum(path.stem, body)
        path.write_bytes(_stored_programs._FORMAT + head + body)

    return write


def rewritten(change):
    def write(folder):
        (path,) = files(folder)
        path.write_bytes(change(path.read_bytes()))

    return write


def other_places(folder):
    """A program that loads and cannot be run."""
    (path,) = files(folder)
    body = path.read_bytes()[len(_stored_programs._FORMAT) + _stored_programs._DIGEST :]
    size, tree, parts, calls = pickle.loads(zlib.decompress(body))
    parts = [(code, (99,), *more) for code, _, *more in parts]
    body = zlib.compress(pickle.dumps((size, tree, parts, calls)))
    signed(body)(folder)


def a_folder_instead(folder):
    (path,) = files(folder)
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        rewritten(truncated),
        rewritten(flipped),
        rewritten(lambda content: b""),
        rewritten(lambda content: content[:30]),
        rewritten(lambda content: b"x" + content[1:]),
        signed(b"no archive"),
        signed(zlib.compress(b"no pickle")),
        signed(
            zlib.compress(pickle.dumps((3, None, [(b"no code", (), (), (), 0)], 0)))
        ),
        other_places,
        a_folder_instead,
    ],
)
def test_damaged_files_count_as_none(kept, damage):
    whole, _ = in_a_new_process(MATRIX, times=2)
    damage(kept)
    found, traces = in_a_new_process(MATRIX, times=2)
    assert traces == 1
    np.testing.assert_array_equal(found["x"], whole["x"])
    if damage is not a_folder_instead:  # it was written anew
        assert in_a_new_process(MATRIX, times=2)[1] == 0


def test_files_of_other_programs_count_as_none(kept):
    in_a_new_process(MATRIX, times=2)
    (mine,) = files(kept)
    in_a_new_process(MATRIX, times=3)
    (theirs,) = set(files(kept)) - {mine}
    theirs.write_bytes(mine.read_bytes())
    found, traces = in_a_new_process(MATRIX, times=3)
    assert traces == 1 and found["sum"] == 30


def test_folders_that_cannot_be_written_are_left(kept):
    kept.write_text("a file")
    assert in_a_new_process(MATRIX, times=2)[0]["sum"] == 20
    assert kept.read_text() == "a file"


def test_the_ones_used_longest_ago_go(kept, monkeypatch):
    kept.mkdir()

    def left():
        for i in range(5):
            path = kept / f"{i}.program"
            path.write_bytes(bytes(100))
            os.utime(path, (i, i))
        _stored_programs._remove_oldest(kept)
        return [path.stem for path in files(kept)]

    assert left() == ["0", "1", "2", "3", "4"]
    monkeypatch.setattr(_stored_programs, "MOST", 3)
    assert left() == ["2", "3", "4"]
    # A program that is read is used.
    (kept / "2.program").touch()
    monkeypatch.setattr(_stored_programs, "MOST", 1)
    _stored_programs._remove_oldest(kept)
    assert [path.stem for path in files(kept)] == ["2"]
    monkeypatch.setattr(_stored_programs, "MOST", 4)
    with setting("jax_compilation_cache_max_size", 250):
        assert left() == ["3", "4"]


def test_reading_a_program_is_using_it(kept):
    in_a_new_process(MATRIX, times=2)
    (path,) = files(kept)
    os.utime(path, (1, 1))
    in_a_new_process(MATRIX, times=2)
    assert path.stat().st_mtime > 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jax_compilation_cache_dir", None),
        ("jax_compilation_cache_dir", "gs://bucket/programs"),
        ("jax_enable_compilation_cache", False),
        ("jax_compilation_cache_max_size", 0),
    ],
)
def test_where_jax_keeps_nothing_there_is_no_folder(kept, name, value):
    assert _stored_programs.folder() == kept
    with setting(name, value):
        assert _stored_programs.folder() is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jax_debug_nans", True),
        ("jax_enable_checks", True),
        ("jax_default_device", jax.devices()[0]),
        ("jax_persistent_cache_min_compile_time_secs", 1000.0),
        ("jax_persistent_cache_min_entry_size_bytes", 10**9),
    ],
)
def test_settings_turn_it_off(kept, name, value):
    with setting(name, value):
        assert in_a_new_process(MATRIX, times=2)[0]["sum"] == 20
    assert files(kept) == []


def test_the_environment_turns_it_off(kept, monkeypatch):
    monkeypatch.setenv(_stored_programs.SWITCH, "0")
    in_a_new_process(MATRIX, times=2)
    assert files(kept) == []


PROGRAM = """
import dataclasses, json, sys, jax, jax.numpy as jnp, numpy as np, jaxsteer as js
if sys.argv[1:]:  # what else the package is used for is nothing to the program
    import jaxsteer.nn, jaxsteer.streaming
    @js.families.family(domain={"high": "positive"}, maps="scale")
    @dataclasses.dataclass(frozen=True)
    class Uniform:
        high: jax.Array
seen = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **more: seen.append(str(more.get("fun_name"))))
rng = np.random.default_rng(0)
half = rng.normal(size=(2, 2, 3, 6)).astype(np.float32)
cells = js.MultivariateNormal(half.mean(-1), half @ half.swapaxes(-1, -2))
pop = js.Population(np.full((2, 2), 0.25, np.float32), cells)
for call in range(2):
    found = js.nearest_ideal(pop, maps="positive_definite", reference=1)
print(json.dumps({
    "made": any("solve" in name for name in seen),
    "values": [np.asarray(leaf, float).tolist() for leaf in jax.tree.leaves(found)],
    "type": type(found).__name__, "status": int(found.status)}))
"""


def test_processes_share_programs(tmp_path):
    """With LAPACK's routines in them, which no lowering has prepared."""
    env = {
        **os.environ,
        _stored_programs.SWITCH: "1",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(js.__file__).parent.parent),
    }
    command = [sys.executable, "-c", PROGRAM]

    def run(*more):
        done = subprocess.run(
            [*command, *more], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    first, second = run(), run("more")
    assert first.pop("made") and not second.pop("made")
    assert second == first
    assert first["type"] == "Steering" and first["status"] == 0
