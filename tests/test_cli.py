"""The command line: what it prints, what it writes, and how it fails."""

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from typer.testing import CliRunner, Result

from engram_interp import slots
from engram_interp.capture import record
from engram_interp.checkpoints import load_model
from engram_interp.checkpoints.native import save_native
from engram_interp.cli import app
from engram_interp.cli import explore as exploring
from engram_interp.cli.command import guarded, spread
from engram_interp.cli.progress import Clock, progress
from engram_interp.data.tokenizer import train_tokenizer
from engram_interp.errors import InputError
from tests import support

COMMANDS = ("explore", "report", "slots", "train", "evaluate")
RECIPE = """
name = "tiny"
d_vocab = 290
[model]
n_layers = 2
d_model = 20
n_heads = 2
d_mlp = 28
n_ctx = 16
[engram]
layer_ids = [1]
heads = 2
d_row = 6
rows = 60
[schedule]
tokens = 512
batch = 4
evaluate_every = 4
"""


def run(*arguments: object) -> Result:
    with support.shapes_unchecked():
        return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_line(result: Result, *words: str) -> None:
    """The command failed with one sentence on stderr that holds `words`, and nothing else."""
    assert result.exit_code == 1, result.stderr
    [line] = [line for line in result.stderr.splitlines() if "%" not in line]
    assert line.startswith("engram-interp: ")
    assert "unexpected" not in line
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in line
    assert not result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with memory, its baseline, text and prompts."""
    folder = tmp_path_factory.mktemp("cli")
    engram = support.model(support.model_config(n_layers=7, memory=support.memory_config()))
    save_native(folder / "engram", engram, tokenizer=support.tokenizer())
    baseline = support.model(support.model_config(n_layers=7), seed=3)
    save_native(folder / "baseline", baseline, tokenizer=support.tokenizer())
    for name, count, seed in (("text", 90, 0), ("valid", 12, 8), ("other", 5, 9)):
        text = "\n<|endoftext|>\n".join(support.documents(count, seed=seed))
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    (folder / "one.txt").write_text("Kalo and the vel met in Dor.\n", encoding="utf-8")
    (folder / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Examples:\n    engram-interp {command}" in result.stdout
    assert "--debug" in result.stdout


def test_help_loads_neither_torch_nor_streamlit() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from engram_interp.cli import app;"
        "assert CliRunner().invoke(app, ['report', '--help']).exit_code == 0;"
        "sys.exit(str({'torch', 'streamlit', 'transformers', 'xarray'} & set(sys.modules) or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version_and_no_command() -> None:
    assert run("--version").stdout.startswith("engram-interp 0.")
    assert run().exit_code == 2
    assert run("slotz").exit_code == 2


def test_an_option_takes_several_values() -> None:
    given = ["r", "--text", "a", "b", "--out", "c", "--", "--text", "d", "e"]
    wanted = ["r", "--text", "a", "--text", "b", "--out", "c", "--", "--text", "d", "e"]
    assert spread(given, {"--text"}) == wanted


class TestSlots:
    def test_json_says_what_the_look_up_gives(self, folder: Path) -> None:
        result = run("slots", folder / "engram", "--text", "The Kalo of Dor", "--json")
        found = json.loads(result.stdout, parse_constant=pytest.fail)
        wanted = slots.lookup(load_model(folder / "engram"), "The Kalo of Dor").data
        assert found["address"] == wanted["address"].values.tolist()
        assert found["hits"][0][0] == [None] * wanted.sizes["column"]
        assert found["token_ids"] == wanted["token_id"].values.tolist()
        assert len(found["records"]) == wanted["address"].size
        last = found["records"][-1]
        assert (last["layer"], last["order"], last["head"]) == (2, 3, 2)
        assert last["address"] == int(wanted["address"][-1, -1, -1])
        assert last["ngram"] == str(wanted["ngram"][-1, -1].item())

    def test_ids_are_taken_as_they_are(self, folder: Path) -> None:
        found = json.loads(run("slots", folder / "engram", "--ids", "0,3", "--json").stdout)
        assert found["token_ids"] == [0, 3]

    def test_the_table_is_for_reading(self, folder: Path) -> None:
        lines = run("slots", folder / "engram", "--text", "Kalo").stdout.splitlines()
        header = next(line for line in lines if line.startswith("token"))
        assert header.split()[-4:] == ["address", "norm", "hits", "share"]
        assert sum(line.lstrip()[:1].isdigit() for line in lines[1:]) % 12 == 0

    @pytest.mark.parametrize("arguments", [[], ["--text", "a", "--ids", "1"], ["--ids", "1,x"]])
    def test_bad_usage(self, folder: Path, arguments: list[str]) -> None:
        result = run("slots", folder / "engram", *arguments)
        assert result.exit_code == 2
        assert "--ids" in result.stderr

    def test_an_empty_prompt(self, folder: Path) -> None:
        one_line(run("slots", folder / "engram", "--text", ""), "prompt is empty", "at least one")

    def test_ids_out_of_range(self, folder: Path) -> None:
        one_line(run("slots", folder / "engram", "--ids", "0,99999"), "0 … 330")

    def test_a_prompt_longer_than_the_context_says_what_was_analysed(self, folder: Path) -> None:
        result = run("slots", folder / "engram", "--text", "Kalo " * 60)
        assert result.exit_code == 0
        assert f"its first {support.N_CTX} were analysed" in result.stderr

    def test_a_model_without_memory(self, folder: Path) -> None:
        one_line(run("slots", folder / "baseline", "--text", "a"), "no memory")

    def test_no_such_model(self, tmp_path: Path) -> None:
        one_line(run("slots", tmp_path / "nothing", "--text", "a"), "neither a model directory nor")


class TestDamagedModels:
    @pytest.fixture
    def model(self, folder: Path, tmp_path: Path) -> Path:
        copy = tmp_path / "model"
        copy.mkdir()
        for file in (folder / "engram").iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        return copy

    def test_weights_cut_short(self, model: Path) -> None:
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:5000])
        one_line(run("slots", model, "--text", "a"), "model.safetensors", "cut short")

    def test_an_unknown_family(self, model: Path) -> None:
        (model / "config.json").write_text('{"model_type": "mamba"}', encoding="utf-8")
        one_line(run("slots", model, "--text", "a"), "family 'mamba'", "it loads")

    def test_a_missing_file(self, model: Path) -> None:
        (model / "tokenizer.json").unlink()
        one_line(run("slots", model, "--text", "a"), "tokenizer")

    def test_a_tokenizer_of_another_compressed_vocabulary(self, model: Path) -> None:
        other = train_tokenizer([text.swapcase() for text in support.documents(60, seed=4)], d_vocab=331)
        other.save(str(model / "tokenizer.json"))
        one_line(run("slots", model, "--text", "a"), "compresses to another vocabulary", "canonical ids")

    def test_an_unknown_site_names_the_near_ones(self, folder: Path) -> None:
        model = load_model(folder / "engram")
        with pytest.raises(InputError, match=r"no site 'blocks\.1\.engram\.hook_gates'.*hook_gate"):
            record(model, "a", sites=["blocks.1.engram.hook_gates"])


class TestEvaluate:
    def test_nats_and_bits(self, folder: Path) -> None:
        result = run("evaluate", folder / "engram", "--text", folder / "valid.txt", "--json")
        found = json.loads(result.stdout)
        assert found["tokens"] % support.N_CTX == 0
        assert found["tokens_left_out"] < support.N_CTX
        ratio = found["tokens"] / found["bytes"] / math.log(2)
        assert found["bits_per_byte"] == pytest.approx(found["nats_per_token"] * ratio)
        text = (folder / "valid.txt").read_text(encoding="utf-8")
        assert 0.9 * len(text.encode()) < found["bytes"] < len(text.encode())
        assert found["documents"] == 12
        assert "of" in result.stderr

    def test_several_files_after_one_option(self, folder: Path) -> None:
        model, valid, other = (folder / name for name in ("engram", "valid.txt", "other.txt"))
        plain = run("evaluate", model, "--text", valid, other)
        assert plain.stdout == run("evaluate", model, "--text", valid, "--text", other).stdout
        assert "17 documents" in plain.stdout

    def test_too_little_text(self, folder: Path) -> None:
        result = run("evaluate", folder / "engram", "--text", folder / "one.txt")
        one_line(result, "one window wants 30", "give more text")

    def test_text_that_is_not_there(self, folder: Path) -> None:
        one_line(run("evaluate", folder / "engram", "--text", folder / "no.txt"), "No text file at")

    def test_text_that_is_no_text(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
        one_line(run("evaluate", folder / "engram", "--text", tmp_path / "x.txt"), "not UTF-8")


class TestTrain:
    def train(self, folder: Path, out: Path, *more: object) -> Result:
        texts = "--text", folder / "text.txt", folder / "other.txt", "--valid", folder / "valid.txt"
        return run("train", folder / "tiny.toml", *texts, "--out", out, *more)

    def test_it_writes_a_model_and_says_how_it_goes(self, folder: Path, tmp_path: Path) -> None:
        result = self.train(folder, tmp_path / "run", "--threads", 1)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.strip() == str(tmp_path / "run")
        assert load_model(tmp_path / "run").memory_layers == (1,)
        facts = json.loads((tmp_path / "run" / "training.json").read_text(encoding="utf-8"))
        assert facts["text_files"] == ["text.txt", "other.txt"]
        for word in ("step 8/8", "loss", "held-out", "tokens/s", "left"):
            assert word in result.stderr
        assert "add --resume" in self.train(folder, tmp_path / "run").stderr
        assert self.train(folder, tmp_path / "run", "--resume").exit_code == 0

    def test_a_directory_of_somebody_else(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
        result = self.train(folder, tmp_path)
        assert result.exit_code == 1
        assert "nothing was changed" in result.stderr
        assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]

    def test_no_such_recipe(self, folder: Path, tmp_path: Path) -> None:
        result = run("train", "nope", "--text", folder / "text.txt", "--out", tmp_path / "x")
        one_line(result, "No recipe 'nope'", "wiki-nano-engram")


class TestReport:
    def test_options_that_exclude_each_other(self, folder: Path, tmp_path: Path) -> None:
        models = "--engram", folder / "engram", "--baseline", folder / "baseline"
        assert run("report", "--pair", "wiki-nano", *models, "--out", tmp_path / "r").exit_code == 2
        alone = run("report", *models[:2], "--out", tmp_path / "r")
        assert alone.exit_code == 2
        assert "--baseline is missing" in alone.stderr
        assert run("report", "--markup", "none", "--out", tmp_path / "r").exit_code == 2
        assert run("report").exit_code == 2
        assert not (tmp_path / "r").exists()

    def test_a_directory_of_somebody_else_is_left_alone(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "index.html").write_text("mine", encoding="utf-8")
        one_line(run("report", "--out", tmp_path), "was not made by engram-interp report")
        assert (tmp_path / "index.html").read_text(encoding="utf-8") == "mine"
        one_line(run("report", "--out", tmp_path / "index.html"), "is not a directory")

    def test_inputs_that_are_not_there(self, folder: Path, tmp_path: Path) -> None:
        out = "--out", tmp_path / "r"
        one_line(run("report", "--pair", "nope", *out), "No packaged pair 'nope'", "wiki-nano")
        one_line(run("report", "--prompts", tmp_path / "no.txt", *out), "No prompt file at")
        missing = "--engram", folder / "engram", "--baseline", tmp_path / "no"
        one_line(run("report", *missing, *out), "No model directory at")
        swapped = "--engram", folder / "baseline", "--baseline", folder / "engram"
        one_line(run("report", *swapped, *out), "has no memory to report on")
        assert not (tmp_path / "r").exists()

    def test_one_prompt_gives_numbers_and_says_that_no_interval_is_possible(
        self, folder: Path, tmp_path: Path
    ) -> None:
        models = "--engram", folder / "engram", "--baseline", folder / "baseline"
        result = run("report", *models, "--prompts", folder / "one.txt", "--out", tmp_path / "r")
        assert result.exit_code == 0, result.stderr
        assert "no interval is possible" in result.stdout
        assert "no interval" in result.stderr.lower()
        assert "100%  done" in result.stderr
        page = (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
        assert "Before you read" in page
        assert (tmp_path / "r" / "engram-vs-baseline.engram" / "manifest.json").is_file()


class TestExplore:
    def test_bundles_are_checked_first(self, tmp_path: Path) -> None:
        one_line(run("explore", tmp_path / "no.engram"), "There is no bundle")
        (tmp_path / "x.engram").mkdir()
        (tmp_path / "x.engram" / "manifest.json").write_text("{", encoding="utf-8")
        one_line(run("explore", tmp_path / "x.engram"), "is not JSON")
        one_line(run("explore", tmp_path), "is not JSON")

    def test_the_launcher_gets_what_was_given(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
    ) -> None:
        given: dict[str, Any] = {}
        served: list[list[str]] = []

        def command(bundles: list[Path], **options: object) -> list[str]:
            given.update(options, bundles=bundles)
            return ["serve"]

        monkeypatch.setattr(exploring, "_launcher", lambda: SimpleNamespace(command=command))
        monkeypatch.setattr(exploring, "_run", served.append)
        monkeypatch.setattr("engram_interp.results.open_bundle", lambda path: path)
        result = run("explore", tmp_path, "--model", folder / "engram", "--no-browser")
        assert result.exit_code == 0, result.stderr
        assert served == [["serve"]]
        assert given == {
            "bundles": [tmp_path.resolve()], "model": (folder / "engram").resolve(),
            "port": None, "browser": False,
        }  # fmt: skip
        one_line(run("explore", tmp_path, "--model", tmp_path), "No model at")

    def test_a_port_in_use(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("engram_interp.results.open_bundle", lambda path: path)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            one_line(run("explore", tmp_path, "--port", port), f"Port {port} cannot be used")

    def test_a_server_that_fails_is_a_failure(self) -> None:
        with pytest.raises(Exception, match="3") as caught:
            exploring._run([sys.executable, "-c", "raise SystemExit(3)"])
        assert getattr(caught.value, "exit_code", None) == 3


def _fails(error: BaseException) -> NoReturn:
    raise error


class TestFailures:
    @pytest.fixture
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        def make(error: BaseException) -> None:
            monkeypatch.setattr("engram_interp.slots.lookup", lambda *_: _fails(error))

        return make

    def test_an_unexpected_error_is_one_line(self, failing: Any, folder: Path) -> None:
        failing(ZeroDivisionError("a\nb"))
        result = run("slots", folder / "engram", "--text", "a")
        assert result.exit_code == 1
        [line] = result.stderr.splitlines()
        assert line == "engram-interp: unexpected ZeroDivisionError: a b (--debug shows the traceback)."

    def test_debug_shows_the_traceback(self, failing: Any, folder: Path) -> None:
        failing(InputError("wrong"))
        result = run("slots", folder / "engram", "--text", "a", "--debug")
        assert result.exit_code == 1
        assert "Traceback" in result.stderr

    def test_interrupted(self, failing: Any, folder: Path) -> None:
        failing(KeyboardInterrupt())
        result = run("slots", folder / "engram", "--text", "a")
        assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")

    def test_a_file_that_may_not_be_read(self, failing: Any, folder: Path) -> None:
        failing(PermissionError(13, "Permission denied", "x.txt"))
        result = run("slots", folder / "engram", "--text", "a")
        assert result.stderr == "engram-interp: x.txt: Permission denied.\n"

    def test_a_command_keeps_its_signature(self) -> None:
        def command(word: str) -> None:
            """Say it."""

        assert list(guarded(command).__annotations__) == ["word", "return", "debug"]

    def test_a_reader_that_goes_away(self, folder: Path) -> None:
        command = [sys.executable, "-m", "engram_interp", "slots", str(folder / "engram"), "--text", "a"]
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writing)
        assert done.returncode == 141
        assert "Traceback" not in done.stderr
        assert "BrokenPipe" not in done.stderr


def test_time_left_counts_only_what_was_done_here() -> None:
    seconds = iter([5.0, 15.0])  # of the first update, where a resumed run is at 50 already, and the second
    clock = Clock(100, now=lambda: next(seconds))
    clock.read(50)
    assert clock.read(60) == (10.0, 40.0)


def test_progress_without_a_terminal_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(4, every=3600) as update:
        for step in range(1, 5):
            update(step, f"step {step}")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["step 1", "step 4"]
