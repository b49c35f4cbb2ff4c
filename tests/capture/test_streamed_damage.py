"""What goes wrong in a streamed capture: a full disk, damaged scratch files, weights that change."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from engram_interp.capture import streamed
from engram_interp.capture.captured import open_capture
from engram_interp.capture.streamed import layers
from engram_interp.capture.streamed.state import State
from engram_interp.checkpoints import SubjectModel, load_model
from engram_interp.checkpoints.deepseek_v41.config import config_of
from engram_interp.checkpoints.sharded import open_shards
from engram_interp.errors import DamagedFileError, InputError
from tests.capture.test_streamed import SITES, config_values
from tests.checkpoints import v41


class Dead(Exception):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return v41.write(tmp_path_factory.mktemp("v41") / "tiny")


@pytest.fixture(scope="module")
def memory(folder: Path) -> SubjectModel:
    return load_model(folder, weights="memory")


@pytest.fixture
def disk(folder: Path) -> SubjectModel:
    return load_model(folder, weights="disk")


def _stopped(disk: SubjectModel, out: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A capture that ends in layer 2."""
    feed = layers.Streaming._feed

    def failing(self: Any, block: Any, now: int, sink: Any) -> None:
        if now == 2:
            raise error
        feed(self, block, now, sink)

    with monkeypatch.context() as patch:
        patch.setattr(layers.Streaming, "_feed", failing)
        streamed.capture(disk, v41.prompts(3, 5), sites=["blocks.*.hook_resid_post"], out=out)


def _resumed(disk: SubjectModel, out: Path) -> None:
    streamed.capture(disk, v41.prompts(3, 5), sites=["blocks.*.hook_resid_post"], out=out, resume=True)


def test_a_disk_that_fills_up(disk: SubjectModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, words = tmp_path / "c", r"part-1-of-1 could not be written to: the disk is full.*go on with --resume"
    with pytest.raises(InputError, match=words):
        _stopped(disk, out, monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with monkeypatch.context() as patch:
        full = SafetensorError(f"Error while serializing: I/O error: full (os error {errno.ENOSPC})")
        patch.setattr("engram_interp.capture.shards.save_file", lambda *_: (_ for _ in ()).throw(full))
        with pytest.raises(InputError, match=words):
            _resumed(disk, out)
    _resumed(disk, out)
    assert open_capture(out).sites


def test_damaged_scratch(disk: SubjectModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "c"
    with pytest.raises(Dead):
        _stopped(disk, out, monkeypatch, Dead())
    scratch = out / "part-1-of-1" / "streamed"
    rows = scratch / "blocks.0.hook_resid_post.rows"
    whole, state = rows.read_bytes(), (scratch / "state.safetensors").read_bytes()
    (scratch / "state.safetensors").write_bytes(state[:-9])
    with pytest.raises(DamagedFileError, match=r"state.safetensors is damaged; delete .*/streamed and cap"):
        _resumed(disk, out)
    (scratch / "state.safetensors").write_bytes(state)
    rows.unlink()
    with pytest.raises(DamagedFileError, match=r"post.rows is missing; delete .*/streamed and capture again"):
        _resumed(disk, out)
    rows.write_bytes(whole[:-1])
    with pytest.raises(DamagedFileError, match=r"post.rows is cut short; delete .*/streamed and capture"):
        _resumed(disk, out)
    shutil.rmtree(scratch)
    _resumed(disk, out)
    assert open_capture(out).sites


def test_weights_that_changed_meanwhile_are_noticed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "model")
    disk, out = load_model(tmp_path / "model", weights="disk"), tmp_path / "c"
    with pytest.raises(Dead):
        _stopped(disk, out, monkeypatch, Dead())
    place = open_shards(tmp_path / "model").place("layers.4.attn.wkv.weight")
    content = bytearray(place.path.read_bytes())
    content[place.start] ^= 1
    place.path.write_bytes(content)
    os.utime(place.path, ns=(1, 1))  # whatever the resolution of the file system's clock
    with pytest.raises(InputError, match=rf"^{place.path.name} changed since .* delete .*streamed and"):
        _resumed(disk, out)


def test_what_goes_wrong_is_said(
    disk: SubjectModel, memory: SubjectModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = v41.prompts(4)
    with pytest.raises(InputError, match="is in memory"):
        streamed.capture(memory, ids, sites=SITES, out=tmp_path / "c")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1000}))
        with pytest.raises(InputError, match=r"MB until its end, and 1,000 bytes are free.*Nothing"):
            streamed.capture(disk, ids, sites=SITES, out=tmp_path / "c")
    assert not (tmp_path / "c").exists()
    state = State.empty(config_of(config_values(disk)), tokens=4, prompts=1)
    state.save(tmp_path, digest="one")
    with pytest.raises(DamagedFileError, match="belongs to another capture"):
        State.load(tmp_path, digest="two")
