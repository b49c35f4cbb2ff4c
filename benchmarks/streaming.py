"""Streaming a DeepSeek-V4.1 checkpoint larger than its memory: what it reads, holds and survives.

    python -m benchmarks.streaming [GB_OF_WEIGHTS] [GB_OF_TABLE]

A random checkpoint in the released layout (by default 6 GB of weights and a 2 GB table) is written to a
temporary directory. A streamed capture runs in a process of its own: its peak memory above the plan's state,
and the bytes it read (`rchar` of /proc/self/io) over those of the checkpoint's weights. A second one is
killed in the middle of a layer and resumed; both must end in the same bytes. Then random rows of the table
are read from a cold disk, ours against indexing a memory map of the same file. Needs Linux.
"""

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.timing import Ratio, max_rss
from engram_interp import pairs
from engram_interp.capture import streamed
from engram_interp.checkpoints import load_model
from engram_interp.checkpoints.deepseek_v41 import layout
from engram_interp.checkpoints.deepseek_v41.config import config_of
from engram_interp.checkpoints.deepseek_v41.generate import released_config, write_checkpoint
from engram_interp.checkpoints.files import read_json
from engram_interp.checkpoints.row_reader import read_rows
from engram_interp.checkpoints.sharded import open_shards
from engram_interp.checkpoints.tensor_files import Place, Reader

SITES = ("blocks.*.hook_resid_post", "blocks.*.engram.hook_gate")
PROMPTS, TOKENS = 24, 64
LAYERS = 4
_EXPERT_BYTES = 3 * 2560 * 1536 * 17 // 32
_COLUMNS, _ROW_BYTES = 24, 264


def make(folder: Path, *, weights: float, table: float) -> Path:
    """A random checkpoint with about so many GB of weights and of table rows."""
    tokenizer = pairs.load("wiki-nano").engram.tokenizer
    values = released_config(
        tokenizer,
        hidden_size=2560,
        moe_intermediate_size=1536,
        num_hidden_layers=LAYERS,
        num_attention_heads=32,
        head_dim=128,
        qk_rope_head_dim=32,
        q_lora_rank=640,
        o_lora_rank=512,
        o_groups=4,
        sliding_window=32,
        compress_ratios=[0, 0, 2, 1],
        kv_source_layer_ids=[2, 3],
        index_source_layer_ids=[2, 3],
        hc_mult=4,
        index_n_heads=8,
        index_head_dim=64,
        index_topk=16,
        n_routed_experts=max(8, round((weights - 0.2) * 1e9 / LAYERS / _EXPERT_BYTES)),
        num_experts_per_tok=6,
        engram_layer_ids=[1],
        engram_max_ngram_size=4,
        engram_n_heads=8,
        engram_head_dim=256,
        engram_vocab_size=round(table * 1e9 / _ROW_BYTES / _COLUMNS),
    )
    return write_checkpoint(folder, values, tokenizer=tokenizer)


def prompts() -> list[list[int]]:
    """Token ids, the same every time."""
    ids = np.random.default_rng(0).integers(3, 1500, (PROMPTS, TOKENS))
    return [row[: TOKENS - number].tolist() for number, row in enumerate(ids)]


def bytes_read() -> int:
    """What this process has asked the system to read so far."""
    found = re.search(r"^rchar: (\d+)", Path("/proc/self/io").read_text(encoding="utf-8"), flags=re.M)
    assert found is not None
    return int(found[1])


def child(folder: str, out: str, resume: str) -> None:
    """Capture in this process, say every layer, and at the end what it took."""
    model, ids = load_model(folder, weights="disk"), prompts()
    plan = streamed.planned(model, ids, sites=SITES)
    before, start = bytes_read(), time.monotonic()

    def said(step: streamed.Step) -> None:
        print("layer", step.layer, flush=True)

    streamed.capture(model, ids, sites=SITES, out=out, resume=resume == "resume", progress=said)
    seconds, read = time.monotonic() - start, bytes_read() - before
    planned = (plan.state_bytes, plan.weight_bytes + plan.row_bytes, plan.seconds)
    print("end", max_rss(), read, seconds, *planned, flush=True)


