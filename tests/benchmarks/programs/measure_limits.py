"""What this machine can do at most: matrix products, convolutions, memory, disk. Prints one JSON object.

usage: measure_limits.py FOLDER [--quick]     FOLDER is on the disk to be read from
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from speakerkit.models import device

# ResNet34's four stages for 4 s of speech: channels, frames, bins; and how many of its 3x3 convolutions are there.
# Each costs the same arithmetic, so the limit of the network is a mean weighted by their number.
STAGES = ((32, 400, 80, 7), (64, 200, 40, 8), (128, 100, 20, 12), (256, 50, 10, 6))


def rate(work, amount: float, seconds: float) -> float:
    """The best rate in amount a second of calls that go on for some time."""
    work()
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return amount / best


def gflops(dtype: torch.dtype, size: int, seconds: float) -> dict:
    """GFLOP/s of a matrix product and of each stage's convolution, multiply and add counted apart."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    found = {"gemm": rate(lambda: a @ b, 2 * size**3 / 1e9, seconds)}
    weighted = total = 0.0
    for number, (channels, frames, bins, count) in enumerate(STAGES, 1):
        x = torch.randn(1, channels, frames, bins).to(dtype).to(memory_format=torch.channels_last)
        kernel = torch.randn(channels, channels, 3, 3).to(dtype).to(memory_format=torch.channels_last)
        amount = 2 * 9 * channels**2 * frames * bins / 1e9
        found[f"conv{number}"] = rate(lambda x=x, k=kernel: F.conv2d(x, k, padding=1), amount, seconds)
        weighted, total = weighted + count / found[f"conv{number}"], total + count
    return found | {"conv": total / weighted}


def copy_rate(seconds: float, quick: bool) -> float:
    """GB/s read and written by one thread that copies what no cache holds."""
    source = np.ones((8 if quick else 64) << 20, np.float32)
    target = np.empty_like(source)
    return rate(lambda: np.copyto(target, source), 2 * source.nbytes / 1e9, seconds)


def disk_rate(folder: Path, quick: bool) -> float:
    """GB/s of reading a file in order that isn't in memory."""
    path, block = folder / "disk-read.tmp", os.urandom(1 << 20)
    size = 8 if quick else 512
    try:
        with open(path, "wb") as out:
            for _ in range(size):
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
            os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        with open(path, "rb", buffering=0) as lines:
            while lines.read(1 << 22):
                pass
        return size * (1 << 20) / 1e9 / (time.perf_counter() - began)
    finally:
        path.unlink(missing_ok=True)


def main(folder: Path, quick: bool) -> None:
    device.keep_freed_memory()
    seconds, size = (0.01, 256) if quick else (0.4, 2048)
    cores, limits = len(os.sched_getaffinity(0)), {}
    with torch.no_grad():
        for threads in sorted({1, cores}):
            torch.set_num_threads(threads)
            limits[f"float32 {threads}"] = gflops(torch.float32, size, seconds)
            if device.cpu_has_bfloat16():
                limits[f"bfloat16 {threads}"] = gflops(torch.bfloat16, size, seconds)
    print(json.dumps({"gflops": limits, "cores": cores, "copy_gb_s": copy_rate(seconds, quick),
                      "disk_gb_s": disk_rate(folder, quick)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--quick" in sys.argv[2:])
