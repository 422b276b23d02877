"""Where a network runs and in which precision."""

import contextlib
import ctypes
import functools
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from speakerkit.errors import ConfigError, MachineError

if TYPE_CHECKING:  # what a processor can do is asked without torch too
    import torch
    from torch import nn

log = logging.getLogger(__name__)
# mallopt's parameter numbers in glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def usable_cores() -> int:
    """Processor cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_device(name: str) -> "torch.device":
    """The device that ``--device`` means; auto is a GPU where torch can use one.

    Raises:
        ConfigError: a GPU is asked for and there is none, or not that many.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda"):
        number = int(name.partition(":")[2] or 0)
        if not torch.cuda.is_available() or number >= torch.cuda.device_count():
            raise ConfigError(f"--device {name}: torch {torch.__version__} sees {torch.cuda.device_count()} GPUs")
    return torch.device(name)


@functools.cache
def cpu_flags() -> frozenset[str]:
    """What the processor says it can do, from /proc/cpuinfo; empty elsewhere."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


def has_fast_bfloat16(device: "torch.device") -> bool:
    """Whether bfloat16 convolutions are faster than float32 there: AMX or AVX512-BF16, or a GPU since Ampere."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_capability(device) >= (8, 0)
    return cpu_has_bfloat16()


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32: AMX or AVX512-BF16."""
    return bool(cpu_flags() & {"amx_bf16", "avx512_bf16"})


def choose_precision(name: str, device: "torch.device") -> "torch.dtype":
    """The precision that ``--precision`` means; auto is said once."""
    import torch

    if name == "auto":
        name = "bfloat16" if has_fast_bfloat16(device) else "float32"
        log.info("precision %s on %s (--precision auto)", name, describe_device(device))
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def keep_float32_exact(device: "torch.device") -> None:
    """Tell cuDNN to multiply float32 as such, in this process: as it comes it keeps 10 bits of a mantissa (TF32)."""
    if device.type == "cuda":
        import torch

        torch.backends.cudnn.allow_tf32 = False


@contextlib.contextmanager
def faults_told(device: str) -> Iterator[None]:
    """A GPU that fails is a machine that failed, told in a line.

    Raises:
        MachineError: memory is short, or what CUDA says, its hints for programmers left out.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise MachineError(f"{device}: out of memory; another program may hold it, or want --device cpu") from None
    except torch.AcceleratorError as error:
        raise MachineError(f"{device}: {str(error).splitlines()[0]}") from error


def precision_name(precision: "torch.dtype") -> str:
    """float32 or bfloat16."""
    return str(precision).removeprefix("torch.")


def describe_device(device: "torch.device") -> str:
    """The device in words."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return describe_cpu()


def describe_cpu() -> str:
    """The processor in words, with the best of what it can do."""
    extra = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in cpu_flags()]
    return f"{platform.machine()} CPU" + (f" with {extra[0]}" if extra else "")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread of torch in the calling thread; as many as before afterwards.

    How a sum is cut into parts depends on the number of threads, so only so are the bytes of an
    embedding those of any other machine with the same processor, however many cores are free.
    """
    import torch

    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Tell glibc's malloc to keep what is freed.

    Activations of a few MB are otherwise mapped and unmapped at every layer. Keeping it
    saves 15 to 35 % of a forward pass on a CPU; does nothing on another C library.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    if not libc.mallopt(M_MMAP_THRESHOLD, 1 << 30):  # before glibc 2.35 half a heap is the most that is taken
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
    libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    libc.mallopt(M_TOP_PAD, 64 << 20)


def release_freed_memory() -> None:
    """Give back what is freed but kept: loading a model takes several times its size for a moment.

    Does nothing on another C library than glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def to_channels_last(network: "nn.Module") -> "nn.Module":
    """Kernels laid out so that convolutions read channels side by side: faster on CPUs and on tensor cores."""
    import torch

    return network.to(memory_format=torch.channels_last)
