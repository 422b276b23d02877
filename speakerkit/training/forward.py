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

    return TriedForward(network, forward, device) if is_compiled else forward


class TriedForward:
    """A forward that is compiled when it is first called, and tried there with its gradient.

    Compilers fail late: where there is none, where their cache holds a file that a crash has cut, at the gradient
    alone. The trial meets all of it before anything has changed; then the plain one goes on. It is tried anew when
    another part of the network is trained, which is compiled by itself.

    Attributes:
        fault: why the plain one runs, in a line; empty where the compiled one does.
    """

    def __init__(self, network: nn.Module, plain: Forward, device: torch.device):
        self.network, self.plain, self.fault = network, plain, ""
        self.mode = "reduce-overhead" if device.type == "cuda" and BACKEND == "inductor" else None
        self._compiled: Forward | None = None
        self._tried: set[tuple[bool, ...]] = set()

    def __call__(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        trained = tuple(p.requires_grad for p in self.network.parameters())
        if trained not in self._tried and not self.fault:
            self._tried.add(trained)
            self._try(features)
        return self.plain(features) if self.fault else self._compiled(features)

    def _try(self, features: torch.Tensor) -> None:
        buffers = list(self.network.buffers())
        kept = [buffer.clone() for buffer in buffers]
        try:
            if self._compiled is None:
                self._compiled = torch.compile(self.plain, dynamic=False, mode=self.mode, backend=BACKEND)
            total = sum(output.float().sum() for output in self._compiled(features))
            trained = [p for p in self.network.parameters() if p.requires_grad]
            if total.requires_grad:
                torch.autograd.grad(total, trained, allow_unused=True)
        except Exception as error:  # noqa: BLE001 - no compiler, no headers, no Triton: each has errors of its own
            self.fault = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"
            log.warning("[training] compile: not here, steps are not compiled: %s", self.fault)
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)
