"""People enrolled into a voiceprint file, and taken out of it; what looks like a mistake is said."""

import dataclasses
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from speakerkit.errors import DataError, RecordingError, raise_all
from speakerkit.inference import speech_detector
from speakerkit.inference.speech_detector import SpeechDetector, keep_speech_of
from speakerkit.io import audio, files, locks, tables
from speakerkit.io.audio import AudioOptions
from speakerkit.io.pipes import is_pipe
from speakerkit.io.recordings import load_or_stream
from speakerkit.io.voiceprints import (
    VoiceprintFile,
    VoiceRecording,
    read_voiceprints,
    speaker_fault,
    write_voiceprints,
)
from speakerkit.jobs import pool
from speakerkit.jobs.verification import count_bad, faults_of, load_extractor
from speakerkit.jobs.voiceprints import LOCK_WAIT_S, Voiceprints, counted, read_for
from speakerkit.scoring.cosine import cosine_score

log = logging.getLogger(__name__)

MANY = 20  # searches from which on preparing for them pays


@dataclass(frozen=True)
class Sample:
    """One recording of a person, embedded, and how to find it again."""

    speaker: str
    name: str        # how messages call it
    path: str        # absolute; '' for one from memory
    sha256: str      # of its mono samples
    seconds: float
    options: AudioOptions
    embedding: np.ndarray
    vad: str = ""    # the detector that chose what is speech; '' for none


@dataclass(frozen=True)
class EnrolmentOptions:
    """What to enrol with."""

    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    nj: int = 1
    audio_options: AudioOptions = field(default_factory=AudioOptions)
    backend: str = "auto"
    vad: bool = False  # keep what a detector takes for speech, leave out the rest


def enrol_speakers(pairs: Sequence[tuple[str, str]], path: str | os.PathLike, options: EnrolmentOptions,
                   report: dict) -> None:
    """Add the recordings of people to a voiceprint file; with a recording that can't be used nobody is enrolled.

    Args:
        pairs: (speaker, path of a recording).
        path: the voiceprint file, made where there is none.
        options: model and how recordings are taken.
        report: filled with counts.

    Raises:
        RecordingError, DataErrors: every recording that can't be used.
        DataError, MachineError: as `enrol` does.
    """
    report.update(output=os.fspath(path))
    faults = []
    for _, recording in pairs:  # what headers show is told before torch is loaded
        try:
            audio.scan_audio(recording, options.audio_options)
        except RecordingError as error:
            faults.append(error)
    count_bad(faults, report)
    raise_all(faults)
    files.check_writable(path)
    detector = speech_detector.load_detector() if options.vad else None
    extractor = load_extractor(options)
    report.update(model=extractor.info.name, sha256=extractor.sha256, precision=extractor.precision_name)
    if detector is not None:
        report["vad"] = detector.name
    try:
        samples = make_samples([(speaker, (recording, None, None)) for speaker, recording in pairs],
                               options.audio_options, extractor, options.nj, detector)
    except DataError as error:
        count_bad(faults_of(error), report)
        raise
    before = set(read_voiceprints(path).speakers) if os.path.lexists(path) else set()
    voices = enrol(path, samples, extractor)
    report.update(num_speakers=len(voices), num_recordings=len(voices.file.recordings),
                  num_new_speakers=len({speaker for speaker, _ in pairs} - before))
    log.info("now enrolled: %s of %s; %s", counted(len(voices.file.recordings), "recording"),
             counted(len(voices), "speaker"), counted(report["num_new_speakers"], "new speaker"))


