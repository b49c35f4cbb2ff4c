"""Native checkpoints: what survives a save, and what a damaged one says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engram_interp.checkpoints import SubjectModel, load_model
from engram_interp.checkpoints.files import file_digest
from engram_interp.checkpoints.native import save_native, subject_of
from engram_interp.data.tokenizer import train_tokenizer
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.memory import hashing
from engram_interp.memory.hashing import Layout
from engram_interp.model.transformer import HookedEngramTransformer
from tests import support

IDS = support.token_ids(2, 13)


def wide() -> HookedEngramTransformer:
    """Rows of 64 channels, so that eight-bit tables have two scales a row."""
    return support.model(support.model_config(memory=support.memory_config(d_row=64, rows=20), n_experts=3))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = support.model()
    hits = [torch.arange(int(n), dtype=torch.int32) for n in model.layout.rows] if model.layout else []
    return save_native(tmp_path / "tiny", model, tokenizer=support.tokenizer(), hits=hits)


def test_float32_comes_back_bit_identical(saved: Path) -> None:
    subject = load_model(saved)
    assert isinstance(subject, SubjectModel)
    assert subject.module(IDS).equal(support.model()(IDS))
    assert (subject.name, subject.family, subject.memory_layers) == ("tiny", "native", (1, 2))
    assert (subject.n_layers, subject.d_model, subject.n_streams, subject.n_ctx) == (4, 20, 1, support.N_CTX)
    assert subject.digest == file_digest(saved / "model.safetensors")
    assert subject.layout is not None
    assert {k: v.tolist() for k, v in subject.hits.items()} == {
        layer: list(range(int(n))) for layer, n in zip((1, 2), subject.layout.rows, strict=True)
    }
    assert not any(p.requires_grad for p in subject.module.parameters())
    assert not subject.module.training
    assert sorted(p.name for p in saved.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (saved / "model.safetensors").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("dtype", "tables", "dense_error", "row_error"),
    [
        ("bfloat16", "bfloat16", 2**-8, 2**-8),
        ("float32", "float8_e4m3", 0, 2**-3),
        ("bfloat16", "float32", 2**-8, 0),
    ],
)
def test_smaller_types_round_and_no_more(
    tmp_path: Path, dtype: Any, tables: Any, dense_error: float, row_error: float
) -> None:
    model = wide()
    save_native(tmp_path, model, tokenizer=support.tokenizer(), dtype=dtype, tables=tables)
    loaded = load_model(tmp_path).module.state_dict()
    for name, value in model.state_dict().items():
        assert loaded[name].dtype == value.dtype
        allowed = row_error if name.endswith("table.weight") else dense_error
        error = (loaded[name] - value).abs()
        if tables == "float8_e4m3" and name.endswith("table.weight"):
            largest = value.unflatten(-1, (2, 32)).abs().amax(-1, keepdim=True).expand(-1, -1, 32).flatten(-2)
            assert (error <= 2**-4 * value.abs() + largest * 2**-9).all(), name
        else:
            assert (error <= allowed * value.abs()).all(), name
    sizes = (tmp_path / "model.safetensors").stat().st_size
    assert sizes < sum(v.numel() * v.element_size() for v in model.state_dict().values()) + 20_000


def test_eight_bit_tables_are_stored_as_such(tmp_path: Path) -> None:
    save_native(tmp_path, wide(), tokenizer=support.tokenizer(), tables="float8_e4m3")
    tensors = load_file(tmp_path / "model.safetensors")
    table = tensors["blocks.1.engram.table.weight"]
    assert table.dtype == torch.float8_e4m3fn
    assert tensors["blocks.1.engram.table.scale"].shape == (len(table), 2)
    narrow = support.model(support.model_config(memory=support.memory_config(d_row=40, rows=20)))
    with pytest.raises(InputError, match="a width that 32 divides, got 40"):
        save_native(tmp_path, narrow, tokenizer=support.tokenizer(), tables="float8_e4m3")


@pytest.mark.parametrize("n_streams", [1, 4])
def test_baselines_and_streams_come_back(tmp_path: Path, n_streams: int) -> None:
    model = support.model(support.model_config(n_streams=n_streams))
    subject = load_model(save_native(tmp_path / "base", model, tokenizer=support.tokenizer()), name="other")
    assert (subject.name, subject.memory_layers, subject.layout) == ("other", (), None)
    assert subject.module(IDS).equal(model(IDS))
    assert (subject.readout is None) is (n_streams == 1)
    assert subject.lens_head is not None
    resid = torch.randn(3, 20)
    torch.testing.assert_close(subject.lens_head(resid), model.unembed(model.ln_final(resid)))


def test_explicit_layouts_and_raw_ids_come_back(tmp_path: Path) -> None:
    memory = support.memory_config(hash_rule="explicit", compression="none")
    layout = Layout(
        primes=np.arange(12).reshape(2, 2, 3) + 4, multipliers=np.arange(6).reshape(2, 3), layer_ids=(1, 2)
    )
    model = HookedEngramTransformer(support.model_config(memory=memory), layout=layout)
    subject = load_model(save_native(tmp_path, model, tokenizer=support.tokenizer()))
    assert subject.module(IDS).equal(model(IDS))
    assert subject.layout is not None
    assert subject.layout.primes.tolist() == layout.primes.tolist()
    assert subject.rebuild is not None
    assert subject.rebuild().state_dict().keys() == model.state_dict().keys()


def test_a_fresh_copy_is_the_model_at_its_start(saved: Path) -> None:
    subject = load_model(saved)
    assert subject.rebuild is not None
    start = HookedEngramTransformer(
        support.model_config(memory=support.memory_config()),
        token_map=hashing.token_map(support.tokenizer())[0],
    )
    fresh = subject.rebuild().state_dict()
    assert all(v.equal(fresh[k]) for k, v in start.state_dict().items())
    assert subject.rebuild() is not subject.module


def test_texts_become_tokens(saved: Path) -> None:
    subject = load_model(saved)
    ids = subject.to_tokens("Karen")
    assert ids[0].tolist() == [0, *subject.tokenizer.encode("Karen").ids]
    assert "".join(subject.token_text(int(i)) for i in ids[0, 1:]) == "Karen"
    with pytest.raises(InputError, match="The prompt is empty; give at least one character"):
        subject.to_tokens("")
    logits, cache = subject.run_with_cache(ids)
    assert cache["gate", 1, "engram"].shape == (1, ids.shape[1], 1)
    assert subject.logits(ids).shape == logits.shape


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def retensor(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def cut(path: Path, by: int = 100) -> None:
    path.write_bytes(path.read_bytes()[:-by])


BROKEN: list[tuple[Callable[[Path], Any], type[InputError], str]] = [
    (lambda d: (d / "config.json").unlink(), InputError, r"No config.json in .*tiny; give a model directory"),
    (lambda d: (d / "model.safetensors").unlink(), InputError, r"No weights at .*model.safetensors"),
    (lambda d: (d / "tokenizer.json").unlink(), InputError, r"No tokenizer at .*tokenizer.json"),
    (lambda d: cut(d / "model.safetensors"), DamagedFileError, r"cannot be read as safetensors .* cut short"),
    (lambda d: (d / "model.safetensors").write_bytes(b""), DamagedFileError, r"0 bytes\); it may be cut"),
    (lambda d: cut(d / "config.json", 9), DamagedFileError, r"config.json is not valid JSON \(.*fetch"),
    (lambda d: (d / "config.json").write_text("[1]"), DamagedFileError, "hold a JSON object, got a list"),
    (lambda d: cut(d / "tokenizer.json"), DamagedFileError, r"tokenizer.json is not a tokenizer file"),
    (
        lambda d: rewrite(d / "config.json", lambda c: c.update(model_type="unheard_of")),
        InputError,
        r"of family 'unheard_of', which this version does not load; it loads .*checkpoints.wrap",
    ),
    (
        lambda d: rewrite(d / "config.json", lambda c: c.update(format=99)),
        InputError,
        r"native format 99 and this version reads 1; upgrade",
    ),
    (
        lambda d: rewrite(d / "config.json", lambda c: c["model"].pop("n_heads")),
        InputError,
        r"model configuration has unknown keys \[\] and lacks \['n_heads'\]",
    ),
    (
        lambda d: rewrite(d / "config.json", lambda c: c["model"].update(n_layers="four")),
        DamagedFileError,
        r"The model described in .*config.json cannot be built",
    ),
    (
        lambda d: rewrite(d / "config.json", lambda c: c.update(model=[])),
        InputError,
        r"lacks \['d_mlp', 'd_model', 'd_vocab', 'n_ctx', 'n_heads', 'n_layers'\]; it was made by",
    ),
    (
        lambda d: rewrite(d / "config.json", lambda c: c["model"]["engram"].update(seed=5)),
        InputError,
        r"The hash layout rebuilt for .* differs from the one it was trained with",
    ),
    (
        lambda d: rewrite(d / "config.json", lambda c: c["model"]["engram"].update(hash_rule="explicit")),
        DamagedFileError,
        r"says its hash layout is explicit and holds none",
    ),
    (
        lambda d: retensor(d / "model.safetensors", lambda t: t.update({"embed.weight": torch.zeros(3, 20)})),
        DamagedFileError,
        r"does not fit its config.json: embed.weight \(\[3, 20\] for \[331, 20\]\); the two files belong",
    ),
    (
        lambda d: retensor(d / "model.safetensors", lambda t: t.pop("blocks.1.engram.key.weight")),
        DamagedFileError,
        r"blocks.1.engram.key.weight \(missing\)",
    ),
    (
        lambda d: retensor(d / "model.safetensors", lambda t: t.update(extra=torch.zeros(1))),
        DamagedFileError,
        r"extra \(unknown\)",
    ),
    (
        lambda d: retensor(d / "model.safetensors", lambda t: [t.pop(k) for k in list(t)[:7]]),
        DamagedFileError,
        r"and 3 more; the two",
    ),
    (
        lambda d: retensor(
            d / "model.safetensors", lambda t: t.update({"blocks.1.engram.hits": torch.ones(3)})
        ),
        DamagedFileError,
        r"hits of layer 1 \(3 for \d+\)",
    ),
]


@pytest.mark.parametrize(("damage", "kind", "message"), BROKEN)
def test_what_is_wrong_with_a_checkpoint_is_said(
    saved: Path, damage: Callable[[Path], Any], kind: type[InputError], message: str
) -> None:
    damage(saved)
    with support.shapes_unchecked(), pytest.raises(kind, match=message) as raised:
        load_model(saved)
    assert "\n" not in str(raised.value)


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No model directory at .*nowhere; give a directory that holds"):
        load_model(tmp_path / "nowhere")


def test_tokenizers_of_another_model_are_refused(saved: Path) -> None:
    train_tokenizer(support.documents(60, seed=4), d_vocab=300).save(str(saved / "tokenizer.json"))
    with pytest.raises(InputError, match=r"has 300 ids and the model 331; put the model's own"):
        load_model(saved)
    other = train_tokenizer([t.swapcase() for t in support.documents(200)], d_vocab=support.D_VOCAB)
    assert other.get_vocab_size() == support.D_VOCAB
    other.save(str(saved / "tokenizer.json"))
    with pytest.raises(InputError, match=r"compresses to another vocabulary \(\d+ canonical ids\) than the"):
        load_model(saved)


def test_a_model_in_memory_is_a_subject_too() -> None:
    subject = subject_of(support.model(), support.tokenizer(), name="mine")
    assert (subject.name, subject.digest, dict(subject.hits)) == ("mine", "", {})
    with subject.hooks(fwd_hooks=[("blocks.1.engram.hook_gate", lambda gate, hook: gate * 0)]):
        changed = subject.logits(IDS)
    assert not changed.equal(subject.logits(IDS))


@pytest.mark.parametrize("text", ['{"model_type": "llama"}', '["engram_interp"]', "not json", ""])
def test_the_config_of_another_model_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"config.json was not written by engram-interp and was not changed"):
        save_native(tmp_path, support.model(), tokenizer=support.tokenizer())
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("count", [1, 3])
def test_hits_of_too_few_or_too_many_layers_are_refused(tmp_path: Path, count: int) -> None:
    hits = [torch.zeros(3, dtype=torch.int32)] * count
    with pytest.raises(InputError, match=rf"one tensor per memory layer \(1, 2\), or none.*got {count}"):
        save_native(tmp_path / "new", support.model(), tokenizer=support.tokenizer(), hits=hits)
    assert not (tmp_path / "new").exists()


def test_an_interrupted_save_leaves_whole_files(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p: p.read_bytes() for p in saved.iterdir()}
    whole = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if target.name == "config.json":
            raise KeyboardInterrupt
        return whole(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_native(saved, wide(), tokenizer=support.tokenizer())
    after = {p: p.read_bytes() for p in saved.iterdir()}
    assert set(after) == set(before)
    assert after[saved / "config.json"] == before[saved / "config.json"]
