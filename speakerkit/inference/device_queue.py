"""Padded batches through a network; on a GPU the next is copied while this one runs, and results come back later."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from speakerkit.features.framing import num_frames
from speakerkit.inference.batches import fill_rows
from speakerkit.inference.torch_runner import TorchRunner
from speakerkit.models.golden import prepare_features

log = logging.getLogger(__name__)

AHEAD = 3  # batches on their way to or on the GPU at a time
EAGER_RUNS = 2  # of a shape before its kernels are recorded: they also warm up what a recording may not do
MOST_GRAPHS = 64

Ticket = object  # what a queue hands out for a batch
Compute = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (batch, num_samples), (batch,) -> (batch, dim)


class DeviceQueue(Protocol):
    """Where batches are put in and their embeddings taken out, in any order."""

    def put(self, utterances: Sequence[np.ndarray], num_samples: int) -> Ticket:
        """Begin a batch of (n,) float32 utterances, padded to ``num_samples``; they are copied when it returns.

        Raises:
            RuntimeError: among others, that memory is short: ``is_out_of_memory``.
        """

    def take(self, ticket: Ticket) -> np.ndarray:
        """(batch, embedding_dim) float32, once it is there."""

    def free(self) -> None:
        """Give back what memory can be given back."""


@torch.inference_mode()
def embed_padded(runner: TorchRunner, samples: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Embeddings of a padded batch, each the one that its utterance has alone.

    Args:
        runner: the network and where it runs.
        samples: (batch, num_samples) float32 on the runner's device.
        lengths: (batch,) int64 true numbers of samples there, at least one frame's.

    Returns:
        (batch, embedding_dim) float32 on the device.
    """
    fbank = runner.info.fbank
    features = prepare_features(samples, fbank, runner.info.model, lengths=lengths)
    return runner.network(features.to(runner.precision), num_frames(lengths, fbank)).float()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU's memory, or that of one of its libraries, is what was short."""
    return isinstance(error, torch.OutOfMemoryError) or "ALLOC_FAILED" in str(error)


def start_queue(runner: TorchRunner) -> DeviceQueue:
    """The queue for a runner's device."""
    return CudaQueue(runner) if runner.device.type == "cuda" else DirectQueue(runner)


class DirectQueue:
    """Every batch at once, in this thread."""

    def __init__(self, runner: TorchRunner):
        self.runner = runner

    def put(self, utterances: Sequence[np.ndarray], num_samples: int) -> np.ndarray:
        """See ``DeviceQueue``."""
        samples = torch.empty(len(utterances), num_samples)
        lengths = torch.from_numpy(fill_rows(samples.numpy(), utterances))
        return embed_padded(self.runner, samples, lengths).numpy()

    def take(self, ticket: np.ndarray) -> np.ndarray:
        """See ``DeviceQueue``."""
        return ticket

    def free(self) -> None:
        """See ``DeviceQueue``."""


def page_locked(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """An empty tensor in memory that a GPU reads and writes by itself, while this process goes on."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)


class CudaQueue:
    """Page-locked memory, a stream that copies and one that computes; shapes that come often as CUDA graphs."""

    def __init__(self, runner: TorchRunner):
        self.runner = runner
        self.copying, self.computing = (torch.cuda.Stream(runner.device) for _ in range(2))
        self.computing.wait_stream(torch.cuda.current_stream(runner.device))  # on which the weights came
        self.running: deque[torch.cuda.Event] = deque()
        self.compute = RepeatedShapes(self._embed, self._record, runner.info.fbank.dither == 0)
        self.pool = None  # the memory that all graphs share, and that of their samples: one runs at a time
        self.given = torch.empty(0, device=runner.device)

    @torch.inference_mode()
    def put(self, utterances: Sequence[np.ndarray], num_samples: int) -> tuple[torch.Tensor, torch.cuda.Event]:
        """See ``DeviceQueue``."""
        if len(self.running) >= AHEAD:
            self.running.popleft().synchronize()
        samples, lengths = page_locked(len(utterances), num_samples), page_locked(len(utterances), dtype=torch.int64)
        lengths.copy_(torch.from_numpy(fill_rows(samples.numpy(), utterances)))
        with torch.cuda.stream(self.copying):
            there = [tensor.to(self.runner.device, non_blocking=True) for tensor in (samples, lengths)]
        with torch.cuda.stream(self.computing):
            self.computing.wait_stream(self.copying)
            for tensor in there:  # made on one stream, used on the other: kept until both are done with it
                tensor.record_stream(self.computing)
            embeddings = self.compute(*there)
            found = page_locked(*embeddings.shape)
            found.copy_(embeddings, non_blocking=True)
            done = torch.cuda.Event()
            done.record(self.computing)
        self.running.append(done)
        return found, done

    def take(self, ticket: tuple[torch.Tensor, torch.cuda.Event]) -> np.ndarray:
        """See ``DeviceQueue``."""
        found, done = ticket
        done.synchronize()
        return found.numpy().copy()

    def free(self) -> None:
        """See ``DeviceQueue``; no graphs any more, which hold on to theirs."""
        torch.cuda.synchronize(self.runner.device)
        self.compute.forget()
        self.pool, self.given = None, self.given[:0].clone()
        torch.cuda.empty_cache()

    def _embed(self, samples: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return embed_padded(self.runner, samples, lengths)

    def _record(self, samples: torch.Tensor, lengths: torch.Tensor) -> Compute:
        """The kernels of one shape as a graph, which starts them all at once."""
        if self.given.numel() < samples.numel():
            self.given = torch.empty(samples.numel(), device=self.runner.device)
        given = self.given[: samples.numel()].view_as(samples).copy_(samples), lengths.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.computing, capture_error_mode="thread_local"):
            found = self._embed(*given)
        self.pool = graph.pool()

        def replay(samples: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            given[0].copy_(samples)
            given[1].copy_(lengths)
            graph.replay()
            return found

        return replay


class RepeatedShapes:
    """A function of a batch that is recorded for the shapes that come again, where that can be done.

    Below some ten thousand frames a GPU waits for Python to start its kernels; a recording starts
    them at once. Dither can't be recorded: its noise would be drawn once.
    """

    def __init__(
        self, compute: Compute, record: Callable[[torch.Tensor, torch.Tensor], Compute], may_record: bool = True
    ):
        self.compute, self.record, self.may_record = compute, record, may_record
        self.seen: Counter = Counter()
        self.recorded: dict[tuple[int, ...], Compute] = {}

    def __call__(self, samples: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        shape = tuple(samples.shape)
        self.seen[shape] += 1
        if self.may_record and shape not in self.recorded and self.seen[shape] > EAGER_RUNS:
            self._try_to_record(shape, samples, lengths)
        return self.recorded.get(shape, self.compute)(samples, lengths)

    def forget(self) -> None:
        """Drop what is recorded, and record nothing any more."""
        self.recorded.clear()
        self.may_record = False

    def _try_to_record(self, shape: tuple[int, ...], samples: torch.Tensor, lengths: torch.Tensor) -> None:
        try:
            self.recorded[shape] = self.record(samples, lengths)
            self.may_record = len(self.recorded) < MOST_GRAPHS
        except RuntimeError as error:  # a kernel that can't be recorded, or no memory for it: slower, not wrong
            self.may_record = False
            log.debug("no CUDA graphs: %s", error)
