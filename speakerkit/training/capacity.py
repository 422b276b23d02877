"""What share of the device's arithmetic training uses: operations of a sample against a measured matrix product."""

import statistics
import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

MATRIX = {"cpu": 1024, "cuda": 8192}  # rows and columns: large enough to reach the peak, done in milliseconds
TURNS = 5
BACKWARD = 2  # a backward pass costs about two forward ones: gradients of inputs and of weights


@torch.no_grad()
def operations_per_sample(network: nn.Module, chunk_frames: int, num_bins: int) -> int:
    """Multiplications and additions, counted apart, of one chunk's way forward through convolutions and layers."""
    weight, was_training = next(network.parameters()), network.training
    features = torch.zeros(1, chunk_frames, num_bins, device=weight.device)
    network.eval()
    with FlopCounterMode(display=False) as counter:
        network.classifier_input(network(features))
    network.train(was_training)
    return counter.get_total_flops()


def measure_product(device: torch.device, precision: torch.dtype) -> float:
    """Operations a second of a square matrix product: the median of a few turns, after one that isn't counted."""
    size = MATRIX[device.type]
    matrix = torch.ones(size, size, device=device, dtype=precision)

    def turn() -> float:
        began = time.perf_counter()
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    turn()
    return 2 * size**3 / statistics.median(turn() for _ in range(TURNS))


def most_samples_per_s(
    network: nn.Module, chunk_frames: int, num_bins: int, device: torch.device, precision: torch.dtype
) -> float:
    """Samples a second that one process would train on if all it computes went as fast as a matrix product."""
    operations = (1 + BACKWARD) * operations_per_sample(network, chunk_frames, num_bins)
    return measure_product(device, precision) / operations
