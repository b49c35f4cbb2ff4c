"""Tests of `engram_interp.domains` and `data.source_code`: gains by hand, bytes, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest

from engram_interp import domains
from engram_interp.capture import encode, record
from engram_interp.checkpoints import SubjectModel
from engram_interp.data import source_code
from engram_interp.errors import InputError
from engram_interp.results import DomainGain
from tests import support

SHORT = [text[:40] for text in support.documents(22, seed=3)]
LONG = support.documents(25, seed=8)


@pytest.fixture(scope="module")
def pair() -> tuple[SubjectModel, SubjectModel]:
    model = support.subject(support.model_config(memory=support.memory_config()))
    return model, support.subject(support.model_config(), seed=4, name="plain")


def test_a_gain_is_the_difference_of_summed_losses_over_tokens_and_bytes(
    pair: tuple[SubjectModel, SubjectModel],
) -> None:
    data = domains.gain(*pair, {"short": SHORT, "long": LONG}, n_boot=30).data
    encoded = encode(pair[0], SHORT)
    sums = []
    for model in pair:
        log_p = record(model, encoded).logits.log_softmax(-1)
        loss = -log_p[:, :-1].gather(-1, encoded.tokens[:, 1:, None]).squeeze(-1)
        sums.append(float(loss[encoded.mask[:, 1:]].double().sum()))
    size = sum(len(text.encode()) for text in SHORT)
    gained, tokens = sums[1] - sums[0], int(encoded.mask[:, 1:].sum())
    wanted = [gained / tokens, gained / size, 100 * gained / sums[1]]
    np.testing.assert_allclose(data["gain"].sel(domain="short"), wanted, rtol=1e-5)
    assert int(data["bytes"].sel(domain="short")) == size
    assert (data["gain_low"] <= data["gain"]).all() and (data["gain"] <= data["gain_high"]).all()
    apart = data["gain"].sel(domain="long") - data["gain"].sel(domain="short")
    np.testing.assert_allclose(data["difference"].sel(domain="long"), apart)
    assert np.isnan(data["difference_low"].sel(domain="short")).all()


def test_texts_that_are_cut_count_the_bytes_of_what_is_left(pair: tuple[SubjectModel, SubjectModel]) -> None:
    model = pair[0]
    data = domains.gain(*pair, {"long": LONG}, n_boot=5).data
    kept = [model.tokenizer.encode(t, add_special_tokens=False) for t in LONG]
    wanted = sum(
        len(t[: e.offsets[min(len(e.ids), support.N_CTX - 1) - 1][1]].encode())
        for t, e in zip(LONG, kept, strict=True)
    )
    assert int(data["bytes"][0]) == wanted < sum(len(t.encode()) for t in LONG)


def test_a_model_gains_nothing_over_itself(pair: tuple[SubjectModel, SubjectModel], tmp_path: Path) -> None:
    result = domains.gain(pair[0], pair[0], {"short": SHORT[:4], "long": LONG}, n_boot=5)
    assert not result.data["gain"].any() and np.isnan(result.data["gain_low"].sel(domain="short")).all()
    assert DomainGain.load(result.save(tmp_path / "d.nc")).summary() == result.summary()
    assert "% of the baseline's" in result.summary()
    assert len(result.plot().data) >= 1
    with pytest.raises(InputError, match="at least one domain"):
        domains.gain(pair[0], pair[0], {})


def test_source_comes_from_the_middle_of_modules(tmp_path: Path) -> None:
    for number in range(5):
        lines = [f"line_{number}_{i} = {i}" for i in range(200)]
        (tmp_path / f"m{number}.py").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "short.py").write_text("x = 1", encoding="utf-8")
    (tmp_path / "latin.py").write_bytes("# é".encode("latin-1") * 2000)
    found = source_code.load(3, seed=1, characters=100, folder=tmp_path)
    assert all(len(t) == 100 and t.startswith("line_") for t in found.texts)
    assert all(60 < int(t.split("_")[2].split(" ")[0]) < 140 for t in found.texts)
    assert found.texts == source_code.load(3, seed=1, characters=100, folder=tmp_path).texts
    assert len(set(found.ids)) == 3 and set(found.ids) <= {f"m{i}.py" for i in range(5)}
    with pytest.raises(InputError, match="wants 1 … 5 modules"):
        source_code.load(6, characters=100, folder=tmp_path)
    assert set(source_code.load(4).ids) <= {f"{name}.py" for name in sys.stdlib_module_names}
