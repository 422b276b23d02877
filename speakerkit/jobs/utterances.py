"""The utterances that a job works on: wav.scp and, where given, segments, checked before any work."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from speakerkit.errors import DataError, RecordingError, raise_all
from speakerkit.io import audio, pipes, tables
from speakerkit.io.bad_recordings import BadRecordings

log = logging.getLogger(__name__)

PIPE_SECONDS = 10.0  # what a pipe is taken for before it has run


@dataclass(frozen=True)
class Utterance:
    """One utterance and where its samples lie."""

    utt_id: str
    path: str  # absolute, or a shell pipe where pipes are allowed
    start_s: float | None = None
    end_s: float | None = None  # None: to the end of the recording


def read_utterances(
    wav_scp: str | os.PathLike, segments: str | os.PathLike | None = None, allow_pipes: bool = False
) -> list[Utterance]:
    """Every utterance of a wav.scp, or of its segments, in the list's order.

    Raises:
        DataError: what the tables' readers refuse, a pipe without leave, a segment of an unknown recording.
    """
    table = tables.read_table(wav_scp)
    faults = []
    paths: dict[str, str] = {}
    for rec_id, value in table.values.items():
        if not pipes.is_pipe(value):
            paths[rec_id] = tables.resolve_path(value, wav_scp)
        elif allow_pipes:
            paths[rec_id] = value
        else:
            faults.append(
                DataError(wav_scp, f"'{value}' is a shell pipe; it runs only with --allow-pipes", table.lines[rec_id])
            )
    raise_all(faults)
    if segments is None:
        return [Utterance(rec_id, path) for rec_id, path in paths.items()]
    utterances = []
    for utt_id, segment in tables.read_segments(segments).items():
        if segment.rec_id not in paths:
            faults.append(DataError(segments, f"recording '{segment.rec_id}' is not in {wav_scp}", segment.line))
        else:
            end_s = segment.end_s if segment.end_s >= 0 else None
            utterances.append(Utterance(utt_id, paths[segment.rec_id], segment.start_s, end_s))
    raise_all(faults)
    return utterances


def audio_fingerprint(utterances: Iterable[Utterance]) -> str:
    """SHA-256 over ids, places, sizes and times of utterances: whether any has changed since an output was made."""
    digest, states = hashlib.sha256(), {}
    for utterance in utterances:
        if utterance.path not in states:
            states[utterance.path] = _file_state(utterance.path)
        place = (utterance.utt_id, utterance.path, utterance.start_s, utterance.end_s, states[utterance.path])
        digest.update(f"{place}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _file_state(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def scan_utterances(
    utterances: Iterable[Utterance], options: audio.AudioOptions, bad: BadRecordings, show: bool
) -> dict[str, float]:
    """Read every recording's header; what can't be used is noted in ``bad``.

    Returns:
        utt_id -> seconds of audio, of the usable ones; a pipe's is not known and a guess.
    """
    infos: dict[str, audio.AudioInfo | RecordingError] = {}
    seconds: dict[str, float] = {}
    rates: Counter = Counter()
    for utterance in tqdm(
        utterances, desc="read headers", unit="utt", dynamic_ncols=True, leave=False, disable=None if show else True
    ):
        if pipes.is_pipe(utterance.path):
            seconds[utterance.utt_id] = PIPE_SECONDS
            continue
        if utterance.path not in infos:
            try:
                infos[utterance.path] = audio.scan_audio(utterance.path, options)
                rates[infos[utterance.path].sample_rate] += 1
            except RecordingError as error:
                infos[utterance.path] = error
        info = infos[utterance.path]
        if isinstance(info, RecordingError):
            bad.add(utterance.utt_id, info)
            continue
        whole = info.num_samples / info.sample_rate
        end_s = whole if utterance.end_s is None else min(whole, utterance.end_s)
        seconds[utterance.utt_id] = max(0.0, end_s - (utterance.start_s or 0.0))
    for rate, count in sorted(rates.items()):
        log.debug("%d recordings of %d Hz", count, rate)
    return seconds


def load_utterance(
    utterance: Utterance, options: audio.AudioOptions, notes: Counter
) -> tuple[np.ndarray, int]:
    """Samples and rate of one utterance, as audio.load_audio gives them; an error names the utterance's path."""
    try:
        return audio.load_audio(utterance.path, options, utterance.start_s, utterance.end_s, notes=notes)
    except RecordingError as error:
        raise RecordingError(utterance.path, error.reason, error.detail) from None


def say_resampled(rates: Counter, wanted: int) -> None:
    """Say once for each rate how many recordings were resampled."""
    for rate, count in sorted(rates.items()):
        if rate != wanted:
            log.info("resampled %d recording%s from %d Hz to %d Hz", count, "" if count == 1 else "s", rate, wanted)
