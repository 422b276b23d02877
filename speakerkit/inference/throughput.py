"""How much of a device's arithmetic a network makes use of: operations counted, the peak measured."""

import time

import torch
from torch import nn

from speakerkit.inference.torch_runner import TorchRunner

PROBE_FRAMES = 400
MATRIX_ROWS = 8192  # of the product that shows a GPU's peak: large enough for any, a millisecond or two on the fastest
LEAST_SECONDS = 0.05


@torch.inference_mode()
def operations_per_frame(network: nn.Module, features: torch.Tensor) -> float:
    """Multiplications and additions in convolutions and linear layers for one frame of 10 ms.

    Args:
        network: as it is run; it is, once.
        features: (batch, num_frames, columns) as it takes them, of any values.
    """
    operations = 0

    def count(module: nn.Module, given: tuple, output: torch.Tensor) -> None:
        nonlocal operations  # each value of the output is a sum over one row of the weight
        operations += 2 * module.weight[0].numel() * output.numel()

    layers = [module for module in network.modules() if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        network(features)
    finally:
        for hook in hooks:
            hook.remove()
    return operations / (features.shape[0] * features.shape[1])


def probe_features(runner: TorchRunner) -> torch.Tensor:
    """(1, PROBE_FRAMES, columns) zeros where and in which precision a runner takes its features."""
    return torch.zeros(1, PROBE_FRAMES, runner.info.fbank.num_columns, device=runner.device, dtype=runner.precision)


def measure_peak(device: torch.device, precision: torch.dtype, rows: int = MATRIX_ROWS) -> float:
    """Operations a second that square matrix products reach on a device in a precision.

    Args:
        device: where; a GPU should have nothing else to do.
        precision: of the matrices.
        rows: of each.

    The number of products doubles until they take LEAST_SECONDS; where memory is short the matrices are smaller.
    """
    try:
        return _measure_peak(device, precision, rows)
    except torch.OutOfMemoryError:
        return measure_peak(device, precision, rows // 2)


def _measure_peak(device: torch.device, precision: torch.dtype, rows: int) -> float:
    left, right = (torch.randn(rows, rows, device=device).to(precision) for _ in range(2))
    _seconds_of(left, right, 2)  # kernels are chosen, clocks come up
    count = 1
    while (seconds := _seconds_of(left, right, count)) < LEAST_SECONDS:
        count *= 2
    return 2.0 * rows**3 * count / seconds


def _seconds_of(left: torch.Tensor, right: torch.Tensor, count: int) -> float:
    _wait_for(left.device)
    began = time.perf_counter()
    for _ in range(count):
        torch.mm(left, right)
    _wait_for(left.device)
    return time.perf_counter() - began


def _wait_for(device: torch.device) -> None:
    """Until a GPU has done all it was given; a CPU has when the call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
