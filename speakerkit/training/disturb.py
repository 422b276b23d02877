"""What one chunk of samples goes through before its features: room, noise, band limit, gain, clipping."""

from collections.abc import Callable

import numpy as np

from speakerkit.config import AugmentationConfig
from speakerkit.features import augment

LOW_CUT_HZ = (20.0, 300.0)  # lower edge of a limited band
DIRECT_TO_REVERBERANT_DB = (-2.0, 12.0)
NOISE_TILT = (0.0, 2.0)  # spectrum 1 / f^tilt: white to brown
CLIP_DRIVE = (1.2, 4.0)
MIN_ACTIVE_RMS = 1e-4  # a chunk that fell into a pause; disturbing it would train on noise alone

TakeRecording = Callable[[int, np.random.Generator], np.ndarray]


def disturb_chunk(
    samples: np.ndarray,
    config: AugmentationConfig,
    sample_rate: int,
    generator: np.random.Generator,
    babble: TakeRecording,
    noises: TakeRecording | None = None,
    responses: Callable[[np.random.Generator], np.ndarray] | None = None,
) -> np.ndarray:
    """Draw what happens to a chunk, and do it in the order of the real chain: room, noise, channel.

    Args:
        samples: (n,) float32 in [-1, 1].
        config: probabilities and ranges.
        sample_rate: Hz.
        generator: of all draws; the same draws are made whatever is switched on.
        babble: n samples of some other speech.
        noises: n samples of a recorded noise; None makes coloured noise.
        responses: a recorded room response; None makes one.

    Returns:
        (n,) float32.
    """
    draws = generator.random(6)
    if augment.rms(samples) < MIN_ACTIVE_RMS:
        return samples
    if draws[0] < config.reverberation:
        if responses is None:
            response = augment.synthetic_room_response(
                sample_rate, generator.uniform(*config.rt60_s), generator.uniform(*DIRECT_TO_REVERBERANT_DB), generator
            )
        else:
            response = responses(generator)
        samples = augment.reverberate(samples, response)
    if draws[1] < config.noise:
        if draws[2] < config.babble:
            noise = babble(len(samples), generator)
        elif noises is not None:
            noise = noises(len(samples), generator)
        else:
            noise = augment.coloured_noise(len(samples), generator.uniform(*NOISE_TILT), generator)
        samples = augment.add_noise(samples, noise, generator.uniform(*config.snr_db))
    if draws[3] < config.band_limit:
        high = min(generator.uniform(*config.high_cut_hz), sample_rate / 2 - 50)
        samples = augment.band_limit(samples, sample_rate, generator.uniform(*LOW_CUT_HZ), high)
    if draws[4] < config.clip:
        samples = augment.soft_clip(samples, generator.uniform(*CLIP_DRIVE))
    if config.gain_db != (0.0, 0.0):
        samples = augment.change_gain(samples, generator.uniform(*config.gain_db))
    return samples
