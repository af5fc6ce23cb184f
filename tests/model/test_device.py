"""Which device a name stands for."""

import pytest
import torch

from model.device import resolve_device
from model.errors import ConfigError


@pytest.mark.parametrize("device", ["gpu", "cuda:first", ""])
def test_a_name_that_is_none_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="may be auto, cpu, cuda, cuda:NUMBER or mps"):
        resolve_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_unless_it_is_left_open() -> None:
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    for device in ("cuda", "cuda:1"):
        with pytest.raises(ConfigError, match="torch sees no GPU"):
            resolve_device(device)


def test_the_number_of_a_gpu_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(ConfigError, match="there are 2 GPUs"):
        resolve_device("cuda:2")
