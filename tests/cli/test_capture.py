"""`capture`: sites of a corpus on disk, from the shell."""

from pathlib import Path

import pytest

from engram_interp import depth
from engram_interp.capture import record
from engram_interp.capture.store import open_capture
from engram_interp.checkpoints import load_model
from engram_interp.data import prompts
from engram_interp.data.documents import documents
from tests.capture.corpus import contents
from tests.checkpoints import v41
from tests.cli.harness import one_line, run

RESIDUALS = "blocks.*.hook_resid_post"


def test_two_captures_are_compared(folder: Path, tmp_path: Path) -> None:
    models = [load_model(folder / name) for name in ("engram", "baseline")]
    for model in models:
        result = run(
            "capture", folder / model.name, "--text", folder / "text.txt", folder / "other.txt",
            "--sites", RESIDUALS, "hook_embed", "--out", tmp_path / model.name,
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
        assert f"{tmp_path / model.name}: 8 sites of {model.name} at " in result.stdout
        assert "of 95 prompts" in result.stdout
        assert "95 prompts" in result.stderr
        assert "tokens" in result.stderr
    texts = list(documents([folder / "text.txt", folder / "other.txt"]))
    captures = [open_capture(tmp_path / model.name) for model in models]
    found = depth.compare(captures[0], captures[1], n_boot=20)
    assert found.data.equals(depth.compare(models[0], models[1], texts, n_boot=20).data)


def test_marked_entities_are_kept(folder: Path, tmp_path: Path) -> None:
    marked = tmp_path / "marked.txt"
    marked.write_text("[[Kalo]] met the vel\nthe [[Dor]] of [[Miren]]\n", encoding="utf-8")
    result = run(
        "capture", folder / "engram", "--prompts", marked, "--sites", RESIDUALS, "--out", tmp_path / "c"
    )
    assert result.exit_code == 0, result.stderr
    encoded = open_capture(tmp_path / "c").encoded
    assert [len(ends) for ends in encoded.entity_ends] == [1, 2]


def test_long_documents_are_cut_or_split(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder / "engram")
    for long in ("cut", "split"):
        result = run(
            "capture", folder / "engram", "--text", folder / "valid.txt", "--long", long,
            "--sites", "hook_embed", "--out", tmp_path / long,
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
    cut, split = (open_capture(tmp_path / long).encoded for long in ("cut", "split"))
    whole = [model.to_tokens(text)[0].tolist() for text in documents([folder / "valid.txt"])]
    assert len(cut) == len(whole)
    assert "its first 29 were analysed" in " ".join(cut.notes)
    assert not split.notes
    rows = [ids[mask].tolist() for ids, mask in zip(split.tokens, split.mask, strict=True)]
    assert sum(len(row) - 1 for row in rows) == sum(len(ids) - 1 for ids in whole)
    assert all(row[0] == model.separator_id and len(row) <= 29 for row in rows)


def test_interrupted_and_resumed_in_shares(folder: Path, tmp_path: Path) -> None:
    base = ("capture", folder / "engram", "--text", folder / "text.txt", "--sites", RESIDUALS, "--batch", 7)
    for share in ("2/2", "1/2"):
        assert run(*base, "--out", tmp_path / "c", "--shard", share).exit_code == 0
    (tmp_path / "c" / "part-1-of-2" / "manifest.jsonl").unlink()
    one_line(run(*base, "--out", tmp_path / "c", "--shard", "1/2"), "holds a capture", "--resume")
    assert run(*base, "--out", tmp_path / "c", "--shard", "1/2", "--resume").exit_code == 0
    model = load_model(folder / "engram")
    rec = record(
        model, prompts.from_texts(list(documents([folder / "text.txt"]))), sites=[RESIDUALS], batch_size=7
    )
    found = open_capture(tmp_path / "c")
    for site, values in rec.sites.items():
        assert found.read(site, slice(0, 10**9)).equal(values[rec.mask])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sites", "blocks.1.hook_resid_pots"], ["has no site", "did you mean"]),
        (["--sites", RESIDUALS, "--shard", "5/4"], ["1 <= i <= n", "5/4"]),
        (["--sites", "blocks.0.engram.hook_gate"], ["layers with a memory: [1, 2]"]),
    ],
)
def test_what_is_asked_wrongly(arguments: list[str], words: list[str], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    one_line(
        run("capture", folder / "engram", "--text", folder / "one.txt", "--out", out, *arguments), *words
    )
    assert not out.exists()


def test_bad_usage(folder: Path, tmp_path: Path) -> None:
    base = ("capture", folder / "engram", "--sites", RESIDUALS, "--out", tmp_path / "c")
    for more, words in (((), "--text or --prompts"), (("--text", folder / "one.txt", "--shard", "x"), "i/n")):
        result = run(*base, *more)
        assert result.exit_code == 2
        assert words in result.stderr


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random DeepSeek-V4.1 checkpoint."""
    return v41.write(tmp_path_factory.mktemp("v41") / "tiny")


def test_a_v41_model_is_streamed_and_its_cost_said_first(
    released: Path, folder: Path, tmp_path: Path
) -> None:
    base = (
        "capture", released, "--text", folder / "one.txt", "--sites", RESIDUALS, "blocks.*.engram.hook_gate",
        "--stop-after-layer", 3,
    )  # fmt: skip
    said = run(*base, "--out", tmp_path / "none", "--plan")
    assert said.exit_code == 0, said.stderr
    assert "layers   0 to 3, " in said.stdout
    for word in ("of weights, once", "TFLOP", "minutes", "state", "of output"):
        assert word in said.stdout
    assert not (tmp_path / "none").exists()
    for weights in ("disk", "memory"):
        result = run(*base, "--out", tmp_path / weights, "--weights", weights)
        assert result.exit_code == 0, result.stderr
        assert ("layers   0 to 3, " in result.stderr) is (weights == "disk")
        assert "6 sites of tiny at " in result.stdout
    assert contents(tmp_path / "disk") == contents(tmp_path / "memory")


def test_only_a_v41_model_can_be_left_on_the_disk(folder: Path, tmp_path: Path) -> None:
    base = ("capture", folder / "engram", "--text", folder / "one.txt", "--sites", RESIDUALS)
    one_line(run(*base, "--out", tmp_path / "c", "--plan"), "Only models of family deepseek_v41")
    result = run(*base, "--out", tmp_path / "c", "--stop-after-layer", 2)
    assert result.exit_code == 0, result.stderr
    assert list(open_capture(tmp_path / "c").sites) == [f"blocks.{n}.hook_resid_post" for n in range(3)]
