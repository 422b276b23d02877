"""Recordings of any length in constant memory: the network over overlapping stretches, statistics added up.

The frame-level part of a ResNet or ERes2Net sees a bounded stretch of time around each of its output steps. Stretches
that overlap by more than that, and begin at multiples of a step, give the very outputs of the whole;
mean and deviation of all of them are accumulated (Chan, Golub & LeVeque 1983) in float64. Mean
normalisation of the features needs a pass of its own before.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import RecordingError
from speakerkit.features.framing import BLOCK_FRAMES, framed_samples, num_frames
from speakerkit.inference.statistics import POOLING, TimeStatistics, pooled
from speakerkit.models.model_info import ModelInfo

# 3x3 convolutions one behind the other in a block; bottleneck blocks have one, and so has Res2Net, whose other part
# passes.
IN_A_BLOCK = {**dict.fromkeys(("resnet18", "resnet34", "resnet34_reference", "resnet34_sp_l2reg"), 2),
              "eres2net": 2, "eres2netv2": 2, "eres2net_huge": 3, "eres2netv2_w24s4ep4": 4}
STEP = 8  # frames an output step
MOST_FRAMES = 2048  # in one piece: 20 s; two of them in memory at once is what a worker needs at most

Blocks = Callable[[], Iterable[np.ndarray]]  # starts anew at every call


class Parts(Protocol):
    """A model that can be run part by part."""

    def front_end(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function of successive stretches of samples of one recording: (num_samples,) to (num_frames, columns)."""

    def frame_outputs(self, features: np.ndarray) -> np.ndarray:
        """(num_frames, columns), mean removed, to (channels, ceil(num_frames / 8), freq)."""

    def project(self, statistics: np.ndarray) -> np.ndarray:
        """Pooled statistics to (embedding_dim,)."""


