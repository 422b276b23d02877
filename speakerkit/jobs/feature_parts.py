"""One part of make-fbank: its recordings read, at every speed, into an archive that is final."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from speakerkit.config import FbankConfig, as_dict
from speakerkit.errors import RecordingError
from speakerkit.io import ark, audio
from speakerkit.jobs.parts import PartFolder
from speakerkit.jobs.utterances import Utterance, load_utterance

KEY_BYTES = 64  # of a record's key and header, as far as the disk space needed is foretold


@dataclass(frozen=True)
class FeatureOptions:
    """All that decides what the features of a recording are."""

    fbank: FbankConfig = field(default_factory=FbankConfig)
    speeds: tuple[float, ...] = (1.0,)
    new_speakers: bool = True  # a speed is a new speaker, `sp0.9-<utt>`; else `<utt>-sp0.9`
    compress: bool = False
    seed: int = 1  # of the dither
    audio_options: audio.AudioOptions = field(default_factory=audio.AudioOptions)

    def as_dict(self) -> dict:
        """For a manifest; what changes nothing is left out."""
        chosen = self.audio_options
        return {
            "fbank": as_dict(self.fbank),
            "speeds": list(self.speeds),
            "speed_speakers": "new" if self.new_speakers else "keep",
            "compress": self.compress,
            "seed": self.seed if self.fbank.dither > 0 else None,
            "channel": chosen.channel,
            "pcm_rate": chosen.pcm_rate,
            "min_duration": chosen.min_duration_s,
            "accept_truncated": chosen.accept_truncated,
        }


@dataclass(frozen=True)
class PartTask:
    """One part, as a worker takes it."""

    number: int
    utterances: list[Utterance]
    fingerprint: str
    folder: PartFolder
    options: FeatureOptions


def make_part(task: PartTask) -> dict:
    """Write a part's archive and mark it as finished.

    Returns:
        Its facts: `num_frames` and `offsets` (id -> where in the archive), `bad` (utt_id -> path,
        reason, detail), `audio_seconds`, `notes` and `rates` (counts).
    """
    num_frames: dict[str, int] = {}
    bad: dict[str, list[str]] = {}
    notes, rates, audio_s = Counter(), Counter(), 0.0
    data = task.folder.data_path(task.number)
    part_scp = data.with_suffix(".scp")
    with ark.ArkWriter(data, part_scp) as writer:
        for utterance in task.utterances:
            try:
                samples, rate = load_utterance(utterance, task.options.audio_options, notes)
                features = compute_features(utterance, samples, rate, task.options)
            except RecordingError as error:
                bad[utterance.utt_id] = [utterance.path, error.reason, error.detail]
                continue
            rates[str(rate)] += 1
            audio_s += len(samples) / rate
            for key, matrix in features.items():
                writer.write(key, matrix, compress=task.options.compress)
                num_frames[key] = len(matrix)
    offsets = {key: place.offset for key, place in ark.read_scp(part_scp).items()} if num_frames else {}
    part_scp.unlink()
    facts = {"num_frames": num_frames, "offsets": offsets, "bad": bad, "audio_seconds": audio_s}
    facts |= {"notes": dict(notes), "rates": dict(rates)}
    return task.folder.finish(task.number, task.fingerprint, facts)


def compute_features(
    utterance: Utterance, samples: np.ndarray, rate: int, options: FeatureOptions
) -> dict[str, np.ndarray]:
    """Features of one recording at every speed: all of them or, with a RecordingError, none.

    Args:
        utterance: whose features.
        samples: (num_samples,) float32 in [-1, 1].
        rate: their sample rate in Hz.
        options: what is computed.

    Returns:
        id -> (num_frames, num_columns) float32, in the order of the speeds.
    """
    import torch

    from speakerkit.features import fbank, resample

    samples = resample.resample(samples, rate, options.fbank.sample_rate)
    features = {}
    for speed in options.speeds:
        key = resample.speed_utt_id(utterance.utt_id, speed, options.new_speakers)
        changed = resample.change_speed(samples, speed)
        if fbank.num_frames(len(changed), options.fbank) < 1:
            detail = f"{len(changed)} samples at speed {speed:g}; wanted one frame of {options.fbank.frame_length}"
            raise RecordingError(utterance.path, "too-short", detail)
        dither = None
        if options.fbank.dither > 0:
            dither = torch.Generator().manual_seed(dither_seed(options.seed, key))
        features[key] = fbank.compute_fbank(torch.from_numpy(changed), options.fbank, generator=dither).numpy()
    return features


def dither_seed(seed: int, key: str) -> int:
    """A seed of an utterance's own, so that its dither depends on no other utterance and no worker."""
    return int.from_bytes(hashlib.sha256(f"{seed} {key}".encode()).digest()[:8]) >> 1


def expected_bytes(seconds: Iterable[float], options: FeatureOptions) -> int:
    """Roughly how large the archives of recordings of these lengths become."""
    config, total = options.fbank, 0.0
    for value in seconds:
        for speed in options.speeds:
            frames = math.ceil(value / speed * 1000 / config.frame_shift_ms)
            total += KEY_BYTES + config.num_columns * (8 + frames if options.compress else 4 * frames)
    return int(total)


def describe_part(task: PartTask) -> str:
    """For the message about a worker that died."""
    return f"{os.path.basename(task.folder.data_path(task.number))} ({len(task.utterances)} recordings)"
