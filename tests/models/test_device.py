"""Where a network runs and in which precision."""

import logging
import subprocess
import sys

import pytest
import torch

from speakerkit.errors import ConfigError, MachineError
from speakerkit.models import device

CPU = torch.device("cpu")


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def with_two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: "H200")


def test_without_a_gpu(without_gpu):
    assert device.choose_device("auto") == device.choose_device("cpu") == CPU
    for name in ("cuda", "cuda:0"):
        with pytest.raises(ConfigError, match=f"--device {name}: torch .* sees 0 GPUs"):
            device.choose_device(name)


def test_with_two_gpus(with_two_gpus):
    assert device.choose_device("auto") == torch.device("cuda")
    assert device.choose_device("cuda:1") == torch.device("cuda:1")
    assert device.choose_device("cpu") == CPU
    with pytest.raises(ConfigError, match="--device cuda:2: torch .* sees 2 GPUs"):
        device.choose_device("cuda:2")
    assert device.choose_precision("auto", torch.device("cuda")) == torch.bfloat16
    assert device.describe_device(torch.device("cuda")) == "H200"


def test_an_older_gpu_has_no_fast_bfloat16(with_two_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: (7, 5))
    assert device.choose_precision("auto", torch.device("cuda")) == torch.float32


@pytest.mark.parametrize("flags, chosen", [
    ({"avx2", "avx512f", "avx512_bf16", "amx_bf16"}, torch.bfloat16),
    ({"avx2", "avx512f", "avx512_bf16"}, torch.bfloat16),
    ({"avx2", "avx512f"}, torch.float32),
    (set(), torch.float32),
])
def test_auto_follows_the_processor_and_says_so(monkeypatch, caplog, flags, chosen):
    monkeypatch.setattr(device, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(logging.getLogger("speakerkit"), "propagate", True)
    with caplog.at_level(logging.INFO, "speakerkit"):
        assert device.choose_precision("auto", CPU) == chosen
    assert len(caplog.records) == 1
    assert caplog.messages[0].startswith(f"precision {device.precision_name(chosen)} on ")
    assert caplog.messages[0].endswith("(--precision auto)")


def test_what_is_asked_for_is_taken(monkeypatch):
    monkeypatch.setattr(device, "cpu_flags", frozenset)
    assert device.choose_precision("bfloat16", CPU) == torch.bfloat16
    assert device.choose_precision("float32", CPU) == torch.float32
    assert device.precision_name(torch.bfloat16) == "bfloat16"


HELD = """
from speakerkit.models import device

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20

device.keep_freed_memory()
blocks = [bytearray(b"x" * 50_000) for _ in range(2000)]  # 100 MB, and what lies above keeps the heap long
last = bytearray(b"x" * 50_000)
full = resident_mb()
del blocks
kept = resident_mb()
device.release_freed_memory()
print(full - kept, kept - resident_mb())
"""


def test_freed_memory_is_kept_until_it_is_released():
    result = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    given_back, released = map(int, result.stdout.split())
    assert given_back < 10 and released > 80


def test_memory_may_be_kept_twice():
    device.keep_freed_memory()
    device.keep_freed_memory()
    assert torch.ones(10).sum() == 10


@pytest.mark.parametrize("error, told", [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
     "cuda:1: out of memory; another program may hold it, or want --device cpu"),
    (torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA` ..."),
     "cuda:1: CUDA error: unspecified launch failure"),
])
def test_a_gpu_that_fails_is_a_machine_that_failed(error, told):
    with pytest.raises(MachineError) as caught, device.faults_told("cuda:1"):
        raise error
    assert str(caught.value) == told
