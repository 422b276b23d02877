"""The utterances that a job works on: wav.scp and, where given, segments, checked before any work."""

import dataclasses
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from speakerkit.errors import DataError, RecordingError, raise_all
from speakerkit.io import audio, pipes, tables
from speakerkit.io.bad_recordings import BadRecordings

log = logging.getLogger(__name__)

PIPE_SECONDS = 10.0  # what a pipe is taken for before it has run


Place = tuple[str, float | None, float | None]  # path, start and end in seconds


@dataclass(frozen=True)
class Utterance:
    """One utterance and where its samples lie."""

    utt_id: str
    path: str  # absolute, or a shell pipe where pipes are allowed
    start_s: float | None = None
    end_s: float | None = None  # None: to the end of the recording
    joined: tuple[Place, ...] = ()  # what follows it, without a gap

    @property
    def places(self) -> list[Place]:
        """Where its samples lie, in order."""
        return [(self.path, self.start_s, self.end_s), *self.joined]


def read_utterances(
    wav_scp: str | os.PathLike,
    segments: str | os.PathLike | None = None,
    allow_pipes: bool = False,
    utt2utts: str | os.PathLike | None = None,
) -> list[Utterance]:
    """Every utterance of a wav.scp, or of its segments, in the list's order.

    Args:
        wav_scp: the recordings.
        segments: stretches of them, which are the utterances then.
        allow_pipes: whether wav.scp may hold shell pipes.
        utt2utts: utterances that are some of these joined; one stands where its first part stood.

    Raises:
        DataError: what the tables' readers refuse, a pipe without leave, a segment of an unknown recording,
            an unknown part.
    """
    utterances = _read_unjoined(wav_scp, segments, allow_pipes)
    return utterances if utt2utts is None else join_utterances(utterances, utt2utts)


def join_utterances(utterances: list[Utterance], utt2utts: str | os.PathLike) -> list[Utterance]:
    """The utterances with some joined to one, each where its first part stood.

    Raises:
        DataError: what the table's reader refuses, an unknown part, the id of an utterance that stays.
    """
    known = {utterance.utt_id: utterance for utterance in utterances}
    faults, owners = [], {}
    lists = tables.read_utt2utts(utt2utts)
    for line, (utt_id, part_ids) in enumerate(lists.items(), 1):
        owners.update((part_id, (utt_id, part_ids)) for part_id in part_ids)
        strange = [part_id for part_id in part_ids if part_id not in known]
        if strange:
            faults.append(DataError(utt2utts, f"part '{strange[0]}' is no recording or segment", line))
        if utt_id in known and part_ids != [utt_id]:
            faults.append(DataError(utt2utts, f"'{utt_id}' is a recording or segment by itself", line))
    raise_all(faults)
    found = []
    for utterance in utterances:
        utt_id, part_ids = owners.get(utterance.utt_id, (utterance.utt_id, [utterance.utt_id]))
        if part_ids[0] == utterance.utt_id:
            joined = tuple(known[part_id].places[0] for part_id in part_ids[1:])
            found.append(dataclasses.replace(utterance, utt_id=utt_id, joined=joined))
    return found


def _read_unjoined(
    wav_scp: str | os.PathLike, segments: str | os.PathLike | None, allow_pipes: bool
) -> list[Utterance]:
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

    def state(path: str) -> tuple[int, int] | None:
        if path not in states:
            states[path] = _file_state(path)
        return states[path]

    for utterance in utterances:
        place = (utterance.utt_id, *utterance.places[0], state(utterance.path))
        joined = [(*part, state(part[0])) for part in utterance.joined]
        digest.update("".join(f"{line}\n" for line in (place, *joined)).encode("utf-8", "surrogateescape"))
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

    def scan(path: str, options: audio.AudioOptions) -> audio.AudioInfo:
        if path not in infos:
            try:
                infos[path] = audio.scan_audio(path, options)
            except RecordingError as error:
                infos[path] = error
        if isinstance(infos[path], RecordingError):
            raise infos[path]
        return infos[path]

    for utterance in tqdm(
        utterances, desc="read headers", unit="utt", dynamic_ncols=True, leave=False, disable=None if show else True
    ):
        try:
            seconds[utterance.utt_id] = _count_seconds(utterance, options, scan)
        except RecordingError as error:
            bad.add(utterance.utt_id, error)
    rates = Counter(info.sample_rate for info in infos.values() if isinstance(info, audio.AudioInfo))
    for rate, count in sorted(rates.items()):
        log.debug("%d recordings of %d Hz", count, rate)
    return seconds


def _count_seconds(utterance: Utterance, options: audio.AudioOptions, scan: Callable) -> float:
    """Seconds of an utterance, from its recordings' headers; RecordingError where it can't be used."""
    part_options = audio.any_length(options) if utterance.joined else options
    seconds, first = 0.0, None
    for path, start_s, end_s in utterance.places:
        if pipes.is_pipe(path):
            seconds += PIPE_SECONDS
            continue
        info = scan(path, part_options)
        first = first or info
        audio.check_joint(path, info.sample_rate, utterance.path, first.sample_rate)
        whole = info.num_samples / info.sample_rate
        seconds += max(0.0, (whole if end_s is None else min(whole, end_s)) - (start_s or 0.0))
    if utterance.joined and seconds < options.min_duration_s:
        detail = f"{seconds:.3f} s of {len(utterance.places)} parts; wanted at least {options.min_duration_s:g} s"
        raise RecordingError(utterance.path, "too-short", detail)
    return seconds


def load_utterance(
    utterance: Utterance, options: audio.AudioOptions, notes: Counter
) -> tuple[np.ndarray, int]:
    """Samples and rate of one utterance, as audio.load_audio gives them; an error names the utterance's path."""
    try:
        return audio.load_joined(utterance.places, options, notes)
    except RecordingError as error:
        path = error.path if utterance.joined else utterance.path
        raise RecordingError(path, error.reason, error.detail) from None


def say_resampled(rates: Counter, wanted: int) -> None:
    """Say once for each rate how many recordings were resampled."""
    for rate, count in sorted(rates.items()):
        if rate != wanted:
            log.info("resampled %d recording%s from %d Hz to %d Hz", count, "" if count == 1 else "s", rate, wanted)
