"""Tests of `engram_interp.stitching` on models whose answer is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engram_interp import stitching
from engram_interp.capture import stitch, store
from engram_interp.capture.encode import encode
from engram_interp.capture.store import open_capture
from engram_interp.checkpoints.native import subject_of
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.metrics import alignment
from engram_interp.model.transformer import HookedEngramTransformer
from tests import support

TEXTS = support.documents(24, seed=5)


def plain(**changes: Any) -> SubjectModel:
    return support.subject(support.model_config(**changes))


def longer(model: SubjectModel, at: int) -> SubjectModel:
    """A copy with a block that does nothing put in before block `at`."""
    assert isinstance(model.module, HookedEngramTransformer)
    made = HookedEngramTransformer(
        support.model_config(n_layers=model.n_layers + 1), tokenizer=support.tokenizer()
    )
    for name in ("embed", "ln_final"):
        getattr(made, name).load_state_dict(getattr(model.module, name).state_dict())
    for number, block in enumerate(made.blocks):
        block.load_state_dict(model.module.blocks[number - (number >= at)].state_dict())
    with torch.no_grad():
        for name, weight in made.blocks[at].named_parameters():
            if weight.ndim == 2 and ("out" in name or "down" in name):
                weight.zero_()
    return subject_of(made.eval().requires_grad_(False), support.tokenizer(), name="longer")


def test_a_model_against_itself_has_no_shift_and_the_intact_loss() -> None:
    model = plain()
    data = stitching.compare(model, model, TEXTS, steps=0, n_boot=20).data
    np.testing.assert_array_equal(data["shift"], 0)
    np.testing.assert_allclose(np.diag(data["loss_self"]), float(data["intact_loss"]), atol=1e-4)
    sums = data["document_loss"].values.sum(0) / int(data["document_tokens"].sum())
    np.testing.assert_allclose(sums, data["loss"])


def test_an_inserted_identity_block_shows_as_one_layer() -> None:
    model = plain()
    data = stitching.compare(longer(model, 2), model, TEXTS, steps=0, n_boot=20).data
    intact = float(data["intact_loss"])
    stitched = data["loss"].values
    for layer, same in enumerate([0, 1, 1, 2, 3]):
        assert stitched[layer, same] == pytest.approx(intact, abs=1e-4)


def test_steps_leave_the_model_as_it_was_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    engram, model = support.subject(), plain()
    model.module.train().requires_grad_(True)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    result = stitching.compare(engram, model, TEXTS, steps=1, n_boot=5)
    monkeypatch.setattr(torch.autograd, "grad", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stitching.compare(engram, model, TEXTS, steps=1)
    assert all(part.training for part in model.module.modules())
    assert all(p.grad is None and p.requires_grad for p in model.module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert result.plot().data and "affine" in result.summary()


def test_the_short_way_through_native_blocks_gives_the_hooked_result() -> None:
    model = plain()
    encoded = encode(model, TEXTS[:5])
    short, hooked = (stitch.Rest(model, encoded, batch_size=2) for _ in range(2))
    hooked._native = False
    rows = np.random.default_rng(0).normal(size=(int(encoded.mask.sum()), 20)).astype(np.float32)
    documents = np.array([3, 0, 4])
    for one, other in zip(
        short.losses(rows, 1, documents, gradient=True),
        hooked.losses(rows, 1, documents, gradient=True),
        strict=True,
    ):
        assert one is not None and other is not None
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_streams_enter_side_by_side_on_one_side_only() -> None:
    streams, model = plain(n_streams=3, n_layers=3), plain()
    data = stitching.compare(streams, model, TEXTS[:9], steps=0).data
    assert data["loss"].shape == (3, 4) and np.isnan(data["headline_low"])
    with pytest.raises(InputError, match="one stream"):
        stitching.compare(model, streams, TEXTS)


def test_another_seed_of_the_baseline_is_the_scale_on_which_the_shift_is_read() -> None:
    model, seed = plain(), support.subject(support.model_config(), seed=7, name="seed 7")
    result = stitching.compare(seed, model, TEXTS[:9], reference=seed, n_boot=5)
    data = result.data
    np.testing.assert_array_equal(data["loss"], data["loss_self"])
    np.testing.assert_array_equal(data["shift"], 0)
    assert not np.isclose(
        data["loss_self"], data["intact_loss"], atol=1e-3
    ).any()  # as its own layers would be
    assert data.attrs["reference"] == "seed 7" and "another seed" not in result.summary()


def test_layers_that_the_reference_lacks_have_no_shift() -> None:
    model, seed = plain(), support.subject(support.model_config(n_layers=3), seed=7, name="seed 7")
    data = stitching.compare(plain(n_layers=5), model, TEXTS[:9], reference=seed, n_boot=5).data
    assert data["loss_self"].shape == (3, 4) and data["loss"].shape == (5, 4)
    expected = alignment.calibrated_shift(data["depth"].values, data["depth_self"].values[:3])
    np.testing.assert_allclose(data["shift"][:3], expected[:3])
    assert np.isnan(data["shift"][3:]).all() and "fewer layers" in data["shift"].attrs["missing"]


def test_what_cannot_be_stitched_is_refused() -> None:
    model = plain()
    with pytest.raises(InputError, match="at least 8 documents"):
        stitching.compare(model, model, TEXTS[:7])
    other = replace(model, separator_id=None, name="other")
    with pytest.raises(InputError, match="different tokens"):
        stitching.compare(other, model, TEXTS)
    broken = support.subject(support.model_config(), seed=3, name="broken")
    with torch.no_grad():
        next(broken.module.parameters()).fill_(float("nan"))
    said = r"broken has NaN in the residual after layer 0 at token 0 of prompt '.*' \(token id"
    with pytest.raises(InputError, match=said):
        stitching.compare(broken, model, TEXTS)
    still = support.subject(support.model_config(), seed=3, name="still")
    hook = still.module.get_submodule(still.sites["blocks.2.hook_resid_post"])
    with hook.register_forward_hook(lambda _m, _i, out: torch.ones_like(out)):
        for pair in ((still, model), (model, still)):
            with pytest.raises(InputError, match="still has the same residual after layer 2 at all"):
                stitching.compare(*pair, TEXTS)


def test_a_capture_stands_for_the_model_with_memory_and_brings_its_prompts(tmp_path: Path) -> None:
    model, base, seed = support.subject(), plain(), support.subject(support.model_config(), seed=7)
    captures = [
        open_capture(store.capture(m, TEXTS[:9], sites=["blocks.*.hook_resid_post"], out=tmp_path / name))
        for name, m in (("model", model), ("seed", seed))
    ]
    settings: dict[str, Any] = {"n_boot": 5, "max_tokens": 17}
    run = stitching.compare(model, base, TEXTS[:9], reference=seed, **settings).data
    for reference in (captures[1], seed):
        read = stitching.compare(captures[0], base, reference=reference, **settings).data
        assert read.attrs["text_digest"] == run.attrs["text_digest"]
        # What is recovered divides losses by a small difference of two, which magnifies their rounding.
        for name in set(run.data_vars) - {"recovered"}:
            np.testing.assert_allclose(read[name], run[name], rtol=1e-5, atol=1e-6, err_msg=str(name))
    with pytest.raises(InputError, match="holds its own prompts; leave texts out: models run on them"):
        stitching.compare(captures[0], base, TEXTS)
    with pytest.raises(InputError, match="give that model, not a capture of it"):
        stitching.compare(captures[0], captures[1])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"another vocabulary \(.*331, other 330\)"):
        stitching.compare(captures[0], replace(base, d_vocab=330, name="other"))
