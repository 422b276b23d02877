"""People's voices kept in a file: find whose voice a recording is, and go on with another model."""

import dataclasses
import functools
import logging
import os
import sys
from dataclasses import dataclass

import numpy as np

from speakerkit.errors import DataError, raise_all
from speakerkit.inference import speech_detector
from speakerkit.inference.speech_detector import SpeechDetector, keep_speech_of
from speakerkit.io import locks
from speakerkit.io.audio import AudioOptions
from speakerkit.io.recordings import AnyRecording, load_or_stream
from speakerkit.io.voiceprints import VoiceprintFile, VoiceRecording, read_voiceprints, write_voiceprints
from speakerkit.jobs.verification import (
    check_decision,
    count_bad,
    faults_of,
    find_warnings,
    load_extractor,
    mean_embedding,
    say_how_far_to_trust,
)
from speakerkit.scoring.cosine import cosine_score, length_normalise
from speakerkit.scoring.judgement import Judgement, in_words, judge
from speakerkit.scoring.nearest import NearestRows

log = logging.getLogger(__name__)

LOCK_WAIT_S = 60.0  # for another process or thread that writes the same file: what each adds is kept
_BLOCK = 4096  # speakers whose means are made at a time


@dataclass(frozen=True)
class Match(Judgement):
    """One enrolled speaker beside a recording."""

    speaker: str


@dataclass(frozen=True)
class Identification:
    """Whose voice it is, as far as the enrolled ones go."""

    speaker: str | None         # None: nobody reaches the threshold, or the model has none
    matches: tuple[Match, ...]  # the nearest, nearest first
    warnings: tuple[str, ...]   # what makes this answer less sure


@dataclass(frozen=True, eq=False)
class Voiceprints:
    """A loaded voiceprint file, ready to be searched. It never changes: enrolment gives another one."""

    file: VoiceprintFile
    path: str = ""

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names, in order of enrolment."""
        return self.file.speakers

    def __len__(self) -> int:
        return len(self.file.speakers)

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """(num_speakers + 1,) the row at which each speaker's recordings begin."""
        places = np.array([recording.speaker for recording in self.file.recordings], np.int64)
        return np.searchsorted(places, np.arange(len(self) + 1))

    @functools.cached_property
    def means(self) -> np.ndarray:
        """(num_speakers, dim) float32, each speaker's mean embedding at length 1."""
        means = np.empty((len(self), self.file.embeddings.shape[1]), np.float32)
        for first in range(0, len(self), _BLOCK):
            rows = self.starts[first:first + _BLOCK + 1]
            block = np.add.reduceat(self.file.embeddings[rows[0]:rows[-1]], rows[:-1] - rows[0], axis=0,
                                    dtype=np.float64)
            try:
                means[first:first + _BLOCK] = length_normalise(block)
            except ValueError:
                raise DataError(self.path, "damaged: the embeddings of a speaker cancel out") from None
        return means

    @functools.cached_property
    def nearest(self) -> NearestRows:
        """The means, ready to be searched."""
        return NearestRows(self.means)

    def mean_of(self, speaker: int) -> np.ndarray:
        """(dim,) float64, the plain mean of the recordings of the speaker in that place."""
        rows = self.file.embeddings[self.starts[speaker]:self.starts[speaker + 1]]
        return mean_embedding(list(rows), self.speakers[speaker])


