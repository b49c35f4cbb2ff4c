"""Captures: whole or resumable whatever happens, and the same numbers as from memory."""

import multiprocessing
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from engram_interp.capture import durable, record, store
from engram_interp.capture.store import open_capture
from engram_interp.errors import InputError
from tests.capture.corpus import SITES, SMALL, contents, subject, texts

KILLS = 10


def test_every_token_of_every_site_is_there(tmp_path: Path) -> None:
    model = subject(n_streams=3)
    store.capture(model, texts(), sites=SITES, out=tmp_path / "c", **SMALL)
    found, rec = (
        open_capture(tmp_path / "c", check="checksums"),
        record(model, texts(), sites=SITES, batch_size=3),
    )
    assert set(found.sites) == set(rec.sites)
    assert len(found.parts[0].shards) > 3
    for site, values in rec.sites.items():
        rows = found.read(site, slice(0, 10**9))
        assert torch.equal(rows, values[rec.mask])
        assert torch.equal(found.read(site, slice(7, 90)), values[rec.mask][7:90])
    assert found.encoded.digest == rec.encoded.digest
    assert found.encoded.entity_ends == rec.encoded.entity_ends
    assert found.encoded.names == rec.encoded.names
    assert found.encoded.notes == rec.encoded.notes != ()


def test_the_token_table_says_what_a_row_is_of(tmp_path: Path) -> None:
    store.capture(subject(), texts(), sites=SITES[:1], out=tmp_path / "c", **SMALL)
    table = pq.read_table(tmp_path / "c" / "part-1-of-1" / "tokens.parquet").to_pandas()
    found = open_capture(tmp_path / "c")
    prompt, position = found.encoded.mask.nonzero().numpy().T
    assert table["prompt"].tolist() == prompt.tolist()
    assert table["position"].tolist() == position.tolist()
    assert table["token_id"].tolist() == found.encoded.tokens[prompt, position].tolist()
    assert (table["entity"] >= 0).sum() == sum(map(len, found.encoded.entity_ends)) > 0


def test_bfloat16_is_kept_as_it_is_and_read_as_float32(tmp_path: Path) -> None:
    model, site = subject(), "blocks.2.hook_resid_post"
    store.capture(model, texts(), sites=[site], out=tmp_path / "c", dtype=torch.bfloat16, **SMALL)
    found, rec = open_capture(tmp_path / "c"), record(model, texts(), sites=[site], batch_size=3)
    rows = found.read(site, slice(0, 50))
    assert rows.dtype == torch.bfloat16
    assert torch.equal(rows, rec[site][rec.mask][:50].bfloat16())


def test_a_pass_ends_at_the_last_wanted_site(tmp_path: Path) -> None:
    model, calls = subject(), list[int]()
    handle = model.module.get_submodule("blocks.3").register_forward_hook(lambda *_: calls.append(1))
    store.capture(model, texts(), sites=["blocks.1.hook_resid_post"], out=tmp_path / "c", **SMALL)
    handle.remove()
    assert len(calls) == 1  # the run that measures shapes


def test_shares_add_up_to_the_whole(tmp_path: Path) -> None:
    model = subject()
    store.capture(model, texts(), sites=SITES, out=tmp_path / "whole", **SMALL)
    for number in (3, 1, 2):
        with pytest.raises(InputError, match=r"holds no capture|lacks part"):
            open_capture(tmp_path / "shares")
        store.capture(model, texts(), sites=SITES, out=tmp_path / "shares", shard=(number, 3), **SMALL)
    whole, shares = open_capture(tmp_path / "whole"), open_capture(tmp_path / "shares")
    assert len(shares.parts) == 3
    assert shares.encoded.digest == whole.encoded.digest
    assert shares.encoded.entity_ends == whole.encoded.entity_ends
    for site in whole.sites:
        assert torch.equal(shares.read(site, slice(0, 10**9)), whole.read(site, slice(0, 10**9)))


def _run(out: Path, threads: int, started: Any) -> None:
    torch.set_num_threads(threads)
    model, prompts = subject(), texts(200)
    started.set()
    store.capture(model, prompts, sites=SITES, out=out, **SMALL)


def test_killed_at_random_moments_it_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A child imports its parent's main module, and Streamlit's tests leave a page there.
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["engram_interp.capture.store", "tests.support"])

    def listed(out: Path) -> int:
        """Shards that are listed; -1 if nothing is there yet."""
        manifest = out / "part-1-of-1" / "manifest.jsonl"
        return manifest.read_text().count("\n") if manifest.exists() else -1

    def killed(out: Path, shards: int, seconds: float) -> int:
        """Shards that were listed at the end of one killed `seconds` after it had listed `shards`."""
        started = server.Event()
        child = server.Process(target=_run, args=(out, torch.get_num_threads(), started))
        child.start()
        assert started.wait(120)
        while child.is_alive() and listed(out) < shards:
            time.sleep(1e-4)
        child.join(seconds)
        child.kill()
        child.join()
        return listed(out)

    model, prompts, start = subject(), texts(200), time.monotonic()
    store.capture(model, prompts, sites=SITES, out=tmp_path / "whole", **SMALL)
    lines = listed(tmp_path / "whole")
    a_shard = (time.monotonic() - start) / lines
    stages, random = set(), np.random.default_rng()  # never the same
    for number, shards in enumerate(random.integers(-1, lines, size=KILLS)):
        out, wait = tmp_path / f"killed-{number}", float(random.uniform(0, a_shard))
        stages.add(killed(out, int(shards), wait))
        store.capture(model, prompts, sites=SITES, out=out, resume=True, **SMALL)
        assert contents(out) == contents(tmp_path / "whole"), f"killed {wait:.4f} s after shard {shards}"
    assert len(stages) > 2, f"the kills came at too few stages: {stages}"


