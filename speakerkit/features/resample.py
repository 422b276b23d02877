"""Rate and speed changes by soxr, and the ids that speed perturbation makes.

soxr HQ is flat to 0.9 of the Nyquist frequency and leaks below -130 dB at the price of
torchaudio's default resampler, which leaks at -20 dB.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

QUALITY = "HQ"
# Samples on either side of a chunk that the filter needs to settle: what is between them is the
# whole recording's sound to -130 dB, less than one sample early. 297 is a whole number of samples
# at speeds 0.9 (330) and 1.1 (270) too.
CHUNK_MARGIN = 297


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """The same sound at another sample rate.

    Args:
        samples: (num_samples,) float32.
        from_rate: its rate in Hz.
        to_rate: the wanted rate in Hz.

    Returns:
        (round(num_samples * to_rate / from_rate),) float32.

    Raises:
        ValueError: samples that are not one channel, or a rate below 1 Hz.
    """
    if from_rate < 1 or to_rate < 1:
        raise ValueError(f"sample rates are {from_rate} and {to_rate}; want 1 Hz or more")
    if from_rate == to_rate:
        return as_float32(samples)
    return convert(samples, float(from_rate), float(to_rate))


def resample_blocks(blocks: Iterable[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """The same of a signal that comes in blocks, in constant memory; together as long as ``resample`` makes it."""
    if from_rate == to_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality=QUALITY)
    taken = given = 0
    for block in blocks:
        taken += len(block)
        changed = stream.resample_chunk(as_float32(block))
        given += len(changed)
        yield changed
    missing = max(0, round(taken * to_rate / from_rate) - given)
    rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)[:missing]
    yield np.concatenate([rest, np.zeros(missing - len(rest), np.float32)])


def change_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """Play faster (speed > 1) or slower; pitch and tempo move together as in `sox speed`.

    Args:
        samples: (num_samples,) float32.
        speed: the factor; 0.9 lowers the pitch by 10 % and lengthens the recording.

    Returns:
        (round(num_samples / speed),) float32.

    Raises:
        ValueError: samples that are not one channel, or a speed outside 0.1 to 10.
    """
    check_speed(speed)
    if speed == 1.0:
        return as_float32(samples)
    return convert(samples, speed, 1.0)


def chunk_span(num_output: int, speed: float, start: int, num_available: int) -> tuple[int, int]:
    """Which input samples `speed_chunk` needs for a chunk of the perturbed recording.

    Args:
        num_output: length of the wanted chunk, in samples after the speed change.
        speed: the factor.
        start: where the chunk begins, in input samples.
        num_available: length of the recording, in input samples.

    Returns:
        first, count: read `count` samples from `first` on; inside the recording.
    """
    check_speed(speed)
    if speed == 1.0:
        return start, max(0, min(num_output, num_available - start))
    first = max(0, start - CHUNK_MARGIN)
    stop = min(num_available, start + int(np.ceil(num_output * speed)) + CHUNK_MARGIN)
    return first, max(0, stop - first)


def speed_chunk(samples: np.ndarray, speed: float, num_output: int, lead: int) -> np.ndarray:
    """A chunk of the speed-perturbed recording from only the samples around it.

    Args:
        samples: what `chunk_span` told to read.
        speed: the factor.
        num_output: length of the wanted chunk.
        lead: how many of `samples` lie before the chunk's start (start - first).

    Returns:
        (num_output,) float32, or fewer where the recording ends before.
    """
    changed = change_speed(samples, speed)
    begin = int(lead / speed + 1e-6)  # rounding up could leave the last sample out
    return changed[begin:begin + num_output]


def speed_utt_id(utt_id: str, speed: float, new_speakers: bool = True) -> str:
    """The id of a speed-perturbed utterance: `sp0.9-<utt>` of a new speaker, or `<utt>-sp0.9`."""
    if speed == 1.0:
        return utt_id
    return f"sp{speed:g}-{utt_id}" if new_speakers else f"{utt_id}-sp{speed:g}"


def speed_spk_id(spk_id: str, speed: float, new_speakers: bool = True) -> str:
    """The speaker of a speed-perturbed utterance: a new one, `sp0.9-<spk>`, or the same."""
    return f"sp{speed:g}-{spk_id}" if new_speakers and speed != 1.0 else spk_id


def convert(samples: np.ndarray, in_rate: float, out_rate: float) -> np.ndarray:
    """soxr with the length it should have by arithmetic: it may come out one sample off."""
    samples = as_float32(samples)
    wanted = round(len(samples) * out_rate / in_rate)
    if len(samples) == 0 or wanted == 0:
        return np.zeros(wanted, np.float32)
    changed = soxr.resample(samples, in_rate, out_rate, quality=QUALITY)
    if len(changed) < wanted:
        changed = np.concatenate([changed, np.zeros(wanted - len(changed), np.float32)])
    return changed[:wanted]


def as_float32(samples: np.ndarray) -> np.ndarray:
    """(num_samples,) float32, contiguous; another shape is the caller's mistake."""
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    if samples.ndim != 1:
        raise ValueError(f"samples have shape {samples.shape}; want one channel, (num_samples,)")
    return samples


def check_speed(speed: float) -> None:
    """A speed is a factor near 1; anything else is a unit mixed up."""
    if not 0.1 <= speed <= 10.0:
        raise ValueError(f"speed is {speed}; want a factor from 0.1 to 10")
