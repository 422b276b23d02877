"""A recording in memory -> mono float32 samples, checked as those of a file are."""

from collections import Counter

import numpy as np

from speakerkit.errors import RecordingError
from speakerkit.io import audio
from speakerkit.io.sound_file import AudioInfo

MOST_CHANNELS = 64  # two sides longer than that are no recording: features, or several recordings
FULL_SCALE = {"int16": 2.0 ** 15, "int32": 2.0 ** 31}  # as libsndfile has them: full scale is 1.0
FLOATS = ("float16", "float32", "float64")
NAME = "samples"  # how errors call a recording that has no name


def is_samples(thing: object) -> bool:
    """Whether something is a numpy array (or scalar) or a torch tensor."""
    return isinstance(thing, (np.ndarray, np.generic)) or is_tensor(thing)


def is_tensor(thing: object) -> bool:
    """Whether something is a torch tensor; torch is not imported for the question."""
    return any(kind.__module__ == "torch" and kind.__name__ == "Tensor" for kind in type(thing).__mro__)


def take_samples(thing, sample_rate: float | None, options: audio.AudioOptions | None = None,
                 name: str = NAME) -> tuple[np.ndarray, int, Counter]:
    """Samples as they lie in memory, made mono float32 by the arithmetic that reads a file of the same values.

    Args:
        thing: numpy array or torch tensor (any device): int16 or int32 at full scale, or float16 to float64
            in [-1, 1]. Shape (num_samples,), or two-dimensional: the longer side is time, the other one
            channels (at most 64), in either order.
        sample_rate: Hz, 4 to 192 kHz.
        options: channel, and which durations are accepted; None: AudioOptions().
        name: what errors call it.

    Returns:
        samples: (num_samples,) float32 in [-1, 1], a copy, never silent, all finite.
        sample_rate: in Hz.
        notes: counts of audio.NOTES.

    Raises:
        ValueError: a type, shape or rate that no recording has: the caller's mistake.
        RecordingError: bad-sample-rate, channel-not-chosen, empty, too-short, too-long, not-finite, silent,
            unsupported-format (float samples in an integer scale, 16-bit values in int32).
    """
    options = options or audio.AudioOptions()
    rate = _check_rate(sample_rate, name)
    values = _as_array(thing)
    if values.dtype.name not in (*FULL_SCALE, *FLOATS):
        raise ValueError(f"samples are {values.dtype}; want int16, int32, float32 or float64")
    values = time_first(values)
    audio.check_channel(name, values.shape[1], options.channel)
    info = AudioInfo(rate, len(values), values.shape[1], "samples")
    audio.check_duration(name, info, info.num_samples, options)
    if values.dtype.name == "int32":
        _refuse_short_values(values, name)
    samples = audio.choose_channel(_to_full_scale_one(values), options.channel)
    notes: Counter = Counter()
    audio.check_sound(samples, rate, name, notes)
    return samples.astype(np.float32), rate, +notes


def time_first(values: np.ndarray) -> np.ndarray:
    """(num_samples,), (num_samples, num_channels) or (num_channels, num_samples) -> (num_samples, num_channels).

    Raises:
        ValueError: another shape, or one that doesn't show which side is time.
    """
    if values.ndim == 1:
        return values[:, None]
    if values.ndim != 2:
        raise ValueError(f"samples have shape {values.shape}; want (num_samples,) or (num_samples, num_channels)")
    if 0 in values.shape:
        return values.reshape(0, 1)
    num_samples, num_channels = max(values.shape), min(values.shape)
    if num_channels > MOST_CHANNELS or (num_samples == num_channels > 1):
        raise ValueError(f"samples have shape {values.shape}; want (num_samples,), or time and at most "
                         f"{MOST_CHANNELS} channels, of which time is longer")
    return values if values.shape[0] == num_samples else values.T


def _as_array(thing) -> np.ndarray:
    if is_tensor(thing):
        if str(thing.layout) != "torch.strided" or thing.is_meta:
            raise ValueError(f"samples are a tensor of layout {thing.layout} on {thing.device}; want a dense one")
        if str(thing.dtype) == "torch.bfloat16":  # numpy has no such type
            thing = thing.float()
        try:
            thing = thing.numpy(force=True)  # of any device, with a gradient, or a view that torch negates when read
        except (TypeError, RuntimeError):
            raise ValueError(f"samples are {thing.dtype}; want int16, int32, float32 or float64") from None
    if np.ma.is_masked(thing):
        raise ValueError("samples are masked in places; want them all, or silence in their place (.filled(0))")
    values = np.asarray(thing)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _check_rate(sample_rate: float | None, name: str) -> int:
    if sample_rate is None:
        raise ValueError("samples don't say their rate; give sample_rate=, in Hz")
    is_number = isinstance(sample_rate, (int, float, np.integer, np.floating)) and not isinstance(sample_rate, bool)
    if not is_number or sample_rate != sample_rate or sample_rate % 1:
        raise ValueError(f"sample_rate is {sample_rate!r}; want whole Hz")
    audio.check_rate(name, int(sample_rate))
    return int(sample_rate)


def _to_full_scale_one(values: np.ndarray) -> np.ndarray:
    """Integers as float32 with full scale at 1, floats as they are: float64 is judged before it is rounded."""
    full_scale = FULL_SCALE.get(values.dtype.name)
    if full_scale is None:
        return values if values.dtype == np.float64 else values.astype(np.float32)
    return values.astype(np.float32) / np.float32(full_scale)


def _refuse_short_values(values: np.ndarray, name: str) -> None:
    low, high = int(values.min()), int(values.max())
    if (low or high) and low >= -2 ** 15 and high < 2 ** 15:
        raise RecordingError(name, "unsupported-format",
                             f"int32 samples in the 16-bit scale ({low} to {high}); want .astype('int16')")
