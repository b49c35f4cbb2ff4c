"""`slots`: the table, the JSON, and inputs that cannot be used."""

import json
from pathlib import Path

import pytest

from engram_interp import slots
from engram_interp.checkpoints import load_model
from tests import support
from tests.checkpoints import v41_files
from tests.cli.harness import one_line, run


def test_json_says_what_the_look_up_gives(folder: Path) -> None:
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


def test_ids_are_taken_as_they_are(folder: Path) -> None:
    found = json.loads(run("slots", folder / "engram", "--ids", "0,3", "--json").stdout)
    assert found["token_ids"] == [0, 3]


def test_the_table_is_for_reading(folder: Path) -> None:
    lines = run("slots", folder / "engram", "--text", "Kalo").stdout.splitlines()
    header = next(line for line in lines if line.startswith("token"))
    assert header.split()[-4:] == ["address", "norm", "hits", "share"]
    assert sum(line.lstrip()[:1].isdigit() for line in lines[1:]) % 12 == 0


def test_a_long_text_shows_its_last_tokens_and_says_what_is_left_out(folder: Path) -> None:
    text = "The Kalo of Dor and the Vel met in Dor"
    every = json.loads(run("slots", folder / "engram", "--text", text, "--json").stdout)
    length = len(every["token_ids"])
    result = run("slots", folder / "engram", "--text", text)
    assert f"Tokens 0 … {length - 7} are left out; name one with --token" in result.stderr
    shown = {line.split()[0] for line in result.stdout.splitlines() if line.lstrip()[:1].isdigit()} - {"6"}
    assert shown >= {str(length - 1), str(length - 5)} and str(length - 7) not in shown
    one = run("slots", folder / "engram", "--text", text, "--token", "-1", "--layer", "2", "--json")
    records = json.loads(one.stdout)["records"]
    assert records == [r for r in every["records"] if (r["token"], r["layer"]) == (length - 1, 2)]
    one_line(run("slots", folder / "engram", "--text", text, "--token", "99"), "lies outside the prompt")
    one_line(
        run("slots", folder / "engram", "--text", text, "--layer", "0"), "Layer 0 reads no memory", "[1, 2]"
    )


@pytest.mark.parametrize("arguments", [[], ["--text", "a", "--ids", "1"], ["--ids", "1,x"]])
def test_bad_usage(folder: Path, arguments: list[str]) -> None:
    result = run("slots", folder / "engram", *arguments)
    assert result.exit_code == 2
    assert "--ids" in result.stderr


def test_an_empty_prompt(folder: Path) -> None:
    one_line(run("slots", folder / "engram", "--text", ""), "prompt is empty", "at least one")


def test_ids_out_of_range(folder: Path) -> None:
    one_line(run("slots", folder / "engram", "--ids", "0,99999"), "0 … 330")


def test_a_prompt_longer_than_the_context_says_what_was_analysed(folder: Path) -> None:
    result = run("slots", folder / "engram", "--text", "Kalo " * 60)
    assert result.exit_code == 0
    assert f"its first {support.N_CTX} were analysed" in result.stderr


def test_a_model_without_memory(folder: Path) -> None:
    one_line(run("slots", folder / "baseline", "--text", "a"), "no memory")


def test_no_such_model(tmp_path: Path) -> None:
    one_line(run("slots", tmp_path / "nothing", "--text", "a"), "No model directory at")


def test_addresses_of_a_model_too_large_to_load(tmp_path: Path) -> None:
    v41_files.write(tmp_path / "alone", tables=False)
    table = run("slots", tmp_path / "alone", "--text", "The Kalo")
    assert table.exit_code == 0 and "whose tables take" in table.stdout
    assert "no weight of the network was read" in table.stderr
    v41_files.write(tmp_path / "whole")
    elsewhere = ["--text", "The Kalo", "--json", "--tables", tmp_path / "whole"]
    alone, whole, apart = (
        json.loads(run("slots", tmp_path / place, *arguments).stdout, parse_constant=pytest.fail)
        for place, arguments in (("alone", elsewhere[:3]), ("whole", elsewhere[:3]), ("alone", elsewhere))
    )
    assert alone["address"] == whole["address"] == apart["address"]
    assert alone["row_norm"][0][0] == [None] * 6
    assert whole["row_norm"] == apart["row_norm"] and whole["row_norm"][0][0][0] > 0
    assert (whole["dead"], len(whole["table_bytes"])) == ([False] * len(whole["token_ids"]), 2)


def test_tables_of_a_model_that_has_its_own(folder: Path, tmp_path: Path) -> None:
    found = run("slots", folder / "engram", "--text", "a", "--tables", tmp_path)
    one_line(found, "--tables is for DeepSeek-V4.1", "is not")
