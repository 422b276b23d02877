"""Are two recordings of one speaker? A cosine, what the model's threshold makes of it, and how far to trust that."""

import dataclasses
import logging
import sys
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from speakerkit.errors import ConfigError, DataError, DataErrors, RecordingError, raise_all
from speakerkit.features.quality import FRAME_S, measure_quality
from speakerkit.features.quality_warnings import WARNINGS
from speakerkit.io import audio
from speakerkit.io.recordings import AnyRecording, load_all
from speakerkit.models.find import bundled_names
from speakerkit.models.published.catalogue import RECOMMENDED
from speakerkit.scoring.cosine import cosine_score
from speakerkit.scoring.judgement import Judgement, in_words, judge

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VerificationOptions:
    """What to verify with."""

    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    vad: bool = False  # keep what a detector takes for speech, leave out the rest
    audio_options: audio.AudioOptions = field(default_factory=audio.AudioOptions)
    backend: str = "auto"


@dataclass(frozen=True)
class Verification(Judgement):
    """The answer, and what to think of it."""

    domain: str                # the speech the model is for, '' where it doesn't say
    threshold_trials: str      # what its threshold was measured on, '' where it doesn't say
    model: str                 # its name
    sha256: str                # of the model file
    warnings: tuple[str, ...]  # what makes this answer less sure, recording by recording


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
    recordings = _read_all([test, *enrol], options, report)
    if options.vad:
        recordings = _keep_speech(recordings, options.audio_options, report)
    extractor = load_extractor(options)
    info = extractor.info
    report.update(precision=extractor.precision_name, training_data=info.training_data or None)
    try:
        answer = compare(extractor, recordings[0], recordings[1:])
    except RecordingError as error:
        count_bad([error], report)
        raise
    report.update({name: value if value != "" else None for name, value in dataclasses.asdict(answer).items()})
    report["words"] = in_words(answer)
    log.info("%s", report["words"])
    for warning in answer.warnings:
        log.warning("%s", warning)
    for recording in recordings:
        if recording.sample_rate > info.fbank.sample_rate:
            log.info("%s: resampled from %d Hz to %d Hz", recording.name, recording.sample_rate, info.fbank.sample_rate)
    say_how_far_to_trust(info, extractor.sha256)


def compare(extractor, test: AnyRecording, enrol: list[AnyRecording]) -> Verification:
    """Score a recording against the mean of one or several of a speaker.

    Args:
        extractor: inference.extractor.Extractor.
        test: the recording in question.
        enrol: recordings of the one speaker.

    Raises:
        RecordingError: too-short, nan-embedding or zero-embedding, under the recording's name.
        DataError: a model whose threshold or calibration is impossible.
    """
    from speakerkit.inference.extractor import embed_recording

    info = extractor.info
    check_decision(info, extractor.path)
    of_test, *of_enrol = [embed_recording(extractor, recording) for recording in (test, *enrol)]
    mean = mean_embedding(of_enrol, enrol[0].name)
    judgement = judge(cosine_score(of_test, mean), info.threshold, info.calibration)
    warnings = tuple(find_warnings([test, *enrol], info.fbank.sample_rate))
    return Verification(**dataclasses.asdict(judgement), domain=info.domain, threshold_trials=info.threshold_trials,
                        model=info.name, sha256=extractor.sha256, warnings=warnings)


def mean_embedding(embeddings: list[np.ndarray], name: str) -> np.ndarray:
    """(embedding_dim,) float64, the plain mean of a speaker's embeddings.

    Raises:
        RecordingError: zero-embedding, where they cancel; it names `name`.
    """
    mean = np.mean(embeddings, axis=0, dtype=np.float64)
    if not mean.any():
        raise RecordingError(name, "zero-embedding", f"the mean of {len(embeddings)} enrolment embeddings is zero")
    return mean


def check_decision(info, path: str) -> None:
    """Refuse a model whose threshold or calibration is impossible, before anything is scored.

    Raises:
        DataError: a threshold that is -1 or less, 1 or more; a calibration without a scale above 0 and an offset.
    """
    if info.threshold is not None and not -1.0 < info.threshold < 1.0:
        raise DataError(path, f"threshold is {info.threshold}; want a cosine between -1 and 1")
    try:
        judge(0.0, info.threshold, info.calibration)
    except ValueError as error:
        raise DataError(path, str(error)) from None


