"""The network's part of a training step: as it is written, or compiled for chunks of one length."""

import logging
from collections.abc import Callable

import torch
from torch import nn

log = logging.getLogger(__name__)
BACKEND = "inductor"
Forward = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def make_forward(network: nn.Module, is_compiled: bool, device: torch.device) -> Forward:
    """(batch, chunk_frames, bins) features to embeddings and what the classifier sees.

    Args:
        is_compiled: by torch.compile, which fuses what lies between the convolutions; on a GPU with CUDA
            graphs. Validation, whose recordings have all lengths, stays as it is. Where it can't be done the
            log says so, and the step is the plain one.
    """

    def forward(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = network(features)
        return embedding, network.classifier_input(embedding)

    if not is_compiled:
        return forward
    mode = "reduce-overhead" if device.type == "cuda" and BACKEND == "inductor" else None
    fault = find_fault(device)
    if fault:
        log.warning("[training] compile: not here, steps are not compiled: %s", fault)
        return forward
    return torch.compile(forward, dynamic=False, mode=mode, backend=BACKEND)


def find_fault(device: torch.device) -> str:
    """Why torch.compile doesn't work here, in a line; empty where it does."""
    try:
        torch.compile(lambda x: (x * 2).sum() + 1, backend=BACKEND)(torch.ones(8, device=device))
    except Exception as error:  # noqa: BLE001 - no compiler, no headers, no Triton: each has errors of its own
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return ""