def captured(folder: Path, out: Path, *, resume: bool = False, kill_in: int | None = None) -> list[float]:
    """Run a capture in a process; what it says at its end, or nothing if it was killed in a layer."""
    command = [sys.executable, "-m", "benchmarks.streaming", "--child", str(folder), str(out)]
    process = subprocess.Popen([*command, "resume" if resume else "anew"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = list[float]()
    for line in process.stdout:
        word, *values = line.split()
        if word == "end":
            found = [float(value) for value in values]
        elif kill_in is not None and int(values[0]) == kill_in - 1:
            time.sleep(0.5)  # into the next layer
            process.send_signal(signal.SIGKILL)
    process.wait()
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows_ratio(place: Place, *, count: int | None = None, repeats: int = 5) -> Ratio:
    """Cold random rows by a memory map over the same by our reader; rows must be equal.

    The system's cache of the file is emptied before each, outside the time.
    """
    generator = np.random.default_rng(1)
    count = count or min(20_000, place.bytes // 100_000)  # far apart, as in a table of 98 GB
    handle, pairs_ = os.open(place.path, os.O_RDONLY), list[tuple[float, float]]()

    def cold(read: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        found = read()
        return time.perf_counter() - start, found

    for number in range(repeats + 1):  # the first pair is not counted
        wanted = generator.integers(0, place.shape[0], count)
        ways = [partial(_mapped, place, wanted), partial(_ours, place, wanted)]
        done = {way.func: cold(way) for way in (ways if number % 2 else ways[::-1])}
        assert np.array_equal(done[_mapped][1], done[_ours][1]), "the rows differ"
        pairs_.append((done[_mapped][0], done[_ours][0]))
    os.close(handle)
    ratios = sorted(first / second for first, second in pairs_[1:])
    firsts, seconds_ = (statistics.median(each) for each in zip(*pairs_[1:], strict=True))
    return Ratio(
        median=statistics.median(ratios), low=ratios[0], high=ratios[-1], first=firsts, second=seconds_
    )


def _mapped(place: Place, wanted: np.ndarray) -> np.ndarray:
    table = np.memmap(place.path, np.uint8, "r", place.start, (place.shape[0], place.row_bytes))
    return np.asarray(table[wanted])


def _ours(place: Place, wanted: np.ndarray) -> np.ndarray:
    rows, back = np.unique(wanted, return_inverse=True)
    return read_rows(Reader(), place, rows)[back]


def main(weights: float, table: float) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = make(Path(name) / "model", weights=weights, table=table)
        shards = open_shards(folder)
        cfg = config_of(read_json(folder / "config.json"))
        rows = layout.table(cfg, 1)
        table_bytes = sum(shards.place(n).bytes for n in rows.tensors())
        used = {n for s in layout.every(cfg) if s.paths for n in s.tensors()} - {
            *rows.tensors(),
            "head.weight",
        }
        weight_bytes = sum(shards.place(n).bytes for n in used)
        print(f"checkpoint: {weight_bytes / 1e9:.2f} GB of weights, {table_bytes / 1e9:.2f} GB of table")
        peak, read, seconds, state, planned, expected = captured(folder, Path(name) / "whole")
        tokens = sum(map(len, prompts()))
        print(f"one capture of {tokens:,} tokens: {seconds:.0f} s, {expected:.0f} s expected by the plan")
        print(f"peak memory above the plan's state ({state / 1e6:.0f} MB): {(peak - state) / 1e9:.2f} GB")
        print(f"read / weights: {read / weight_bytes:.3f}; read / planned: {read / planned:.3f}")
        assert not captured(folder, Path(name) / "killed", kill_in=LAYERS // 2)
        _, again, *_ = captured(folder, Path(name) / "killed", resume=True)
        same = contents(Path(name) / "whole") == contents(Path(name) / "killed")
        print(
            f"killed in layer {LAYERS // 2} and resumed: same bytes {same}, {again / 1e9:.2f} GB read again"
        )
        ratio = rows_ratio(shards.place(rows.name))
        print(f"cold random rows, memory map / ours: {ratio}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main(*(float(size) for size in (sys.argv[1:3] + ["6", "2"][len(sys.argv) - 1 :])))
