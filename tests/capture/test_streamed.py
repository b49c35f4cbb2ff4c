"""Streamed captures: the same bytes as from memory, each weight read once, the cost said first."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engram_interp import depth, gates, lens
from engram_interp.capture import store, streamed
from engram_interp.capture.captured import open_capture
from engram_interp.capture.sites import AFTER
from engram_interp.capture.streamed import layers
from engram_interp.capture.streamed.plan import Rates, plan_of
from engram_interp.capture.streamed.state import State
from engram_interp.checkpoints import SubjectModel, load_model
from engram_interp.checkpoints.deepseek_v41 import layout
from engram_interp.checkpoints.deepseek_v41.config import config_of
from engram_interp.checkpoints.sharded import open_shards
from engram_interp.checkpoints.tensor_files import Place, Reader
from engram_interp.errors import InputError
from tests import support
from tests.capture.corpus import contents
from tests.checkpoints import v41

SITES = ("blocks.*.hook_resid_post", "blocks.*.engram.*", "hook_embed", "blocks.2.attn.hook_index_selected")
LENGTHS = (9, 1, 30, 2, 17, 5, 23, 3)
KILLED = """
import os, sys
import torch
from engram_interp.capture import streamed
from engram_interp.capture.streamed import layers
from engram_interp.checkpoints import load_model
from tests.capture.test_streamed import LENGTHS, SITES
from tests.checkpoints import v41

torch.set_num_threads(int(sys.argv[4]))
feed = layers.Streaming._feed

def dying(self, block, layer, sink):
    if layer == int(sys.argv[3]):
        os.kill(os.getpid(), 9)
    feed(self, block, layer, sink)

layers.Streaming._feed = dying
model = load_model(sys.argv[1], weights="disk")
streamed.capture(model, v41.prompts(*LENGTHS), sites=SITES, out=sys.argv[2], batch_size=3, shard_bytes=40_000)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return v41.write(tmp_path_factory.mktemp("v41") / "tiny")


@pytest.fixture(scope="module")
def memory(folder: Path) -> SubjectModel:
    return load_model(folder, weights="memory")


@pytest.fixture
def disk(folder: Path) -> SubjectModel:
    return load_model(folder, weights="disk")


