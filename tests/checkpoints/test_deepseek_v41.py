"""DeepSeek-V4.1 directories: opened when they are what we know, refused by name when they are not."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engram_interp import gates, lens, slots
from engram_interp.capture import record
from engram_interp.checkpoints import load_model
from engram_interp.checkpoints.address_book import open_addresses
from engram_interp.checkpoints.deepseek_v41 import layout
from engram_interp.checkpoints.deepseek_v41.config import config_of, ignored_settings
from engram_interp.checkpoints.deepseek_v41.generate import files, released_config
from engram_interp.checkpoints.deepseek_v41.loading import decoded_bytes, on_disk
from engram_interp.checkpoints.sharded import INDEX
from engram_interp.checkpoints.tensor_files import header_of, read_header, write_tensors
from engram_interp.errors import DamagedFileError, InputError
from tests import support
from tests.checkpoints import v41


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return v41.write(tmp_path_factory.mktemp("v41") / "tiny")


def test_what_is_opened(folder: Path) -> None:
    model = load_model(folder)
    assert (model.n_layers, model.d_model, model.n_streams, model.memory_layers) == (5, 96, 3, (0, 3))
    assert not on_disk(model)
    assert "ignored on purpose: vision., aligner., image_, mtp." in " ".join(model.notes)
    left = load_model(folder, weights="disk")
    assert on_disk(left)
    assert left.digest == model.digest
    assert list(left.sites) == list(model.sites)
    cfg = config_of(json.loads((folder / "config.json").read_text()))
    assert decoded_bytes(cfg) == sum(p.nbytes for p in model.module.parameters()) + 4 * 5 * 7
    with pytest.raises(InputError, match=r"left on the disk.*engram-interp capture"):
        record(left, v41.prompts(4))


def test_weights_are_where_they_belong(folder: Path) -> None:
    """One tensor of each kind against its bytes, decoded by hand."""
    model = load_model(folder).module
    shards = {p.name: p for p in folder.glob("*.safetensors")}
    index = json.loads((folder / INDEX).read_text())["weight_map"]

    def raw(name: str) -> torch.Tensor:
        place = read_header(shards[index[name]])[name]
        data = shards[index[name]].read_bytes()[place.start : place.start + place.bytes]
        return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(*place.shape, -1).squeeze(-1)

    weight = raw("layers.2.attn.wq_b.weight").view(torch.float8_e4m3fn).float()
    scale = raw("layers.2.attn.wq_b.scale").view(torch.float8_e8m0fnu).float()
    big = scale.repeat_interleave(32, 0).repeat_interleave(32, 1)[: weight.shape[0], : weight.shape[1]]
    assert model.get_parameter("blocks.2.attn.q_up.weight").equal(weight * big)
    packed = raw("layers.4.ffn.experts.6.w2.weight")
    table = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    nibbles = torch.stack([packed % 16, packed // 16], dim=-1).flatten(1).long()
    values = torch.where(nibbles < 8, 1.0, -1.0) * table[nibbles % 8]
    by_row = raw("layers.4.ffn.experts.6.w2.scale").view(torch.float8_e8m0fnu).float()
    wanted = values * by_row.repeat_interleave(32, 1)[:, : values.shape[1]]
    assert model.get_parameter("blocks.4.mlp.experts.6.out.weight").equal(wanted)
    keys = model.get_parameter("blocks.3.engram.key.weight")
    assert keys.shape == (3 * 96, 2 * 3 * 32)
    assert model.get_parameter("blocks.3.engram.value.weight").shape == (96, 2 * 3 * 32)
    rows = raw("layers.3.engram.embed.weight").view(torch.float8_e4m3fn).float()
    each = raw("layers.3.engram.embed.scale").view(torch.float8_e8m0fnu).float()
    assert model.get_parameter("blocks.3.engram.table.weight").equal(rows * each.repeat_interleave(32, 1))


def test_analyses_run(folder: Path) -> None:
    model, texts = load_model(folder), support.documents(3)
    assert gates.read(model, texts).data["gate"].sizes["stream"] == 3
    found = gates.statistics(model, texts, n_boot=5, n_inits=0)
    assert found.data["null_mean"].sel(null="rows permuted").notnull().all()
    assert found.data["null_mean"].sel(null="untrained").isnull().all()
    looked = slots.lookup(model, texts[0])
    shares = looked.data["share"].sum("column")
    assert torch.allclose(torch.from_numpy(shares.values), torch.ones_like(torch.from_numpy(shares.values)))
    said = lens.convergence(model, texts, n_boot=5)
    assert float(said.data["kl"][-1]) < 1e-6 < float(said.data["kl"][0])


@pytest.mark.parametrize("top", [True, False])
def test_the_memory_does_not_see_images(top: bool, folder: Path, tmp_path: Path) -> None:
    """Addresses are the book's, the gate is shut there and only there, and attention does see the image."""
    shutil.copytree(folder, tmp_path / "seeing")
    _config(lambda v: (v if top else v["text_config"]).update(image_token_id=7))(tmp_path / "seeing")
    model, book = load_model(tmp_path / "seeing"), open_addresses(tmp_path / "seeing")
    ids = [0, 40, 7, 41, 42, 43]
    looked, wanted = slots.lookup(model, ids).data, slots.addresses(book, ids).data
    assert looked["address"].equals(wanted["address"])
    assert looked["ngram"].equals(wanted["ngram"])
    shut = (looked["gate"] == 0).all("stream")
    assert shut.values.tolist() == [[place == 2] * 2 for place in range(len(ids))]
    others = [0, 40, 7, 41, 42, 44], [0, 40, 6, 41, 42, 43]
    logits = [model.logits(torch.tensor([each]))[0] for each in (ids, *others)]
    assert torch.equal(logits[0][:5], logits[1][:5])
    assert not torch.allclose(logits[0][5], logits[2][5])


