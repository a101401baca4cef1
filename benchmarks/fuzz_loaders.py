"""Loaders on bytes that a coverage-guided fuzzer (atheris) makes out of whole files.

Every loader runs in a process of its own, with the package's modules instrumented, from
whole files as seeds. A loader may refuse (a ValueError of its own that names the file) or
read; what it reads of a format with a hash must have the content of a seed. Anything else
is a fault, as are more than 2 GB of memory or 20 seconds for one file.

    pip install atheris
    python benchmarks/fuzz_loaders.py [--seconds 30]

Writes results/fuzz_loaders.md. Without atheris the same loaders run on hypothesis' bytes,
in tests/fuzz.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
LIMITS = ("-rss_limit_mb=2500", "-malloc_limit_mb=2000", "-timeout=20")
MOST_BYTES = 6000


def loaders() -> dict:
    """Each loader: its seeds by file name, how to read a path, and what was read."""
    import jax.numpy as jnp
    from flax import nnx

    from jaxsteer import export, maps, models, storage
    from tests.models._small import small_decoder, write_gguf
    from tests.models.test_decoder import write_hugging_face

    folder = Path(tempfile.mkdtemp())
    one = maps.AffineMap(2 * jnp.eye(2), jnp.ones(2))
    storage.save_map(folder / "map.safetensors", one, operation="test")
    storage.save(folder / "any.safetensors", {"a": one, "b": [1, "x"]})
    storage.save(folder / "any.json", {"a": one, "b": [1, "x"]})
    where = {"operation": "test", "path": "layers.3"}
    export.save_steering(folder / "steering.safetensors", one, **where)
    storage.save_pipeline(folder / "pipeline.skops", _learner())
    small = small_decoder()
    write_gguf(small, folder / "model.gguf")
    llama = folder / "llama"
    llama.mkdir()
    write_hugging_face(small, llama)
    _write_tokenizers(folder)
    weights = "model-00001-of-00002.safetensors"

    def in_folder(name):
        def read(path):
            shutil.copyfile(path, llama / name)
            return models.load_decoder(llama)

        return read

    def decoder(path):
        return nnx.state(models.load_decoder(path))

    def hash_of(stored):
        return getattr(stored, "sha256", None) or stored.content_hash

    read = {
        "storage.load": ("any.safetensors", storage.load, hash_of),
        "storage.load (JSON)": ("any.json", storage.load, hash_of),
        "storage.load_map": ("map.safetensors", storage.load_map, hash_of),
        "export.load_steering": (
            "steering.safetensors",
            lambda path: export.load_steering(path).stored,
            hash_of,
        ),
        "storage.load_pipeline (skops)": (
            "pipeline.skops",
            storage.load_pipeline,
            lambda found: type(found).__name__,
        ),
        "models.load_decoder (GGUF)": ("model.gguf", decoder, None),
        "models.load_decoder (safetensors)": (
            f"llama/{weights}",
            in_folder(weights),
            None,
        ),
        "models.load_decoder (config.json)": (
            "llama/config.json",
            in_folder("config.json"),
            None,
        ),
        "models.load_tokenizer (JSON)": ("tokenizer.json", models.load_tokenizer, None),
        "models.load_tokenizer (GGUF)": ("tokens.gguf", models.load_tokenizer, None),
        "models.load_tokenizer (llama2.c)": ("tok.bin", models.load_tokenizer, None),
    }
    return {
        name: ((folder / file).read_bytes(), Path(file), load, look)
        for name, (file, load, look) in read.items()
    }


def _learner():
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(np.arange(4.0)[:, None], [0, 0, 1, 1])


def _write_tokenizers(folder: Path) -> None:
    import struct

    import gguf
    import tokenizers

    library = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]")
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    library.save(str(folder / "tokenizer.json"))
    names = ["<|end|>", "a", "b", "c", "ab", "1", "2", "12"]
    writer = gguf.GGUFWriter(folder / "tokens.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(names)
    writer.add_token_types([3] + [1] * (len(names) - 1))
    writer.add_token_merges(["a b", "1 2"])
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    pieces = [b"<unk>", b"<s>", b"</s>", *[b"<0x%02X>" % byte for byte in range(256)]]
    parts = [struct.pack("<i", 6)]
    parts += [struct.pack("<fi", 0.0, len(piece)) + piece for piece in pieces]
    (folder / "tok.bin").write_bytes(b"".join(parts))


def child(name: str, seconds: int, folder: Path) -> None:
    """Fuzz one loader; never returns."""
    import atheris

    with atheris.instrument_imports(include=["jaxsteer"]):
        import jaxsteer  # noqa: F401  (what follows is instrumented as it loads)

        found = loaders()
        from tests.fuzz.judge import Call, judge

    seed, file, load, look = found[name]
    path = folder / f"fuzzed{file.suffix}"
    # A file in a folder is copied there, and told by its own name or by its folder's.
    names = (path.name, "file", "path", file.name, *file.parts[:-1])
    path.write_bytes(seed)
    expected = look and look(load(path))
    counts: Counter = Counter()
    faults: dict[str, str] = {}
    report = folder / "report.json"
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "seed").write_bytes(seed)
    state = {"last": 0.0}

    def check(read):
        seen = look and look(read)
        assert seen == expected, f"read as {seen}"
        return "answer"

    def write():
        report.write_text(json.dumps({"counts": counts, "faults": faults}))
        state["last"] = time.time()

    def one(data: bytes) -> None:
        path.write_bytes(data)
        call = Call(lambda: load(path), check, names)
        outcome = judge(lambda draw: call, None)
        counts[outcome.kind] += 1
        new = outcome.kind in ("deep", "wrong") and len(faults) < 50
        # One of a kind: numbers in a message differ, its beginning does not.
        kind = f"{outcome.kind}: {outcome.detail[:60]}"
        if new and kind not in faults:
            faults[kind] = outcome.detail
            (folder / f"fault-{len(faults)}{file.suffix}").write_bytes(data)
            write()
        if time.time() - state["last"] > 1:
            write()

    limits = [*LIMITS, f"-max_total_time={seconds}", f"-max_len={MOST_BYTES}"]
    prefix = f"-artifact_prefix={folder}{os.sep}"
    atheris.Setup([sys.argv[0], str(corpus), *limits, prefix, "-verbosity=0"], one)
    atheris.Fuzz()


def main() -> int:
    """Run every loader, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=30, help="for each loader")
    parser.add_argument("--only", help="loaders whose name holds this")
    parser.add_argument("--child", nargs=2, metavar=("NAME", "FOLDER"))
    options = parser.parse_args()
    if options.child:
        child(options.child[0], options.seconds, Path(options.child[1]))
    names = [name for name in loaders() if (options.only or "") in name]
    lines = [
        "| loader | files | read | refused | messages from inside | silently wrong | "
        "crash, memory or time |",
        "|---|---|---|---|---|---|---|",
    ]
    bad, total = 0, Counter()
    for name in names:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-loader-"))
        command = [sys.executable, __file__, "--seconds", str(options.seconds)]
        command += ["--child", name, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        report = folder / "report.json"
        held = {"counts": {}, "faults": {}}
        if report.is_file():
            held = json.loads(report.read_text())
        counts = Counter(held["counts"])
        counts["crash"] += done.returncode != 0
        total.update(counts)
        for kind, detail in held["faults"].items():
            print(f"{name}: {kind}\n    {detail}", flush=True)
        if done.returncode:
            print(f"{name}: exit {done.returncode}\n{done.stderr[-1500:]}", flush=True)
        bad += counts["deep"] + counts["wrong"] + counts["crash"]
        lines.append(_line(name, counts))
    lines.append(_line("all", total))
    text = "\n".join(lines) + "\n"
    print(text)
    if options.only is None:
        from importlib.metadata import version

        head = (
            f"atheris {version('atheris')}, {options.seconds} s a loader, by `python "
            "benchmarks/fuzz_loaders.py`: every loader on files that a coverage-guided "
            "fuzzer makes out of a whole one.\n\n"
        )
        (ROOT / "benchmarks/results/fuzz_loaders.md").write_text(head + text)
    return 1 if bad else 0


def _line(name: str, counts: Counter) -> str:
    made = sum(counts[kind] for kind in ("answer", "refused", "deep", "wrong"))
    cells = [counts[k] for k in ("answer", "refused", "deep", "wrong", "crash")]
    return f"| `{name}` | {made} | " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    sys.exit(main())