def read_pairs(folder: str | os.PathLike) -> list[tuple[str, str]]:
    """(speaker, path) of each recording of a data directory.

    Raises:
        DataError, DataErrors: no such folder, faulty tables, an id in one of them alone, segments.
    """
    wav_scp, utt2spk = (os.path.join(folder, name) for name in ("wav.scp", "utt2spk"))
    if os.path.exists(os.path.join(folder, "segments")):
        raise DataError(os.path.join(folder, "segments"), "segments can't be enrolled; want whole recordings")
    recordings, speakers = tables.read_table(wav_scp), tables.read_utt2spk(utt2spk)
    faults = [recordings.fault(utt_id, f"'{utt_id}' has no speaker in {utt2spk}")
              for utt_id in recordings.values if utt_id not in speakers.values]
    faults += [speakers.fault(utt_id, f"'{utt_id}' has no recording in {wav_scp}")
               for utt_id in speakers.values if utt_id not in recordings.values]
    raise_all(faults)
    return [(speakers.values[utt_id], value if is_pipe(value) else tables.resolve_path(value, wav_scp))
            for utt_id, value in recordings.values.items()]


def make_samples(items: Sequence[tuple[str, tuple]], options: AudioOptions, extractor, nj: int,
                 detector: SpeechDetector | None = None) -> list[Sample]:
    """Load and embed recordings for enrolment.

    Args:
        items: (speaker, (thing, sample_rate, name)), as io.recordings.load_recording takes the latter.
        options: how they are taken.
        extractor: inference.extractor.Extractor.
        nj: how many are worked on at a time.
        detector: chooses what of a recording is embedded; the SHA-256 is that of all its samples.

    Raises:
        RecordingError, DataErrors: all that can't be used.
    """
    from speakerkit.inference.extractor import embed_recording

    def make(item: tuple[str, tuple]) -> Sample | RecordingError:
        speaker, (thing, rate, name) = item
        try:
            recording = load_or_stream(thing, rate, options, name)
            heard = recording if detector is None else keep_speech_of(detector, recording, options.min_duration_s)
            embedding = embed_recording(extractor, heard)
        except RecordingError as error:
            return error
        path = os.path.abspath(thing) if isinstance(thing, (str, os.PathLike)) else ""
        return Sample(speaker, recording.name, path, recording.sha256, recording.duration_s, options, embedding,
                      "" if detector is None else detector.name)

    samples = pool.run_threads(make, list(items), nj)
    raise_all([sample for sample in samples if isinstance(sample, RecordingError)])
    return samples


def enrol(path: str | os.PathLike, samples: Sequence[Sample], extractor) -> Voiceprints:
    """Add recordings to a voiceprint file, which is made where there is none; written whole or not at all.

    Args:
        path: the file; its other speakers stay as they are.
        samples: recordings of new or known speakers.
        extractor: what embedded them.

    Raises:
        ValueError: nobody to enrol, or a speaker's name is no word.
        DataError: as load_voiceprints does.
        RecordingError: zero-embedding, where a speaker's recordings cancel out.
        MachineError: another process has been writing the file for LOCK_WAIT_S.

    The same samples again for the same speaker are left out. A recording unlike its speaker's others,
    or a speaker like another one, is said in the log: it may be a mistake.
    """
    if not samples:
        raise ValueError("nobody to enrol: no recording was given")
    for sample in samples:
        if (fault := speaker_fault(sample.speaker)) is not None:
            raise ValueError(fault)
    with locks.output_lock(path, LOCK_WAIT_S):
        old = read_for(path, extractor) if os.path.lexists(path) else _empty(extractor)
        voices = Voiceprints(_add(old, samples), os.fspath(path))
        _say_doubts(voices, {sample.speaker for sample in samples}, extractor.info.threshold)
        write_voiceprints(path, voices.file)
    return voices


def remove_speakers(path: str | os.PathLike, names: Iterable[str]) -> Voiceprints:
    """Take speakers out of a voiceprint file.

    Raises:
        DataErrors: some of them aren't in it; nothing is removed then.
    """
    names = list(dict.fromkeys(names))
    with locks.output_lock(path, LOCK_WAIT_S):
        old = read_voiceprints(path)
        raise_all([DataError(path, f"holds no speaker '{name}'") for name in names if name not in old.speakers])
        gone = set(names)
        kept = [speaker for speaker in old.speakers if speaker not in gone]
        rows = [row for row, recording in enumerate(old.recordings) if old.speakers[recording.speaker] not in gone]
        new = _regroup(old, kept, [(old.speakers[old.recordings[row].speaker], old.recordings[row]) for row in rows],
                       old.embeddings[rows])
        write_voiceprints(path, new)
    return Voiceprints(new, os.fspath(path))