@pytest.mark.parametrize("top", [True, False])
def test_the_opening_token_is_the_books(top: bool, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "other")
    _config(lambda v: v.pop("bos_token_id"))(tmp_path / "other")
    _config(lambda v: (v if top else v["text_config"]).update(bos_token_id=3))(tmp_path / "other")
    assert load_model(tmp_path / "other", weights="disk").separator_id == 3
    assert open_addresses(tmp_path / "other").model.separator_id == 3


def _config(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text())
        change(values)
        (folder / "config.json").write_text(json.dumps(values))

    return changed


def _text(**changes: Any) -> Callable[[Path], None]:
    return _config(lambda values: values["text_config"].update(changes))


def _index(change: Callable[[dict[str, str]], Any]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        values = json.loads((folder / INDEX).read_text())
        change(values["weight_map"])
        (folder / INDEX).write_text(json.dumps(values))

    return changed


def _rows_cut(folder: Path) -> None:
    [path] = (p for p in folder.glob("*.safetensors") if "layers.3.engram.embed.weight" in read_header(p))
    from engram_interp.checkpoints.tensor_files import Reader

    with Reader() as reader:
        tensors = {name: reader.tensor(place) for name, place in read_header(path).items()}
    for part in ("weight", "scale"):
        name = f"layers.3.engram.embed.{part}"
        tensors[name] = tensors[name][:-3]
    write_tensors(path, tensors)


def _other_tokenizer(folder: Path) -> None:
    from engram_interp.data.tokenizer import train_tokenizer

    train_tokenizer(["the THE The tHe thE"] * 9, d_vocab=support.D_VOCAB - 60).save(
        str(folder / "tokenizer.json")
    )


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (_text(scoring_func="sigmoid"), InputError, "scoring_func='sigmoid'"),
        (_text(engram_hash="blake"), InputError, "that we do not know .*engram_hash='blake'"),
        (_config(lambda v: v["quantization_config"].update(expert_dtype="fp8")), InputError, "expert_dtype"),
        (_config(lambda v: v.pop("text_config")), DamagedFileError, "no text_config"),
        (_config(lambda v: v["text_config"].pop("q_lora_rank")), DamagedFileError, "KeyError: 'q_lora_rank'"),
        (_text(kv_source_layer_ids=[3]), InputError, "Layer 1 reads entries of 3 tokens and no layer"),
        (_text(rope_scaling={"rope_type": "linear"}), InputError, "by yarn or not at all, got 'linear'"),
        (_text(engram_num_embeddings=[1, 2]), DamagedFileError, r"another table rows than the config gives"),
        (_text(engram_num_embeddings=[1149]), InputError, r"a table of at least 1 row each, .*\[1149\]"),
        (_config(lambda v: v["text_config"].pop("engram_num_embeddings")), DamagedFileError, "m_embeddings"),
        (_text(hidden_size="96"), DamagedFileError, "hidden_size='96', which wants to be a whole number"),
        (_text(hc_eps="x"), DamagedFileError, "hc_eps='x', which wants to be a number"),
        (_text(compress_ratios=[0, "3"]), DamagedFileError, "wants to be a list of whole numbers"),
        (_text(norm_topk_prob=1), DamagedFileError, "norm_topk_prob=1, which wants to be true or false"),
        (_text(rope_scaling=[1]), DamagedFileError, "does not describe a V4.1 backbone"),
        (_text(num_attention_heads=0), InputError, "n_heads of at least 1, got 0"),
        (_text(engram_pad_token_id=99_999), InputError, "padding token wants to lie in 0 … .* got 99999"),
        (_config(lambda v: v.update(bos_token_id=-4)), InputError, "opens a text wants .* got -4"),
        (_text(candidate_block_size=0), InputError, "at least 1 block of at least 1 entry, got 2 of 0"),
        (_text(candidate_topk_blocks=0), InputError, "at least 1 block of at least 1 entry, got 0 of 3"),
        (_text(candidate_source_layer_id=99), InputError, r"\[1, 2, 3, 4\], or -1 for none, got 99"),
        (_rows_cut, DamagedFileError, r"layers.3.engram.embed.weight .* another table rows .*\[1169, 32\]"),
        (_other_tokenizer, InputError, "canonical ones, and the model wants 331 and"),
        (_index(lambda m: m.update({"layers.0.novelty": m["embed.weight"]})), DamagedFileError, "novelty"),
        (_index(lambda m: m.pop("norm.weight")), DamagedFileError, "they differ in norm.weight"),
        (lambda f: (f / "config.json").unlink(), InputError, "No config.json"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    change: Callable[[Path], None], kind: type[Exception], words: str, folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    change(broken)
    with pytest.raises(kind, match=words):
        load_model(broken)


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize(
    "key",
    [
        *("final_logit_softcapping", "logit_scale", "mlp_bias", "use_qk_norm", "layer_types"),
        *("first_k_dense_replace", "num_hash_layers", "sliding_window_sink", "engram_seed", "engram_hash"),
    ],
)
def test_a_setting_that_nobody_knows_is_refused(key: str, top: bool) -> None:
    made = released_config(support.tokenizer())
    (made if top else made["text_config"])[key] = 3
    with pytest.raises(InputError, match=f"that we do not know and that may change .*: {key}=3. It is not"):
        config_of(made)


def test_settings_of_other_parts_are_ignored() -> None:
    made = released_config(support.tokenizer(), dspark_block_size=5, initializer_range=0.02, use_cache=True)
    made |= {"vision_config": {"hidden_size": 16}, "video_token_id": 3, "transformers_version": "5.0.0"}
    assert config_of(made) == config_of(released_config(support.tokenizer()))
    assert ignored_settings(made) == (
        "dspark_block_size", "initializer_range", "num_nextn_predict_layers", "use_cache",
    )  # fmt: skip
    made["tie_word_embeddings"] = True
    with pytest.raises(InputError, match="tie_word_embeddings=True"):
        config_of(made)


def test_null_is_none() -> None:
    made = released_config(support.tokenizer(), candidate_source_layer_id=None, swiglu_limit=None)
    cfg = config_of(made)
    assert (cfg.candidate_source, cfg.expert_limit) == (None, 0.0)


def test_a_missing_shard_is_named_with_its_tensors(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    index = json.loads((broken / INDEX).read_text())["weight_map"]
    gone = index["layers.4.attn.wkv.weight"]
    (broken / index["mtp.0.attn_norm.weight"]).unlink()
    assert not on_disk(load_model(broken))  # nobody asks for that one
    (broken / gone).unlink()
    left = load_model(broken)
    assert on_disk(left)  # it may do for earlier layers
    with pytest.raises(InputError, match=rf"{gone} is missing; it holds layers.4.* and .* more. Fetch it"):
        record(left, v41.prompts(4))
    with pytest.raises(InputError, match=rf"{gone} is missing; it holds layers.4"):
        load_model(broken, weights="memory")
    path = broken / index["layers.1.attn.wkv.weight"]
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DamagedFileError, match=f"{path.name} is cut short"):
        load_model(broken)


def test_only_v41_is_left_on_the_disk() -> None:
    with pytest.raises(InputError, match="Only models of family deepseek_v41 can be streamed"):
        load_model(Path(load_model("planted").folder or ""), weights="disk")


def test_the_released_model_has_the_published_sizes() -> None:
    cfg = config_of(v41.RELEASED)
    names = layout.wanted(cfg)
    assert len(names) == sum(len(s) for s in files(cfg, drafts=0)[1:]) - 3  # without the images' delimiters
    assert names["layers.0.ffn.experts.383.w2.weight"] == ("I8", (5120, 1152))
    assert names["layers.14.engram.wkv.scale"] == ("F8_E8M0", (800, 192))
    assert names["layers.14.engram.embed.weight"] == ("F8_E4M3", (384016682, 256))
    assert "layers.20.attn.compressor.wgate.weight" not in names


@pytest.mark.shared
def test_the_released_headers_are_the_published_ones(shared_dir: Path) -> None:
    """Names, types, shapes and order of all tensors in the shards that we read, by their SHA-256."""
    path = shared_dir / "conformance" / "deepseek_v41_published_vectors.json"
    published = json.loads(path.read_text(encoding="utf-8"))["safetensors"]["header_bytes_and_sha256"]
    made = files(config_of(v41.RELEASED), drafts=3)
    assert len(made) == 48
    for number in (*range(2, 44), 47, 48):
        header = header_of(made[number - 1])[8:]
        assert [len(header), hashlib.sha256(header).hexdigest()] == published[str(number)], number


def test_a_generated_config_is_a_released_one() -> None:
    made = released_config(support.tokenizer())
    known = {
        *v41.RELEASED["text_config"],
        "attention_bias",
        "tie_word_embeddings",
        "num_nextn_predict_layers",
    }
    assert set(made["text_config"]) == known


def test_another_map_of_the_same_size_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config_of(json.loads((folder / "config.json").read_text()))
    published = {(cfg.d_vocab, cfg.n_canonical): "of another tokenizer"}
    monkeypatch.setattr("engram_interp.checkpoints.deepseek_v41.loading.PUBLISHED_MAPS", published)
    with pytest.raises(InputError, match="not as the released model's does: every hash would be wrong"):
        load_model(folder)
