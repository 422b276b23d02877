"""Which utterances share a padded batch: like lengths together, on a grid, within a budget of frames. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speakerkit.config import FbankConfig
from speakerkit.features.framing import chunk_samples

# up to so many frames -> lengths are multiples of; no more than an eighth is padding from 256 frames on
GRID = ((1024, 32), (2048, 64))
COARSE_GRID = 256  # beyond
# A batch takes shorter utterances than these in any case until it has LEAST_FRAMES; a device is hardly busy before.
LEAST_SHARE = 0.85  # of a batch's length
LEAST_FRAMES = 16384
ROW_STEP = 16  # batches that are cut short have multiples of so many rows: shapes that come again


def padded_length(frames: int) -> int:
    """The length on the grid that ``frames`` are padded to."""
    spacing = next((spacing for limit, spacing in GRID if frames <= limit), COARSE_GRID)
    return -(-frames // spacing) * spacing


@dataclass(frozen=True)
class Batch:
    """Some utterances of a list, and the length that all of them are padded to."""

    members: tuple[int, ...]  # their places in the list, longest first
    num_frames: int


def cut_batches(lengths: Sequence[int], budget: int) -> list[Batch]:
    """Every utterance in one batch, the longest first, as many in each as the budget holds and their lengths allow.

    Args:
        lengths: frames of each utterance, at least 1.
        budget: frames of a batch, padding included; an utterance longer than that is a batch by itself.

    Returns:
        Batches by falling length. The same lengths and budget give the same batches. Some 11 % of the
        frames are padding with an hour of lengths as VoxCeleb's or CN-Celeb's are.

    Raises:
        ValueError: a length or a budget below 1.
    """
    if budget < 1 or min(lengths, default=1) < 1:
        raise ValueError(f"a budget of {budget} frames for lengths from {min(lengths, default=1)}; want 1 or more")
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])  # stable: equal lengths in the list's order
    falling = [padded_length(lengths[place]) for place in order]
    batches, first = [], 0
    while first < len(order):
        rows = _count_rows(falling[first : first + max(1, budget // falling[first])])
        if rows > ROW_STEP and first + rows < len(order) and (rows + 1) * falling[first] <= budget:
            rows -= rows % ROW_STEP
        batches.append(Batch(tuple(order[first : first + rows]), falling[first]))
        first += rows
    return batches


def _count_rows(falling: Sequence[int]) -> int:
    """How many of the padded lengths that a batch has room for share it."""
    enough = -(-LEAST_FRAMES // falling[0])
    rows = min(len(falling), enough)
    while rows < len(falling) and falling[rows] >= LEAST_SHARE * falling[0]:
        rows += 1
    return rows


def row_samples(num_frames: int, config: FbankConfig) -> int:
    """Samples of a row that holds every utterance of up to ``num_frames`` frames, but for what no frame sees."""
    if config.filterbank == "kaldi" and config.snip_edges:
        return chunk_samples(num_frames, config)
    return num_frames * config.frame_shift + config.frame_length


def fill_rows(rows: np.ndarray, utterances: Sequence[np.ndarray]) -> np.ndarray:
    """Put one utterance into each row, zeros behind it.

    Args:
        rows: (batch, num_samples) float32, written to.
        utterances: (num_samples,) float32 each; what is longer than a row is cut.

    Returns:
        (batch,) int64: samples of each.
    """
    lengths = np.array([min(len(utterance), rows.shape[1]) for utterance in utterances], np.int64)
    for row, utterance, length in zip(rows, utterances, lengths, strict=True):
        row[:length] = utterance[:length]
        row[length:] = 0.0
    return lengths