def count_recordings(voices: VoiceprintFile) -> list[tuple[str, int, float]]:
    """(speaker, recordings, seconds) of everyone, in order of enrolment."""
    counts, seconds = [0] * len(voices.speakers), [0.0] * len(voices.speakers)
    for recording in voices.recordings:
        counts[recording.speaker] += 1
        seconds[recording.speaker] += recording.seconds
    return list(zip(voices.speakers, counts, seconds, strict=True))


def _empty(extractor) -> VoiceprintFile:
    return VoiceprintFile(extractor.info.name, extractor.sha256, (), (),
                          np.zeros((0, extractor.embedding_dim), np.float32))


def _add(old: VoiceprintFile, samples: Sequence[Sample]) -> VoiceprintFile:
    rows = [(old.speakers[recording.speaker], recording) for recording in old.recordings]
    embeddings = list(old.embeddings)
    owners: dict[str, list[str]] = {}  # SHA-256 of samples -> speakers
    for speaker, recording in rows:
        owners.setdefault(recording.sha256, []).append(speaker)
    defaults = dataclasses.asdict(AudioOptions())
    for sample in samples:
        others = owners.setdefault(sample.sha256, [])
        if sample.speaker in others:
            log.warning("%s is among the recordings of '%s' already; left out", sample.name, sample.speaker)
            continue
        for other in others:
            log.warning("%s, enrolled for '%s', holds the same samples as a recording of '%s'", sample.name,
                        sample.speaker, other)
        others.append(sample.speaker)
        options = {k: v for k, v in dataclasses.asdict(sample.options).items() if v != defaults[k]}
        options |= {"vad": sample.vad} if sample.vad else {}
        rows.append((sample.speaker, VoiceRecording(0, sample.path, sample.sha256, sample.seconds, options)))
        embeddings.append(sample.embedding)
    speakers = list(dict.fromkeys([*old.speakers, *(speaker for speaker, _ in rows)]))
    return _regroup(old, speakers, rows, np.array(embeddings, np.float32).reshape(len(rows), -1))


def _regroup(old: VoiceprintFile, speakers: list[str], rows: list[tuple[str, VoiceRecording]],
             embeddings: np.ndarray) -> VoiceprintFile:
    """The rows in the speakers' order, each speaker's in the order they came."""
    place = {speaker: number for number, speaker in enumerate(speakers)}
    order = sorted(range(len(rows)), key=lambda row: place[rows[row][0]])
    recordings = tuple(dataclasses.replace(rows[row][1], speaker=place[rows[row][0]]) for row in order)
    return dataclasses.replace(old, speakers=tuple(speakers), recordings=recordings, embeddings=embeddings[order])


def _say_doubts(voices: Voiceprints, names: set[str], threshold: float | None) -> None:
    """Recordings unlike their speaker's others, and speakers like others, among those just enrolled."""
    if threshold is not None and len(names) > MANY:
        voices.nearest.prepare()
    for place, name in enumerate(voices.speakers):
        if name not in names:
            continue
        mean = voices.mean_of(place)  # also refuses recordings that cancel out
        if threshold is None:
            continue
        rows = range(voices.starts[place], voices.starts[place + 1])
        for row in rows if len(rows) > 1 else ():
            embedding = voices.file.embeddings[row]
            others = mean * len(rows) - embedding
            if (cosine := cosine_score(embedding, others) if others.any() else 0.0) < threshold:
                log.warning("'%s': %s is unlike the speaker's other recordings (cosine %.3f, threshold %.3f)", name,
                            voices.file.recordings[row].path or "a recording from memory", cosine, threshold)
        for other in voices.nearest.top(voices.means[place], 2):
            cosine = cosine_score(mean, voices.mean_of(other))
            if other != place and cosine >= threshold:
                log.warning("'%s' sounds like '%s' (cosine %.3f, threshold %.3f): one person under two names?", name,
                            voices.speakers[other], cosine, threshold)
