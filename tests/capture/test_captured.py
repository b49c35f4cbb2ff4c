"""Opening a capture: the same numbers as from memory, and clear words where it cannot serve."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from engram_interp import depth, lens, lens_depth, opinions
from engram_interp.capture import encode, store
from engram_interp.capture.store import open_capture
from engram_interp.checkpoints import SubjectModel, load_model
from engram_interp.checkpoints.native import save_native
from engram_interp.data.prompts import PromptSet
from engram_interp.errors import DamagedFileError, InputError
from tests import support
from tests.capture.corpus import SITES, SMALL, subject, texts


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[SubjectModel, SubjectModel]:
    """Opened from directories, so that a capture finds them again."""
    folder = tmp_path_factory.mktemp("pair")
    for name, memory, seed in (("engram", support.memory_config(), 0), ("baseline", None, 3)):
        made = support.model(support.model_config(n_layers=7, memory=memory), seed=seed)
        save_native(folder / name, made, tokenizer=support.tokenizer())
    return load_model(folder / "engram"), load_model(folder / "baseline")


def test_analyses_give_the_same_from_a_capture(
    pair: tuple[SubjectModel, SubjectModel], tmp_path: Path
) -> None:
    prompts = PromptSet.from_texts(support.documents(60, seed=2))
    captures = []
    for model in pair:
        store.capture(
            model, prompts, sites=SITES[:1], out=tmp_path / model.name, batch_size=16, shard_bytes=90_000
        )
        captures.append(open_capture(tmp_path / model.name))
    for compare in (depth.compare, opinions.compare):
        assert compare(*captures, n_boot=20).data.equals(compare(*pair, prompts, n_boot=20).data)
    from_disk = lens.convergence(captures[0], n_boot=20, batch_size=16)
    assert from_disk.data.equals(lens.convergence(pair[0], prompts, n_boot=20, batch_size=16).data)
    assert lens_depth.compare(*captures, batch_size=16).data.equals(
        lens_depth.compare(*pair, prompts, batch_size=16).data
    )


def test_damage_is_named(tmp_path: Path) -> None:
    model, out = subject(), tmp_path / "c"
    store.capture(model, texts(), sites=SITES, out=out, **SMALL)
    shard = out / "part-1-of-1" / "000001.safetensors"
    intact = shard.read_bytes()
    shard.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    open_capture(out)
    with pytest.raises(DamagedFileError, match=r"000001.safetensors is not what was written"):
        open_capture(out, check="checksums")
    with pytest.raises(DamagedFileError, match=r"000001.safetensors is not what was written"):
        store.capture(model, texts(), sites=SITES, out=out, resume=True, **SMALL)
    shard.write_bytes(intact[:-9])
    with pytest.raises(DamagedFileError, match=r"has [\d,]+ bytes, the manifest says"):
        open_capture(out)
    shard.unlink()
    with pytest.raises(DamagedFileError, match="is missing"):
        open_capture(out)
    header = out / "part-1-of-1" / "part.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"format": 9}))
    with pytest.raises(InputError, match="format 9 and this version reads 1"):
        open_capture(out)


def test_captures_of_other_prompts_are_not_paired(tmp_path: Path) -> None:
    for name, prompts in (("a", texts()), ("b", replace(texts(), texts=tuple(reversed(texts().texts))))):
        model = subject()
        store.capture(
            model, replace(prompts, entities=((),) * 26), sites=SITES[:1], out=tmp_path / name, **SMALL
        )
    with pytest.raises(InputError, match="did not see the same prompts"):
        depth.compare(open_capture(tmp_path / "a"), open_capture(tmp_path / "b"))


def test_a_bfloat16_model_gives_the_same_from_a_capture(tmp_path: Path) -> None:
    model = subject(n_streams=3)
    model.module.bfloat16()
    for streams in ("mean", "readout"):
        out = tmp_path / streams
        store.capture(model, texts(), sites=SITES[:1], out=out, dtype=torch.bfloat16, **SMALL)
        found = open_capture(out, model=model)
        one = depth.compare(found, found, streams=streams, n_boot=5)
        two = depth.compare(model, model, texts(), streams=streams, n_boot=5)
        assert np.allclose(one.data["cka"], two.data["cka"], atol=1e-6)
        assert one.data.attrs["captured"] == "activations from disk, bfloat16"


def test_a_cropped_capture_is_as_if_run_with_the_shorter_context(tmp_path: Path) -> None:
    model = subject()
    store.capture(model, texts(), sites=SITES[:1], out=tmp_path / "c", **SMALL)
    cropped, run = open_capture(tmp_path / "c").encoded.cropped(12), encode(model, texts(), limit=12)
    assert cropped.digest == run.digest
    assert (cropped.entity_ends, cropped.entities) == (run.entity_ends, run.entities)
    assert len(cropped.notes) == len(run.notes)
    assert all("its first 12 were analysed" in note for note in cropped.notes)


def test_a_damaged_token_table_is_named_and_mended(tmp_path: Path) -> None:
    model, table = subject(), tmp_path / "c" / "part-1-of-1" / "tokens.parquet"
    store.capture(model, texts(), sites=SITES[:1], out=tmp_path / "c", **SMALL)
    intact = table.read_bytes()
    frame = pq.read_table(table).to_pandas()
    frame["token_id"] = frame["token_id"].to_numpy()[::-1].copy()
    frame.to_parquet(table)
    with pytest.raises(DamagedFileError, match="not what was written"):
        open_capture(tmp_path / "c")
    table.write_bytes(intact[:50])
    with pytest.raises(DamagedFileError, match=r"tokens.parquet cannot be read"):
        open_capture(tmp_path / "c")
    store.capture(model, texts(), sites=SITES[:1], out=tmp_path / "c", resume=True, **SMALL)
    assert table.read_bytes() == intact


def test_a_part_under_another_name_is_refused(tmp_path: Path) -> None:
    for number in (1, 2):
        store.capture(subject(), texts(), sites=SITES[:1], out=tmp_path / "c", shard=(number, 2), **SMALL)
    shutil.rmtree(tmp_path / "c" / "part-1-of-2")
    shutil.copytree(tmp_path / "c" / "part-2-of-2", tmp_path / "c" / "part-1-of-2")
    with pytest.raises(InputError, match="part-1-of-2 holds part 2 of 2"):
        open_capture(tmp_path / "c")


def test_what_a_capture_cannot_do_is_said(tmp_path: Path) -> None:
    model = subject()
    store.capture(model, texts(), sites=["blocks.2.hook_resid_post"], out=tmp_path / "c", **SMALL)
    found = open_capture(tmp_path / "c")
    with pytest.raises(InputError, match=r"lacks blocks.0.hook_resid_post; capture again"):
        depth.compare(found, found)
    with pytest.raises(InputError, match="leave texts out"):
        depth.compare(found, model, texts())
    with pytest.raises(InputError, match="wants texts to run on"):
        depth.compare(model, found)
    with pytest.raises(InputError, match=r"'hook_embed' was not captured; captured were blocks.2"):
        found.read("hook_embed", slice(0, 1))
    with pytest.raises(InputError, match="does not know where the model is"):
        lens.convergence(found)
    with pytest.raises(InputError, match="another digest"):
        lens.convergence(open_capture(tmp_path / "c", model=replace(model, digest="other")))