def time_reach(config: ModelConfig) -> int:
    """Frames on either side of an output step that it may depend on, rounded up to whole steps.

    A 3x3 convolution at stride s reaches s frames further; the first of a stage, whose stride is 2,
    twice that to the right where padding is TensorFlow's. 119 for (3, 4, 6, 3) blocks of two. ERes2Nets bring the
    outputs of a stage to the next one by a single such convolution, which reaches less than the next stage's own.
    """
    per_block = IN_A_BLOCK.get(config.architecture, 1)
    reach = 1
    for stage, blocks in enumerate(config.num_blocks):
        spacing, count = 1 << stage, per_block * blocks
        reach += count if stage == 0 else spacing // 2 * 2 + spacing * (count - 1)
    return -(-reach // STEP) * STEP


def can_run_in_parts(info: ModelInfo) -> bool:
    """Whether a model's recordings can be run stretch by stretch: plain statistics, Kaldi's frames, a short reach."""
    is_plain = info.model.architecture in POOLING and info.model.pooling != "attention"
    return is_plain and info.fbank.filterbank == "kaldi" and 4 * time_reach(info.model) < MOST_FRAMES


@dataclass(frozen=True)
class Stretch:
    """Frames first..last - 1 that are run, and the output steps of them that are kept."""

    first: int
    last: int
    keep_from: int
    keep_to: int


def cut_stretches(total: int, reach: int, most: int = MOST_FRAMES) -> Iterator[Stretch]:
    """Stretches of at most ``most`` frames whose kept outputs are each output of the whole once.

    Every stretch is as long as the whole modulo a step: "same" padding at stride 2 lies by parity.
    """
    core = (most - 2 * reach - STEP) // STEP * STEP
    if core < STEP:
        raise ValueError(f"{most} frames are no more than the reach of {reach} on both sides")
    if total <= most:
        yield Stretch(0, total, 0, -(-total // STEP))
        return
    for begin in range(0, total, core):
        first, end = max(0, begin - reach), begin + core + reach + total % STEP
        is_last = end >= total or begin + core >= total
        last = total if is_last else end
        keep_to = -(-(last - first) // STEP) if is_last else (begin + core - first) // STEP
        yield Stretch(first, last, (begin - first) // STEP, keep_to)
        if is_last:
            return


def embed_long(parts: Parts, info: ModelInfo, blocks: Blocks, most: int = MOST_FRAMES) -> np.ndarray:
    """The embedding of a recording of any length, in constant memory.

    Args:
        parts: the model.
        info: what it is.
        blocks: the recording's samples at the model's rate; it is read twice where it has more than ``most`` frames.
        most: frames in one piece.

    Raises:
        RecordingError: too-short; its path is "samples".
    """
    mean, total, whole = _survey(parts, info, blocks, most)
    if total < 1:
        raise RecordingError("samples", "too-short", f"less than one frame of {info.fbank.frame_length} samples")
    statistics = TimeStatistics()
    window = _Window(iter(whole) if whole else fbank_blocks(blocks(), parts.front_end(), info.fbank), mean)
    for stretch in cut_stretches(total, time_reach(info.model), most):
        outputs = parts.frame_outputs(window.take(stretch.first, stretch.last))
        statistics.add(outputs[:, stretch.keep_from : stretch.keep_to])
    return parts.project(pooled(statistics, info.model))


def _survey(
    parts: Parts, info: ModelInfo, blocks: Blocks, most: int
) -> tuple[np.ndarray | None, int, list[np.ndarray]]:
    """A first pass over a recording: what its features lose as their mean, how many there are, and they themselves.

    Where there are more than ``most`` they are forgotten, and are to be computed again.
    """
    summed, total, whole = np.zeros(info.fbank.num_columns), 0, []
    for features in fbank_blocks(blocks(), parts.front_end(), info.fbank):
        summed += features.sum(axis=0, dtype=np.float64)
        total += len(features)
        whole = [*whole, features] if total <= most else []
    mean = (summed / max(total, 1)).astype(np.float32) if info.model.mean_norm else None
    return mean, total, whole


@dataclass
class _Window:
    """Frames of a stream, those before the last asked for forgotten."""

    stream: Iterator[np.ndarray]
    mean: np.ndarray | None
    begin: int = 0
    held: list[np.ndarray] = field(default_factory=list)

    def take(self, first: int, last: int) -> np.ndarray:
        """Frames first..last - 1, mean removed; ``first`` never goes back."""
        while self.begin + sum(map(len, self.held)) < last:
            features = next(self.stream)
            self.held.append(features if self.mean is None else features - self.mean)
        frames = np.concatenate(self.held)[first - self.begin :]
        self.begin, self.held = first, [frames]
        return frames[: last - first]


def fbank_blocks(blocks: Iterable[np.ndarray], front_end: Callable, config: FbankConfig) -> Iterator[np.ndarray]:
    """Features of a stream of samples, (at most BLOCK_FRAMES, columns) at a time."""
    wanted, shift = framed_samples(BLOCK_FRAMES, config), BLOCK_FRAMES * config.frame_shift
    held = np.zeros(0, np.float32)
    if config.filterbank == "speechbrain":
        edge = [np.zeros(config.frame_length // 2, np.float32)]
        blocks = itertools.chain(edge, blocks, edge)
    elif not config.snip_edges:
        blocks = _mirrored(blocks, config)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= wanted:
            yield front_end(held[:wanted])
            held = held[shift:]
    if len(held) >= config.frame_length:
        yield front_end(held)


def _mirrored(blocks: Iterable[np.ndarray], config: FbankConfig) -> Iterator[np.ndarray]:
    """Without snip_edges: the stream with the mirror images of its ends that the first and last frames see."""
    before = config.frame_length // 2 - config.frame_shift // 2
    tail, total, waiting = np.zeros(0, np.float32), 0, []
    for block in blocks:
        total += len(block)
        if waiting is not None:
            waiting.append(block)
            if total < max(before, 1):
                continue
            block = np.concatenate(waiting)
            yield np.concatenate([block[:before][::-1], block]) if before >= 0 else block[-before:]
            waiting = None
        else:
            yield block
        tail = np.concatenate([tail, block])[-config.frame_length - config.frame_shift :]
    frames = (total + config.frame_shift // 2) // config.frame_shift
    after = (frames - 1) * config.frame_shift + config.frame_length - before - total
    if after > 0:
        yield tail[::-1][:after]


def is_long(num_samples: int, config: FbankConfig, most: int = MOST_FRAMES) -> bool:
    """Whether a recording has more frames than are run in one piece."""
    return num_frames(num_samples, config) > most