@pytest.mark.parametrize("at", (1, 2, 3, 4, 6, 9))
def test_any_write_may_be_the_last(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fails at the n-th sync: what is listed is whole, and the capture goes on."""
    model, sync, calls = subject(), os.fsync, 0
    store.capture(model, texts(), sites=SITES, out=tmp_path / "whole", **SMALL)

    def failing(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError(28, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(InputError, match=r"the disk is full\. Make room there and go on with --resume"):
            store.capture(model, texts(), sites=SITES, out=tmp_path / "c", **SMALL)
    store.capture(model, texts(), sites=SITES, out=tmp_path / "c", resume=True, **SMALL)
    assert contents(tmp_path / "c") == contents(tmp_path / "whole")


def test_a_torn_line_of_the_manifest_is_written_again(tmp_path: Path) -> None:
    model, out = subject(), tmp_path / "c"
    store.capture(model, texts(), sites=SITES, out=out, **SMALL)
    whole, manifest = contents(out), out / "part-1-of-1" / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"unfinished: .* --resume"):
        open_capture(out)
    store.capture(model, texts(), sites=SITES, out=out, resume=True, **SMALL)
    assert contents(out) == whole
    store.capture(model, texts(), sites=SITES, out=out, resume=True, **SMALL)  # complete: nothing to do
    assert contents(out) == whole


def test_other_weights_do_not_go_on_with_a_capture(tmp_path: Path) -> None:
    model, out = subject(), tmp_path / "c"
    assert not model.digest
    store.capture(model, texts(), sites=SITES, out=out, **SMALL)
    (out / "part-1-of-1" / "manifest.jsonl").unlink()
    with torch.no_grad():
        next(model.module.parameters()).mul_(1.3)
    with pytest.raises(InputError, match="differs in model"):
        store.capture(model, texts(), sites=SITES, out=out, resume=True, **SMALL)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    out = tmp_path / "c"
    (out / "part-1-of-1").mkdir(parents=True)
    with (
        durable.alone(out / "part-1-of-1"),
        pytest.raises(InputError, match="Another process is writing"),
    ):
        store.capture(subject(), texts(), sites=SITES, out=out, **SMALL)
    store.capture(subject(), texts(), sites=SITES, out=out, **SMALL)


def test_nothing_foreign_is_touched(tmp_path: Path) -> None:
    model, part = subject(), tmp_path / "c" / "part-1-of-1"
    part.mkdir(parents=True)
    (part / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"thesis.txt, which no capture wrote"):
        store.capture(model, texts(), sites=SITES, out=tmp_path / "c", **SMALL)
    assert contents(tmp_path / "c") == {"part-1-of-1/thesis.txt": b"mine"}


def test_another_capture_is_not_continued(tmp_path: Path) -> None:
    model, out = subject(), tmp_path / "c"
    store.capture(model, texts(), sites=SITES, out=out, **SMALL)
    before = contents(out)
    with pytest.raises(InputError, match="--resume"):
        store.capture(model, texts(), sites=SITES, out=out, **SMALL)
    with pytest.raises(InputError, match=r"differs in sites"):
        store.capture(model, texts(), sites=SITES[:1], out=out, resume=True, **SMALL)
    with pytest.raises(InputError, match=r"differs in .*text_digest"):
        store.capture(model, texts(25), sites=SITES, out=out, resume=True, **SMALL)
    assert contents(out) == before


def test_too_small_a_disk_is_seen_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
    with pytest.raises(InputError, match="Nothing was written"):
        store.capture(subject(), texts(), sites=SITES, out=tmp_path / "c", **SMALL)
    assert not (tmp_path / "c").exists()


def test_what_is_asked_wrongly(tmp_path: Path) -> None:
    model, out = subject(), tmp_path / "c"
    for change, words in {
        "sites": ([], "at least one site"),
        "dtype": (torch.float16, "float32 or bfloat16"),
        "shard": ((4, 3), "1 <= i <= n, got 4/3"),
        "batch_size": (0, "at least 1, got 0"),
    }.items():
        given: dict[str, Any] = {"sites": SITES, "out": out} | {change: words[0]}
        with pytest.raises(InputError, match=words[1]):
            store.capture(model, texts(), **given)
    with pytest.raises(InputError, match=r"too few for 30 parts"):
        store.capture(model, texts(), sites=SITES, out=out, shard=(2, 30))
    with pytest.raises(InputError, match=r"did you mean"):
        store.capture(model, texts(), sites=["blocks.1.hook_resid_pots"], out=out)
    assert not out.exists()


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    store.capture(subject(), texts(), sites=SITES, out=tmp_path / "c", **SMALL)
    whole, part = contents(tmp_path / "c"), tmp_path / "c" / "part-1-of-1"
    (part / ".tmpyjjQmN").write_bytes(b"half")
    (part / "manifest.jsonl").write_bytes((part / "manifest.jsonl").read_bytes()[:-20])
    store.capture(subject(), texts(), sites=SITES, out=tmp_path / "c", resume=True, **SMALL)
    assert contents(tmp_path / "c") == whole