def _read_all(paths: list[str], options: VerificationOptions, report: dict) -> list[AnyRecording]:
    """All recordings, or all that is wrong with them."""
    try:
        recordings = load_all([(sys.stdin.buffer if path == "-" else path, None, None) for path in paths],
                              options.audio_options)
    except DataError as error:
        count_bad(faults_of(error), report)
        raise
    report["test_seconds"], *report["enrol_seconds"] = [round(r.duration_s, 3) for r in recordings]
    return recordings


def _keep_speech(recordings: list[AnyRecording], options: audio.AudioOptions, report: dict) -> list[AnyRecording]:
    """The same recordings without what is no speech, or all in which there is too little."""
    from speakerkit.inference.speech_detector import keep_speech_of, load_detector

    detector = load_detector()
    kept: list[AnyRecording] = []
    faults: list[RecordingError] = []
    for recording in recordings:
        try:
            kept.append(keep_speech_of(detector, recording, options.min_duration_s))
        except RecordingError as error:
            faults.append(error)
    count_bad(faults, report)
    raise_all(faults)
    report["vad"] = detector.name
    report["test_speech_seconds"], *report["enrol_speech_seconds"] = [round(r.duration_s, 3) for r in kept]
    return kept


def faults_of(error: DataError) -> list[DataError]:
    """The faults of one error or of several told together."""
    return error.faults if isinstance(error, DataErrors) else [error]


def count_bad(faults: list[DataError], report: dict) -> None:
    """`num_bad` and `bad_<reason>` of a report."""
    report["num_bad"] = len(faults)
    report.update(Counter(f"bad_{fault.reason.replace('-', '_')}" for fault in faults))


def load_extractor(options):
    """The extractor of a command's model, device, precision and backend."""
    from speakerkit.inference.backends import choose_backend
    from speakerkit.inference.loading import start_extractor
    from speakerkit.models import device

    device.keep_freed_memory()
    return start_extractor(choose_backend(options.model, options.device, options.precision, options.backend, few=True))


def find_warnings(recordings: list[AnyRecording], model_rate: int) -> list[str]:
    """What makes an answer less sure, recording by recording; the first one is compared with the others.

    Of a long recording that is streamed the quality is that of its first minutes.
    """
    warnings = []
    for recording in recordings:
        for note in sorted(recording.notes):
            warnings.append(f"{recording.name} ({recording.duration_s:.2f} s): {audio.NOTES[note]}")
        if recording.sample_rate < model_rate:
            warnings.append(f"{recording.name}: {recording.sample_rate} Hz, the model hears {model_rate} Hz: above "
                            f"{recording.sample_rate // 2} Hz there is nothing, and the score is less sure")
        warnings += [f"{recording.name}: {WARNINGS[code][0]}" for code in _find_flaws(recording, model_rate)]
    for recording in recordings[1:]:
        if recording.sha256 == recordings[0].sha256:
            warnings.append(f"{recordings[0].name} and {recording.name} hold the same samples: that says nothing of "
                            "the speaker")
    return warnings


def _find_flaws(recording: AnyRecording, model_rate: int) -> list[str]:
    """What check-audio would warn of, and isn't said by the recording's notes or rate already."""
    if recording.duration_s < 2 * FRAME_S:
        return []
    quality = measure_quality(recording.excerpt, recording.sample_rate)
    said = {"little-speech"} if recording.notes["short"] else set()
    said |= {"narrow-band"} if recording.sample_rate < model_rate else set()
    return [code for code, (_, holds) in WARNINGS.items() if code not in said and holds(quality)]


def say_how_far_to_trust(info, sha256: str) -> None:
    """What a model was trained on, where its threshold comes from, and what no model can tell."""
    log.info("model %s (%s) was trained on: %s; it is for: %s", info.name, sha256[:8],
             info.training_data or "it doesn't say", info.domain or "it doesn't say")
    if info.threshold is None:
        log.warning("the model has no threshold, so there is a cosine but no decision; "
                    "score-trials and compute-metrics find one on labelled trials of your own recordings")
    else:
        log.info("its threshold comes from: %s", info.threshold_trials or "it doesn't say")
        log.info("it holds for speech of that kind; for other microphones, rooms, languages or lengths the right one "
                 "may lie elsewhere: find yours with score-trials and compute-metrics on labelled trials")
    if info.name in bundled_names():
        log.info("it is small; for real use take --model %s (200,000 speakers, Apache-2.0)", RECOMMENDED)
    log.info("a match says that the voices are alike, not that a live person spoke: a replayed or synthetic voice "
             "can match too")
