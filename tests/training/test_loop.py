"""The loop: what it counts, and that an interruption leaves no trace in the weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from engram_interp.data.packing import Windows, encode_stream
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.memory.config import EngramConfig
from engram_interp.model.training.evaluate import gate_summary, held_out_loss
from engram_interp.model.training.loop import Progress, Trainer
from engram_interp.model.training.recipe import Schedule
from engram_interp.model.transformer import HookedEngramTransformer
from tests import support

LENGTH, BATCH, STEPS = 12, 3, 9
STREAM = encode_stream(support.documents(60), support.tokenizer(), separator_id=0)
VALID = encode_stream(support.documents(20, seed=5), support.tokenizer(), separator_id=0)


def trainer(
    *,
    memory: bool | EngramConfig = True,
    seed: int = 0,
    precision: str = "float32",
    device: str = "cpu",
    **changes: Any,
) -> Trainer:
    config = memory if isinstance(memory, EngramConfig) else support.memory_config() if memory else None
    cfg = support.model_config(memory=config, n_ctx=LENGTH, **changes)
    token_map = support.model().get_buffer("token_map").numpy() if memory else None
    model = HookedEngramTransformer(cfg, token_map=token_map)
    schedule = Schedule(
        tokens=STEPS * BATCH * LENGTH, warmup=3, seed=seed, evaluate_every=4, precision=precision
    )
    windows = Windows(stream=STREAM, length=LENGTH, batch=BATCH, seed=seed)
    return Trainer(model, windows, schedule, valid=VALID, device=device)


def run(of: Trainer, steps: int = STEPS) -> list[Progress]:
    out = []
    for progress in of.run(save=lambda: None):
        out.append(progress)
        if len(out) == steps < STEPS:
            break
    return out


def weights(of: Trainer) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in of.model.state_dict().items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"memory": False},
        {"n_experts": 4},
        {"n_streams": 3, "sinkhorn_steps": 4},
        {"n_experts": 4, "precision": "bfloat16"},
    ],
    ids=["dense", "baseline", "experts", "m3", "bfloat16"],
)
def test_a_resumed_run_ends_bit_identical(tmp_path: Path, changes: dict[str, Any]) -> None:
    stop = 4  # right after an evaluation, which must not count towards the experts' load
    whole = trainer(**changes)
    log = run(whole)
    interrupted = trainer(**changes)
    run(interrupted, stop)
    interrupted.save_state(tmp_path)
    resumed = trainer(**changes)
    resumed.load_state(tmp_path)
    assert resumed.done == stop
    rest = run(resumed)
    assert all(v.equal(weights(resumed)[k]) for k, v in weights(whole).items())
    assert [p.loss for p in rest] == [p.loss for p in log[stop:]]
    assert [p.valid_loss for p in rest] == [p.valid_loss for p in log[stop:]]
    assert all(a.equal(b) for a, b in zip(whole.hits, resumed.hits, strict=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.safetensors"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
@pytest.mark.parametrize("changes", [{}, {"n_experts": 4, "precision": "bfloat16"}], ids=["dense", "experts"])
def test_a_gpu_agrees_with_the_cpu_and_with_itself_resumed(tmp_path: Path, changes: dict[str, Any]) -> None:
    stop = 4
    log, whole = run(trainer(**changes)), run(trainer(device="cuda", **changes))
    interrupted = trainer(device="cuda", **changes)
    run(interrupted, stop)
    interrupted.save_state(tmp_path)
    resumed = trainer(device="cuda", **changes)
    resumed.load_state(tmp_path)
    rest = run(resumed)
    assert [p.loss for p in rest] == pytest.approx([p.loss for p in whole[stop:]], abs=1e-4)
    assert [p.loss for p in whole] == pytest.approx([p.loss for p in log], abs=0.02)
    assert all(value.is_cuda for value in resumed.model.state_dict().values())


@pytest.mark.parametrize("changes", [{}, {"n_experts": 4}, {"n_streams": 3, "sinkhorn_steps": 4}])
def test_bfloat16_rounds_the_products_and_keeps_the_weights(changes: dict[str, Any]) -> None:
    exact, rounded = trainer(**changes), trainer(precision="bfloat16", **changes)
    logs = [run(exact), run(rounded)]
    for one, other in zip(*logs, strict=True):
        assert one.loss != other.loss and other.loss == pytest.approx(one.loss, abs=0.02)
    assert logs[1][-1].loss < logs[1][0].loss - 0.05
    assert all(p.dtype == torch.float32 for p in rounded.model.parameters())
    before = weights(trainer(**changes))
    learnt = [n for n, v in before.items() if v.is_floating_point() and not v.equal(weights(exact)[n])]
    one, other = (
        torch.cat([(weights(of)[n] - before[n]).flatten() for n in learnt]) for of in (exact, rounded)
    )
    assert float(torch.cosine_similarity(one, other, dim=0)) > 0.9


def test_hits_count_every_row_that_was_read() -> None:
    trained = trainer()
    last = run(trained)[-1]
    model = trained.model
    wanted = [np.zeros(len(h), np.int64) for h in trained.hits]
    for step in range(STEPS):
        rows = model.memory_rows(torch.from_numpy(trained.windows.at(step)[:, :-1]))
        assert rows is not None
        for row in rows.flatten(0, 1).tolist():
            for layer, columns in enumerate(row):
                for address in columns:
                    wanted[layer][address] += 1
    assert [h.tolist() for h in trained.hits] == [w.tolist() for w in wanted]
    assert sum(int(h.sum()) for h in trained.hits) == STEPS * BATCH * LENGTH * 2 * 6
    touched = sum((w > 0).sum() for w in wanted) / sum(map(len, wanted))
    assert last.rows_touched == pytest.approx(touched)


class _LargeTensors(TorchDispatchMode):
    """Notes every dense tensor of so many numbers that an operation makes; those at `known` are not new."""

    def __init__(self, *, least: int, known: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.least, self.known, self.made = least, known, list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            dense = isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided
            if dense and tensor.numel() >= self.least and tensor.data_ptr() not in self.known:
                self.made.append(f"{func} {tuple(tensor.shape)}")
        return out


def test_a_step_makes_nothing_as_large_as_a_table() -> None:
    trained = trainer(memory=support.memory_config(rows=40_000))
    run(trained, 2)  # the optimiser's state is there after the first
    tables = [p for n, p in trained.model.named_parameters() if n.endswith("table.weight")]
    assert trained.optimisers.memory is not None
    moments = [v for p in tables for v in trained.optimisers.memory.state[p].values() if torch.is_tensor(v)]
    known = {t.data_ptr() for t in (*tables, *moments, *trained.hits)}
    with _LargeTensors(least=40_000, known=known) as seen:
        torch.bincount(torch.arange(3), minlength=40_000)
        assert len(seen.made) == 1  # the watch sees what it should
        seen.made.clear()
        next(trained.run(save=lambda: None))
    assert not seen.made


def test_progress_says_where_the_run_stands() -> None:
    trained = trainer()
    log = run(trained)
    assert [p.step for p in log] == list(range(1, STEPS + 1))
    assert [p.tokens for p in log] == [BATCH * LENGTH * s for s in range(1, STEPS + 1)]
    assert [p.step for p in log if p.valid_loss is not None] == [1, 4, 8, 9]
    assert all((p.gates is None) == (p.valid_loss is None) for p in log)
    gates = log[-1].gates
    assert gates is not None
    assert np.shape(gates["mean"]) == np.shape(gates["sd"]) == (2, 1)
    assert abs(log[0].loss - np.log(support.D_VOCAB)) < 0.1
    assert log[-1].loss < log[0].loss
    assert not trained.model.training


def test_evaluation_leaves_the_experts_load_and_the_mode_alone() -> None:
    model = trainer(n_experts=4).model
    load = model.get_buffer("blocks.0.mlp.load")
    for training in (True, False):
        model.train(training)
        held_out_loss(model, VALID, windows=3)
        gate_summary(model, VALID, windows=2)
        assert model.training is training
    assert not load.any()


def test_held_out_loss_is_the_mean_over_windows() -> None:
    model = trainer().model
    steps: list[int] = []
    found = held_out_loss(model, VALID, batch=5, windows=12, progress=steps.append)
    ids = torch.from_numpy(VALID[: 12 * LENGTH + 1].astype(np.int64))
    each = []
    for start in range(0, 12 * LENGTH, LENGTH):
        log_p = model(ids[start : start + LENGTH][None]).log_softmax(-1)[0]
        each.append(-log_p.gather(-1, ids[start + 1 : start + LENGTH + 1, None]).mean().item())
    assert np.allclose(found.per_window, each, atol=1e-5)
    assert found.loss == pytest.approx(np.mean(each), abs=1e-6)
    assert (found.tokens, steps) == (12 * LENGTH, [5, 10, 12])
    assert gate_summary(trainer(memory=False).model, VALID) == {}
    with pytest.raises(InputError, match=rf"at least {LENGTH + 1} tokens .*, got {LENGTH}; give more"):
        held_out_loss(model, VALID[:LENGTH])


def test_state_of_another_run_is_refused(tmp_path: Path) -> None:
    first = trainer()
    with pytest.raises(InputError, match="Nothing to resume in"):
        first.load_state(tmp_path)
    first.save_state(tmp_path)
    with pytest.raises(InputError, match="another recipe or text"):
        trainer(seed=1).load_state(tmp_path)
    with pytest.raises(InputError, match="another recipe or text"):
        trainer(memory=False).load_state(tmp_path)
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedFileError, match=r"state.safetensors cannot be read .*delete it to train anew"):
        trainer().load_state(tmp_path)


def test_a_state_of_older_weights_loads_by_its_names(tmp_path: Path) -> None:
    """The names inside a state file are a format: runs are resumed by later versions."""
    first = trainer()
    run(first, 2)
    first.save_state(tmp_path)
    names = set(load_file(tmp_path / "state.safetensors"))
    table = "blocks.1.engram.table.weight"
    assert names >= {f"model:{table}", f"optimiser:{table}|exp_avg", f"optimiser:{table}|step", "hits:1"}
    assert {n.split(":")[0] for n in names} == {"model", "optimiser", "hits"}
    assert {n.removeprefix("model:") for n in names if n.startswith("model:")} == set(
        first.model.state_dict()
    )
    save_file({"model:none": torch.zeros(1)}, tmp_path / "state.safetensors", metadata={"schedule": "{}"})
    with pytest.raises(InputError, match="another recipe or text"):
        first.load_state(tmp_path)


def test_runs_of_more_than_an_epoch_or_without_valid_text_are_refused() -> None:
    model, schedule = trainer().model, Schedule(tokens=10**6)
    windows = Windows(stream=STREAM, length=LENGTH, batch=BATCH, seed=0)
    with pytest.raises(
        InputError, match=r"wants 1000000 tokens in steps of 36, the text holds \d+ steps; give"
    ):
        Trainer(model, windows, schedule)
    with pytest.raises(InputError, match="has 5 tokens and one window wants 13"):
        Trainer(model, windows, Schedule(tokens=100), valid=VALID[:5])
