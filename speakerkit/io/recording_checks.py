"""What a data directory's recordings are: each is there and can be read; what is cut or joined of them can be had."""

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from speakerkit.errors import DataError, RecordingError
from speakerkit.io.data_dir import DataDir
from speakerkit.io.tables import sort_key

if TYPE_CHECKING:
    from speakerkit.io.audio import AudioOptions


def unjoined_ids(data: DataDir) -> Collection[str] | None:
    """What utt2utts joins, or leaves as it is: segments where there are some, else recordings."""
    if data.segments is not None:
        return data.segments
    return None if data.wav_scp is None else data.wav_scp.values


def part_ids(data: DataDir) -> set[str]:
    """All that is part of an utterance of utt2utts."""
    return {part_id for parts in (data.utt2utts or {}).values() for part_id in parts}


def check_joints(data: DataDir) -> list[DataError]:
    """Every part must be there, and no joined utterance may have the id of something else."""
    known = unjoined_ids(data)
    if data.utt2utts is None or known is None:
        return []
    path, faults = os.path.join(data.path, "utt2utts"), []
    source = "wav.scp" if data.segments is None else "segments"
    for line, (utt_id, parts) in enumerate(data.utt2utts.items(), 1):
        faults += [DataError(path, f"part '{part_id}' is not in {source}", line)
                   for part_id in parts if part_id not in known]
        if utt_id in known and parts != [utt_id]:
            faults.append(DataError(path, f"'{utt_id}' is joined here and is in {source} too", line))
    return faults


def check_recordings(data: DataDir, faults: list[DataError], warnings: list[str], read_audio: bool,
                     allow_pipes: bool, options: "AudioOptions | None", progress: Callable) -> dict:
    """Scan or decode each recording; fill faults and warnings; count seconds of audio."""
    from speakerkit.io import audio

    options = dataclasses.replace(options or audio.AudioOptions(), allow_pipes=allow_pipes)
    durations: dict[str, float] = {}
    rates: Counter = Counter()
    notes: Counter = Counter()
    units = _units(data)
    for name in progress(units):
        rec_ids = [rec_id for rec_id in units[name] if rec_id in data.wav_scp.values]  # the others are faults already
        try:
            for rec_id, (seconds, rate) in zip(rec_ids, _listen(data, rec_ids, options, read_audio, notes),
                                               strict=True):
                durations[rec_id] = seconds
                rates[rate] += 1
        except RecordingError as error:
            at_fault = next((rec_id for rec_id in rec_ids if data.wav_scp.values[rec_id] == error.path), name)
            faults.append(data.wav_scp.fault(at_fault, str(error)))
    num_unheard = rates.pop(0, 0)
    if num_unheard:
        warnings.append(f"wav.scp: {num_unheard:,} shell pipes were not run")
    if len(rates) > 1:
        told = ", ".join(f"{rate} Hz ({count:,})" for rate, count in sorted(rates.items()))
        warnings.append(f"wav.scp: {len(rates)} sample rates: {told}")
    warnings += [f"wav.scp: {count:,} recordings: {audio.NOTES[note]}" for note, count in sorted((+notes).items())]
    faults += _check_segment_spans(data, durations, audio.SEGMENT_SLACK_S, options.min_duration_s)
    counts = {"audio_seconds": round(sum(durations.values()), 3)}
    return counts | ({"sample_rate": next(iter(rates))} if len(rates) == 1 else {})


def _units(data: DataDir) -> dict[str, list[str]]:
    """The recordings that are listened to together: those of a joined utterance, each other one by itself."""
    if data.utt2utts is None or data.segments is not None:
        return {rec_id: [rec_id] for rec_id in data.wav_scp.values}
    parts = part_ids(data)
    return {rec_id: [rec_id] for rec_id in data.wav_scp.values if rec_id not in parts} | data.utt2utts


def _listen(data: DataDir, rec_ids: Sequence[str], options: "AudioOptions", read_audio: bool,
            notes: Counter) -> list[tuple[float, int]]:
    """(seconds, sample rate) of each recording of an utterance; 0, 0 for a pipe that is not run."""
    from speakerkit.io import audio

    paths = [data.wav_scp.values[rec_id] for rec_id in rec_ids]
    if read_audio and len(paths) == 1:
        samples, sample_rate = audio.load_audio(paths[0], options, notes=notes)
        return [(len(samples) / sample_rate, sample_rate)]
    part_options = options if len(paths) == 1 else audio.any_length(options)
    infos = [audio.scan_audio(path, part_options) for path in paths]
    heard = [(path, info) for path, info in zip(paths, infos, strict=True) if info.sample_rate]  # no pipes
    for path, info in heard[1:]:
        audio.check_joint(path, info.sample_rate, heard[0][0], heard[0][1].sample_rate)
    seconds = sum(info.duration_s for info in infos)
    if read_audio and paths:
        audio.load_joined([(path, None, None) for path in paths], options, notes)
    elif len(heard) == len(paths) > 1 and seconds < options.min_duration_s:
        raise RecordingError(paths[0], "too-short", f"{seconds:.3f} s of {len(paths)} parts; "
                                                    f"wanted at least {options.min_duration_s:g} s")
    return [(info.duration_s, info.sample_rate) for info in infos]


def _check_segment_spans(data: DataDir, durations: dict[str, float], slack_s: float,
                         min_duration_s: float) -> Iterable[DataError]:
    path = os.path.join(data.path, "segments")
    parts = part_ids(data)
    for utt_id, segment in (data.segments or {}).items():
        duration_s = durations.get(segment.rec_id, 0.0)
        end_s = segment.end_s if segment.end_s >= 0 else duration_s
        if duration_s and (end_s - slack_s > duration_s or segment.start_s >= duration_s):
            message = (f"segment from {segment.start_s:g} to {segment.end_s:g} s goes past the end of "
                       f"'{segment.rec_id}' at {duration_s:.3f} s")
            yield DataError(path, message, segment.line)
        elif duration_s and end_s - segment.start_s < min_duration_s and utt_id not in parts:
            message = f"segment of {end_s - segment.start_s:.3f} s is too short; wanted at least {min_duration_s:g} s"
            yield DataError(path, message, segment.line)


def unused_recordings(data: DataDir) -> list[str]:
    """A warning where segments leave recordings out."""
    if data.segments is None or data.wav_scp is None:
        return []
    unused = data.wav_scp.values.keys() - {segment.rec_id for segment in data.segments.values()}
    if not unused:
        return []
    return [f"wav.scp: {len(unused):,} of {len(data.wav_scp.values):,} recordings have no segment, "
            f"the first '{min(unused, key=sort_key)}'"]
