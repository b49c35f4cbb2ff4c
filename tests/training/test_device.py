"""Where training may run: what this machine has, and a refusal that lists it."""

import pytest
import torch

from engram_interp.errors import InputError
from engram_interp.model.training.device import describe_device, devices, find_device


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"card {device.index}")


@pytest.mark.usefixtures("two_gpus")
def test_gpus_by_number_and_the_first_by_its_kind() -> None:
    assert devices() == ("cpu", "cuda:0", "cuda:1")
    found = [find_device(name) for name in ("cpu", "cuda", "cuda:0", "cuda:1")]
    assert found == [torch.device(name) for name in ("cpu", "cuda:0", "cuda:0", "cuda:1")]
    assert [describe_device(d) for d in found[::3]] == ["cpu", "cuda:1 (card 1)"]


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("name", ["cuda:2", "cuda:-1", "cpu:1", "meta", "mps", "gpu", ""])
def test_what_is_not_there_is_refused_with_what_is(name: str) -> None:
    with pytest.raises(InputError, match=rf"has cpu, cuda:0, cuda:1, got '{name}'; give one of those"):
        find_device(name)


def test_a_machine_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match=r"has cpu, got 'cuda:0'; torch \S+ sees no GPU here; give one"):
        find_device("cuda:0")
