"""Are two recordings of one speaker? A cosine, what the model's threshold makes of it, and how far to trust that."""

import hashlib
import logging
import sys
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from speakerkit.errors import ConfigError, DataError, RecordingError, raise_all
from speakerkit.io import audio
from speakerkit.scoring.cosine import cosine_score

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VerificationOptions:
    """What to verify with."""

    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    audio_options: audio.AudioOptions = field(default_factory=audio.AudioOptions)


@dataclass(frozen=True)
class _Recording:
    path: str
    samples: np.ndarray
    sample_rate: int
    notes: Counter

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate


def similarity_percent(cosine: float, threshold: float) -> float:
    """0 at the threshold and below, 100 for equal directions: max(cosine - threshold, 0) / (1 - threshold) * 100.

    This is the reference system's number. It is no probability.
    """
    return max(cosine - threshold, 0.0) / (1.0 - threshold) * 100.0


def verify_speakers(test: str, enrol: list[str], options: VerificationOptions, report: dict) -> None:
    """Compare a recording with one or several of a speaker, whose embeddings are averaged.

    Args:
        test: the recording in question; `-` is standard input.
        enrol: recordings of the one speaker.
        options: model and how recordings are taken.
        report: filled with `cosine` and, where the model has a threshold, `similarity`, `threshold` and
            `decision` (else None), with what the model says of itself and with the recordings' lengths.

    Raises:
        RecordingError, DataErrors: recordings that can't be used; nothing is scored then.
        DataError: a model that can't be used.
        ConfigError: standard input twice.
    """
    if [test, *enrol].count("-") > 1:
        raise ConfigError("standard input (-) can be one recording only")
    report.update(test=test, enrol=enrol)
    recordings = _read_all([test, *enrol], options.audio_options, report)
    extractor = _load(options)
    info = extractor.info
    report.update(model=info.name, sha256=extractor.sha256, precision=extractor.precision_name,
                  training_data=info.training_data or None, domain=info.domain or None,
                  threshold_trials=info.threshold_trials or None)
    if info.threshold is not None and not -1.0 < info.threshold < 1.0:
        raise DataError(extractor.path, f"threshold is {info.threshold}; want a cosine between -1 and 1")
    embeddings = _embed_all(recordings, extractor, report)
    mean = np.mean(embeddings[1:], axis=0, dtype=np.float64)
    if not mean.any():
        raise RecordingError(enrol[0], "zero-embedding", f"the mean of {len(enrol)} enrolment embeddings is zero")
    report.update(judge(cosine_score(embeddings[0], mean), info.threshold))
    _warn(recordings, info.fbank.sample_rate)
    _say_how_far_to_trust(info, extractor.sha256)


def judge(cosine: float, threshold: float | None) -> dict[str, float | str | None]:
    """The answer under the names in which it is printed; all but the cosine are None without a threshold."""
    if threshold is None:
        return {"cosine": cosine, "similarity": None, "threshold": None, "decision": None}
    return {"cosine": cosine, "similarity": similarity_percent(cosine, threshold), "threshold": threshold,
            "decision": "same" if cosine >= threshold else "different"}


def _read_all(paths: list[str], options: audio.AudioOptions, report: dict) -> list[_Recording]:
    """All recordings, or all that is wrong with them."""
    recordings: list[_Recording] = []
    faults: list[RecordingError] = []
    for path in paths:
        notes: Counter = Counter()
        try:
            samples, rate = audio.load_audio(sys.stdin.buffer if path == "-" else path, options, notes=notes)
            recordings.append(_Recording(path, samples, rate, notes))
        except RecordingError as error:
            faults.append(error)
    _count_bad(faults, report)
    raise_all(faults)
    report["test_seconds"], *report["enrol_seconds"] = [round(r.duration_s, 3) for r in recordings]
    return recordings


def _count_bad(faults: list[RecordingError], report: dict) -> None:
    report["num_bad"] = len(faults)
    report.update(Counter(f"bad_{fault.reason.replace('-', '_')}" for fault in faults))


def _load(options: VerificationOptions):
    from speakerkit.inference.extractor import load_extractor
    from speakerkit.models import device

    device.keep_freed_memory()
    return load_extractor(options.model, options.device, options.precision)


def _embed_all(recordings: list[_Recording], extractor, report: dict) -> list[np.ndarray]:
    embeddings = []
    for recording in recordings:
        try:
            embeddings.append(extractor.embed_samples(recording.samples, recording.sample_rate))
        except RecordingError as error:
            _count_bad([error], report)
            raise RecordingError(recording.path, error.reason, error.detail) from None
    return embeddings


def _warn(recordings: list[_Recording], model_rate: int) -> None:
    """What makes this answer less sure, recording by recording."""
    for recording in recordings:
        for note in sorted(recording.notes):
            log.warning("%s (%.2f s): %s", recording.path, recording.duration_s, audio.NOTES[note])
        if recording.sample_rate < model_rate:
            log.warning("%s: %d Hz, the model hears %d Hz: above %d Hz there is nothing, and the score is less sure",
                        recording.path, recording.sample_rate, model_rate, recording.sample_rate // 2)
        elif recording.sample_rate > model_rate:
            log.info("%s: resampled from %d Hz to %d Hz", recording.path, recording.sample_rate, model_rate)
    digests = [hashlib.sha256(recording.samples.tobytes()).digest() for recording in recordings]
    for recording, digest in zip(recordings[1:], digests[1:], strict=True):
        if digest == digests[0]:
            log.warning("%s and %s hold the same samples: that says nothing of the speaker", recordings[0].path,
                        recording.path)


def _say_how_far_to_trust(info, sha256: str) -> None:
    log.info("model %s (%s) was trained on: %s; it is for: %s", info.name, sha256[:8],
             info.training_data or "it doesn't say", info.domain or "it doesn't say")
    if info.threshold is None:
        log.warning("the model has no threshold, so there is a cosine but no decision; "
                    "score-trials and compute-metrics find one on labelled trials of your own recordings")
    else:
        log.info("its threshold comes from: %s", info.threshold_trials or "it doesn't say")
        log.info("it holds for speech of that kind; for other microphones, rooms, languages or lengths the right one "
                 "may lie elsewhere: find yours with score-trials and compute-metrics on labelled trials")
    log.info("a match says that the voices are alike, not that a live person spoke: a replayed or synthetic voice "
             "can match too")