@pytest.fixture(scope="module")
def whole(memory: SubjectModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a capture from memory writes."""
    out = tmp_path_factory.mktemp("whole") / "c"
    store.capture(memory, v41.prompts(*LENGTHS), sites=SITES, out=out, batch_size=3, shard_bytes=40_000)
    return out


@pytest.mark.parametrize("most", [7, 64, 10_000])
def test_the_bytes_are_those_of_a_capture_from_memory(
    most: int, whole: Path, disk: SubjectModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engram_interp.capture.streamed.run.MOST_TOKENS", most)  # whatever runs together
    monkeypatch.setattr(layers, "_ADDRESSES", 4 * most)
    monkeypatch.setattr(layers, "_ROWS", most)
    steps = list[streamed.Step]()
    streamed.capture(
        disk, v41.prompts(*LENGTHS), sites=SITES, out=tmp_path / "c", batch_size=3, shard_bytes=40_000,
        progress=steps.append,
    )  # fmt: skip
    assert contents(tmp_path / "c") == contents(whole)
    assert [step.layer for step in steps] == [-1, 0, 1, 2, 3, 4]
    assert all(step.done < step.of for step in steps[:-1]) and steps[-1].done == steps[-1].of


OTHERS: dict[str, dict[str, Any]] = {
    "the usual": {},
    "widths that are not whole blocks": {
        "hidden_size": 80,
        "moe_intermediate_size": 48,
        "head_dim": 40,
        "num_attention_heads": 5,
        "o_groups": 5,
        "o_lora_rank": 12,
        "q_lora_rank": 52,
        "qk_rope_head_dim": 10,
        "index_head_dim": 36,
        "hc_mult": 2,
        "engram_head_dim": 48,
    },
    "images": {"image_token_id": 7},
    "many sources and memories": {
        "num_hidden_layers": 7,
        "compress_ratios": [0, 4, 4, 4, 2, 2, 1, 0, 0],
        "hc_mult": 5,
        "kv_source_layer_ids": [1, 4, 6],
        "index_source_layer_ids": [1, 3, 4, 5, 6],
        "candidate_source_layer_id": 6,
        "engram_layer_ids": [2, 4, 6],
        "engram_max_ngram_size": 2,
        "engram_n_heads": 1,
        "index_topk": 7,
        "sliding_window": 3,
    },
}


@pytest.mark.parametrize("name", list(OTHERS))
def test_every_site_and_the_logits_of_models_of_other_sizes(name: str, tmp_path: Path) -> None:
    folder, ids = v41.write(tmp_path / "model", **OTHERS[name]), v41.prompts(4, 1, 13)
    ids[2][5] = ids[0][1] = 7  # an image, to one of them
    for weights, capture in (("memory", store.capture), ("disk", streamed.capture)):
        model = load_model(folder, weights=weights)  # type: ignore[arg-type]
        run: Any = capture
        run(model, ids, sites=list(model.sites), out=tmp_path / weights, dtype=torch.bfloat16)
    assert contents(tmp_path / "disk") == contents(tmp_path / "memory")


def test_every_weight_is_read_once(
    disk: SubjectModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, read, raw = v41.prompts(30, 40, 50), list[str](), Reader.raw

    def noting(self: Reader, place: Place) -> object:
        read.append(place.name)
        return raw(self, place)

    monkeypatch.setattr(Reader, "raw", noting)
    plan = streamed.planned(disk, ids, sites=["blocks.*.hook_resid_post"], measure=False)
    streamed.capture(disk, ids, sites=["blocks.*.hook_resid_post"], out=tmp_path / "c")
    cfg = config_of(config_values(disk))
    wanted = {
        name
        for stored in layout.every(cfg)
        if stored.paths and stored.kind != "fp8_rows" and stored.name.startswith("layers.")
        for name in stored.tensors()
    }
    assert sorted(read) == sorted(wanted)
    places = open_shards(disk.folder or Path()).places
    assert plan.weight_bytes == sum(places[name].bytes for name in wanted)


def config_values(model: SubjectModel) -> dict[str, object]:
    from engram_interp.checkpoints.files import read_json

    return read_json((model.folder or Path()) / "config.json")


class Dead(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("layer", [0, 1, 4])
def test_interrupted_in_a_layer_it_ends_in_the_same_bytes(
    layer: int, whole: Path, disk: SubjectModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = layers.Streaming._feed

    def dying(self: Any, block: Any, now: int, sink: Any) -> None:
        if now == layer:
            raise Dead
        feed(self, block, now, sink)

    wish: dict[str, Any] = {"sites": SITES, "out": tmp_path / "c", "batch_size": 3, "shard_bytes": 40_000}
    with monkeypatch.context() as patch:
        patch.setattr(layers.Streaming, "_feed", dying)
        with pytest.raises(Dead):
            streamed.capture(disk, v41.prompts(*LENGTHS), **wish)
    streamed.capture(disk, v41.prompts(*LENGTHS), resume=True, **wish)
    assert contents(tmp_path / "c") == contents(whole)
    streamed.capture(disk, v41.prompts(*LENGTHS), resume=True, **wish)  # complete: nothing to do
    assert contents(tmp_path / "c") == contents(whole)


def test_killed_in_a_layer_it_ends_in_the_same_bytes(
    whole: Path, folder: Path, disk: SubjectModel, tmp_path: Path
) -> None:
    out, layer = tmp_path / "c", 3
    command = [sys.executable, "-c", KILLED, str(folder), str(out), str(layer), str(torch.get_num_threads())]
    done = subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == -9
    state = State.load(out / "part-1-of-1" / "streamed", digest=open_part(out))
    assert state is not None and state.layer == layer
    with pytest.raises(InputError, match="unfinished: 0 of"):
        open_capture(out)
    steps = list[streamed.Step]()
    streamed.capture(
        disk, v41.prompts(*LENGTHS), sites=SITES, out=out, batch_size=3, shard_bytes=40_000, resume=True,
        progress=steps.append,
    )  # fmt: skip
    assert [step.layer for step in steps] == list(range(layer - 1, 5))
    assert contents(out) == contents(whole)


def open_part(out: Path) -> str:
    from engram_interp.capture.shards import Part

    return Part.read(out / "part-1-of-1").digest


def test_analyses_read_it(memory: SubjectModel, folder: Path, tmp_path: Path) -> None:
    texts, disk = support.documents(4), load_model(folder, weights="disk", name=memory.name)
    sites = ["blocks.*.hook_resid_*", "blocks.*.engram.*"]
    streamed.capture(disk, texts, sites=sites, out=tmp_path / "c")
    found = open_capture(tmp_path / "c", model=disk)
    assert gates.read(found).data["gate"].equals(gates.read(memory, texts).data["gate"])
    one, two = (gates.statistics(*given, n_boot=5, n_inits=0) for given in ((found,), (memory, texts)))
    assert one.data.equals(two.data)
    assert "cannot be drawn anew" in str(one.data["null_mean"].attrs)
    said = [lens.convergence(*given, n_boot=5).data["kl"] for given in ((found,), (memory, texts))]
    assert np.allclose(said[0], said[1], atol=1e-5)
    for streams in ("concat", "readout"):
        both = [
            depth.compare(*given, streams=streams, n_boot=5)
            for given in ((found, found), (memory, memory, texts))
        ]
        assert both[0].data["cka"].equals(both[1].data["cka"])


def test_it_stops_where_nothing_more_is_wanted(folder: Path, tmp_path: Path) -> None:
    """Of a partial download only the shards of the layers that are run are needed."""
    part = tmp_path / "part"
    shutil.copytree(folder, part)
    shards = open_shards(part)
    for layer in (2, 3, 4):
        shards.places[f"layers.{layer}.attn.wkv.weight"].path.unlink()
    shards.places["layers.3.engram.embed.weight"].path.unlink()
    shards.places["head.weight"].path.unlink()
    model, ids = load_model(part), v41.prompts(6, 11)
    sites = ["blocks.*.hook_resid_post", "blocks.*.engram.hook_gate"]
    streamed.capture(model, ids, sites=sites, out=tmp_path / "c", stop_after=1)
    assert list(open_capture(tmp_path / "c").sites) == [
        "blocks.0.engram.hook_gate", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post",
    ]  # fmt: skip
    gone = shards.places["layers.2.attn.wkv.weight"].path.name
    with pytest.raises(InputError, match=rf"{gone} is missing; it holds layers.2.*Also missing"):
        streamed.capture(model, ids, sites=sites, out=tmp_path / "d")
    assert not (tmp_path / "d").exists()
    for stop, words in ((5, "lie in 0 … 4 for part, got 5"), (0, "No wanted site lies in layers 0 … 0")):
        with pytest.raises(InputError, match=words):
            streamed.planned(model, ids, sites=["blocks.1.hook_resid_post"], stop_after=stop)


def test_how_fast_the_disk_is_takes_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece of at most 16 MB is read."""
    path, read, pread = tmp_path / "file", list[int](), os.pread
    with path.open("wb") as file:
        file.truncate(40 << 20)

    def noting(handle: int, count: int, start: int) -> bytes:
        read.append(count)
        return pread(handle, count, start)

    monkeypatch.setattr(os, "pread", noting)
    assert Rates.measured(path).read > 0
    assert 0 < sum(read) <= 16 << 20


def test_the_plan_of_the_released_model() -> None:
    """About 16 GB of layer weights for the first Engram layer, 299 GB for all (CHECKPOINTS, ARCHITECTURE)."""
    cfg = config_of(v41.RELEASED)
    first, every = (plan_of(cfg, [100] * 30, last_layer=n, output_bytes=0) for n in (1, AFTER))
    assert 14.5e9 < first.weight_bytes < 16.5e9
    assert 292e9 < every.weight_bytes < 302e9
    assert first.row_bytes == 3000 * (24 * 264 + 2 * 5120)
    assert every.row_bytes - first.row_bytes == 3000 * 24 * 264
    assert first.seconds is None
    rates = Rates(read=1e9, decode=1e9, multiply=1e11)
    timed = plan_of(cfg, [100] * 30, last_layer=1, output_bytes=0, rates=rates)
    assert timed.seconds is not None and timed.seconds > first.weight_bytes / 1e9 + first.decoded / 1e9
    assert any("14.9" in line and "of weights, once" in line for line in timed.lines())
