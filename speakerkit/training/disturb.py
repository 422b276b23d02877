"""What chunks of samples go through before their features: room, noise, band limit, clipping, gain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from speakerkit.config import AugmentationConfig
from speakerkit.features import augment, augment_together
from speakerkit.features.augment import RoomResponse

LOW_CUT_HZ = (20.0, 300.0)  # lower edge of a limited band
DIRECT_TO_REVERBERANT_DB = (-2.0, 12.0)
NOISE_TILT = (0.0, 2.0)  # spectrum 1 / f^tilt: white to brown
CLIP_DRIVE = (1.2, 4.0)
MIN_ACTIVE_RMS = 1e-4  # a chunk that fell into a pause; disturbing it would train on noise alone

TakeRecording = Callable[[int, np.random.Generator], np.ndarray]


@dataclass
class Disturbance:
    """What was drawn for a chunk; None: that isn't done."""

    response: np.ndarray | RoomResponse | None = None
    noise: np.ndarray | None = None  # as many samples as the chunk has, of any level
    snr_db: float | None = None
    band_hz: tuple[float, float] | None = None
    clip_drive: float | None = None
    gain_db: float | None = None


def draw_disturbance(
    samples: np.ndarray,
    num_samples: int,
    config: AugmentationConfig,
    sample_rate: int,
    generator: np.random.Generator,
    babble: TakeRecording,
    noises: TakeRecording | None = None,
    responses: Callable[[np.random.Generator], np.ndarray | RoomResponse] | None = None,
) -> Disturbance:
    """Draw what happens to a chunk.

    Args:
        samples: (n,) float32 in [-1, 1], the chunk or what a change of speed will make it of: are they a pause?
        num_samples: of the chunk.
        config: probabilities and ranges.
        sample_rate: Hz.
        generator: of all draws; the same draws are made whatever is switched on.
        babble: so many samples of some other speech.
        noises: so many samples of a recorded noise; None makes coloured noise.
        responses: a recorded room response; None makes one.
    """
    draws, drawn = generator.random(6), Disturbance()
    if augment.rms(samples) < MIN_ACTIVE_RMS:
        return drawn
    if draws[0] < config.reverberation:
        if responses is None:
            drawn.response = augment.synthetic_room_response(
                sample_rate, generator.uniform(*config.rt60_s), generator.uniform(*DIRECT_TO_REVERBERANT_DB), generator
            )
        else:
            drawn.response = responses(generator)
    if draws[1] < config.noise:
        if draws[2] < config.babble:
            drawn.noise = babble(num_samples, generator)
        elif noises is not None:
            drawn.noise = noises(num_samples, generator)
        else:
            drawn.noise = augment.coloured_noise(num_samples, generator.uniform(*NOISE_TILT), generator)
        drawn.snr_db = generator.uniform(*config.snr_db)
    if draws[3] < config.band_limit:
        high = min(generator.uniform(*config.high_cut_hz), sample_rate / 2 - 50)
        drawn.band_hz = generator.uniform(*LOW_CUT_HZ), high
    if draws[4] < config.clip:
        drawn.clip_drive = generator.uniform(*CLIP_DRIVE)
    if config.gain_db != (0.0, 0.0):
        drawn.gain_db = generator.uniform(*config.gain_db)
    return drawn


def disturb(samples: np.ndarray, drawn: Disturbance, sample_rate: int) -> np.ndarray:
    """(n,) float32: one chunk after what was drawn for it, in the order of the real chain: room, noise, channel."""
    if drawn.response is not None:
        samples = augment.reverberate(samples, drawn.response)
    if drawn.noise is not None:
        samples = augment.add_noise(samples, drawn.noise, drawn.snr_db)
    if drawn.band_hz is not None:
        samples = augment.band_limit(samples, sample_rate, *drawn.band_hz)
    if drawn.clip_drive is not None:
        samples = augment.soft_clip(samples, drawn.clip_drive)
    if drawn.gain_db is not None:
        samples = augment.change_gain(samples, drawn.gain_db)
    return samples


def disturb_together(
    chunks: np.ndarray, drawn: Sequence[Disturbance], sample_rate: int, longest_response: int = 0
) -> np.ndarray:
    """What ``disturb`` makes of each chunk, in less time: their FFTs are done side by side.

    Args:
        chunks: (num_chunks, n) float32; written to.
        drawn: of each.
        sample_rate: Hz.
        longest_response: samples of the longest room response that will ever come, 0 where it isn't known.

    Returns:
        ``chunks``.
    """
    rows = [row for row, one in enumerate(drawn) if one.response is not None]
    if rows:
        responses = [drawn[row].response for row in rows]
        chunks[rows] = augment_together.reverberate(chunks[rows], responses, longest_response)
    for row, one in enumerate(drawn):
        if one.noise is not None:
            chunks[row] = augment.add_noise(chunks[row], one.noise, one.snr_db)
    rows = [row for row, one in enumerate(drawn) if one.band_hz is not None]
    if rows:
        chunks[rows] = augment_together.band_limit(chunks[rows], sample_rate, [drawn[row].band_hz for row in rows])
    for row, one in enumerate(drawn):
        if one.clip_drive is not None:
            chunks[row] = augment.soft_clip(chunks[row], one.clip_drive)
        if one.gain_db is not None:
            chunks[row] = augment.change_gain(chunks[row], one.gain_db)
    return chunks