def counted(number: int, noun: str) -> str:
    """'1 speaker', '2 speakers'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def load_voiceprints(path: str | os.PathLike, extractor, refresh: bool = True,
                     content: VoiceprintFile | None = None) -> Voiceprints:
    """Read a voiceprint file for a model; embeddings of another model are made again from the recordings.

    Args:
        path: the file.
        extractor: inference.extractor.Extractor.
        refresh: False refuses a file of another model.
        content: what `read_voiceprints` has just given for that path; default: it is read here.

    Raises:
        DataError: no voiceprint file, damaged, of another model and not `refresh`.
        DataErrors: recordings that are gone, have changed, or came from memory, so that they can't be made again.
    """
    voices = Voiceprints(read_voiceprints(path) if content is None else content, os.fspath(path))
    if voices.file.model_sha256 == extractor.sha256:
        _check_dim(voices, extractor)
        return voices
    if not refresh:
        raise DataError(path, f"was made with model {voices.file.model} ({voices.file.model_sha256[:8]}), "
                              f"not with {extractor.info.name} ({extractor.sha256[:8]})")
    with locks.output_lock(path, LOCK_WAIT_S):
        remade = read_for(path, extractor)
        write_voiceprints(path, remade)
    return Voiceprints(remade, voices.path)


def identify(voices: Voiceprints, recording: AnyRecording, extractor, top: int = 5) -> Identification:
    """The enrolled speakers whose voices are nearest.

    Args:
        voices: of the same model.
        recording: the recording in question.
        extractor: inference.extractor.Extractor.
        top: how many matches at most.

    Raises:
        RecordingError: the recording gives no embedding.
        DataError: nobody is enrolled, or the voices are of another model.

    The threshold is one for a single comparison: among N strangers' voices a wrong one passes it
    about N times as often.
    """
    from speakerkit.inference.extractor import embed_recording

    if not len(voices):
        raise DataError(voices.path, "nobody is enrolled")
    if voices.file.model_sha256 != extractor.sha256:
        raise DataError(voices.path, f"was made with model {voices.file.model}, not with {extractor.info.name}")
    check_decision(extractor.info, extractor.path)
    embedding = embed_recording(extractor, recording)
    matches = []
    for place in voices.nearest.top(length_normalise(embedding[None])[0], top):
        cosine = cosine_score(embedding, voices.mean_of(place))  # the one that verify gives
        judgement = judge(cosine, extractor.info.threshold, extractor.info.calibration)
        matches.append(Match(**dataclasses.asdict(judgement), speaker=voices.speakers[place]))
    matches.sort(key=lambda match: -match.cosine)
    best = matches[0] if matches[0].decision == "same" else None
    warnings = tuple(find_warnings([recording], extractor.info.fbank.sample_rate))
    return Identification(best.speaker if best else None, tuple(matches), warnings)


def read_for(path: str | os.PathLike, extractor) -> VoiceprintFile:
    """A voiceprint file of this model: as it is, or embedded again."""
    voices = Voiceprints(read_voiceprints(path), os.fspath(path))
    if voices.file.model_sha256 == extractor.sha256:
        _check_dim(voices, extractor)
        return voices.file
    log.info("%s: was made with model %s (%s); embedding %s again with %s (%s)", voices.path, voices.file.model,
             voices.file.model_sha256[:8], counted(len(voices.file.recordings), "recording"), extractor.info.name,
             extractor.sha256[:8])
    return _embed_again(voices, extractor)


def _check_dim(voices: Voiceprints, extractor) -> None:
    dim = voices.file.embeddings.shape[1]
    if dim != extractor.embedding_dim:
        raise DataError(voices.path, f"damaged: its embeddings have {dim} values; want {extractor.embedding_dim}")


def _embed_again(voices: Voiceprints, extractor) -> VoiceprintFile:
    from speakerkit.inference.extractor import embed_recording

    embeddings, faults = [], []
    for row in voices.file.recordings:
        try:
            embeddings.append(embed_recording(extractor, _load_again(voices, row)))
        except DataError as error:
            faults.append(error)
    raise_all(faults)
    return dataclasses.replace(voices.file, model=extractor.info.name, model_sha256=extractor.sha256,
                               embeddings=np.array(embeddings, np.float32).reshape(-1, extractor.embedding_dim))


def _load_again(voices: Voiceprints, row: VoiceRecording) -> AnyRecording:
    speaker = voices.speakers[row.speaker]
    if not row.path:
        raise DataError(voices.path, f"'{speaker}' was enrolled from memory, so another model can't embed it again; "
                                     "take the old model, or remove and enrol it again")
    given = dict(row.options)
    vad = given.pop("vad", "")
    try:
        if not isinstance(vad, str):
            raise TypeError(f"vad is {vad!r}")
        options = AudioOptions(**given | {"allow_pipes": False})
        recording = load_or_stream(row.path, None, options)
    except (TypeError, ValueError) as error:
        raise DataError(voices.path, f"damaged: options of {row.path}: {error}") from None
    if recording.sha256 != row.sha256:
        raise DataError(row.path, f"has changed since it was enrolled for '{speaker}'")
    return keep_speech_of(_detector_like(vad, voices.path), recording, options.min_duration_s) if vad else recording


@functools.cache
def _detector_like(name: str, path: str) -> SpeechDetector:
    """The detector for recordings that one of this name chose speech of; another version of it is said."""
    detector = speech_detector.load_detector()
    if detector.name != name:
        log.warning("%s: was made with %s; %s is here, and may take other stretches for speech", path, name,
                    detector.name)
    return detector


def _keep_speech(recording: AnyRecording, options: AudioOptions, report: dict) -> AnyRecording:
    detector = speech_detector.load_detector()
    try:
        heard = keep_speech_of(detector, recording, options.min_duration_s)
    except DataError as error:
        count_bad(faults_of(error), report)
        raise
    report.update(vad=detector.name, test_speech_seconds=round(heard.duration_s, 3))
    return heard


def identify_speaker(path: str | os.PathLike, test: str, options, top: int, report: dict) -> None:
    """Find whose voice a recording is among those of a voiceprint file.

    Args:
        path: the voiceprint file.
        test: the recording; `-` is standard input.
        options: jobs.verification.VerificationOptions.
        top: how many of the nearest speakers at most.
        report: filled with `nearest`, the numbers of that speaker's match, and `matches`.

    Raises:
        RecordingError: the recording can't be used.
        DataError, DataErrors: as load_voiceprints and identify do.
    """
    report.update(test=test, voiceprints=os.fspath(path))
    try:
        recording = load_or_stream(sys.stdin.buffer if test == "-" else test, None, options.audio_options)
    except DataError as error:
        count_bad(faults_of(error), report)
        raise
    if options.vad:
        recording = _keep_speech(recording, options.audio_options, report)
    content = read_voiceprints(path)  # a file that is none is told before torch is loaded
    extractor = load_extractor(options)
    report.update(model=extractor.info.name, sha256=extractor.sha256, precision=extractor.precision_name)
    voices = load_voiceprints(path, extractor, content=content)
    found = identify(voices, recording, extractor, top)
    best = found.matches[0]
    report.update(dataclasses.asdict(best) | {"speaker": found.speaker, "nearest": best.speaker})
    report.update(domain=extractor.info.domain or None, num_speakers=len(voices), words=in_words(best),
                  matches=[[match.speaker, match.cosine] for match in found.matches])
    for warning in found.warnings:
        log.warning("%s", warning)
    log.info("nearest of %s: '%s'; %s", counted(len(voices), "speaker"), best.speaker, report["words"])
    if best.decision == "same" and len(voices) > 1:
        log.info("the threshold is one for a single comparison: among %d voices a stranger's passes it about %d times "
                 "as often", len(voices), len(voices))
    say_how_far_to_trust(extractor.info, extractor.sha256)
