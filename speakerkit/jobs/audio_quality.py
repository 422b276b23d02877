"""A report on recordings before they are used: what was measured, and warnings for what ruins embeddings."""

import dataclasses
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from speakerkit.errors import ConfigError, RecordingError, raise_all
from speakerkit.features.quality import STEP, measure_quality
from speakerkit.features.quality_warnings import WARNINGS
from speakerkit.io import audio, pipes
from speakerkit.jobs import pool
from speakerkit.jobs.utterances import Utterance, read_utterances

log = logging.getLogger(__name__)

COLUMNS = ("id", "channel", "seconds", "sample_rate", "speech_seconds", "snr_db", "bandwidth_hz", "level_dbfs",
           "peak_dbfs", "clipped_percent", "dc_offset", "silence_percent", "warnings")
_DECIMALS = {"seconds": 3, "speech_seconds": 2, "snr_db": 1, "bandwidth_hz": 0, "level_dbfs": 1, "peak_dbfs": 1,
             "clipped_percent": 3, "dc_offset": 4, "silence_percent": 1}


@dataclass(frozen=True)
class CheckOptions:
    """How recordings are taken, and what is done with bad ones."""

    audio_options: audio.AudioOptions = field(default_factory=audio.AudioOptions)
    vad: bool = False  # speech_seconds by silero-vad
    nj: int = 1
    allowed_bad: Callable[[int], int] = lambda total: 0
    show: bool = True


def check_recordings(names: list[str], options: CheckOptions, report: dict) -> Iterator[dict]:
    """Measure recordings, one row a channel, in their order.

    Args:
        names: files (`-` is standard input), or one list that ends in `.scp`.
        options: channel, VAD, workers, what is accepted.
        report: filled with counts and, under `recordings`, all rows.

    Yields:
        rows: COLUMNS -> value; None where there is nothing to measure. `warnings` holds keys of WARNINGS, or
            the reason code of a recording that can't be used.

    Raises:
        DataError, DataErrors: a faulty list, nothing written; at the end: recordings that can't be used, more than
            are allowed.
        ConfigError: a list beside files; standard input twice; a VAD that isn't installed.
    """
    utterances = _read_names(names, options)
    _load_detector(options.vad)
    tasks = ((utterance, options.audio_options) for utterance in utterances)
    rows, faults = [], []
    bar = tqdm(total=len(utterances), desc="check", unit="file", dynamic_ncols=True, leave=False,
               disable=None if options.show else True)
    with bar:
        for found, fault in pool.run_tasks(_check, tasks, min(options.nj, len(utterances)), None, _describe):
            rows += found
            faults += fault
            bar.update()
            yield from found
    counts = Counter(code for row in rows for code in row["warnings"] if code in WARNINGS)
    report.update(num_recordings=len(utterances), num_bad=len(faults), recordings=rows,
                  num_warned=sum(bool(set(row["warnings"]) & WARNINGS.keys()) for row in rows))
    report.update({f"warned_{code.replace('-', '_')}": count for code, count in counts.items()})
    report.update(Counter(f"bad_{fault.reason.replace('-', '_')}" for fault in faults))
    for code in WARNINGS:
        if counts[code]:
            log.warning("%s: %s (%d of %d)", code, WARNINGS[code][0], counts[code], len(rows))
    if len(faults) > options.allowed_bad(len(utterances)):
        raise_all(faults)


def row_as_text(row: dict) -> str:
    """One tab-separated line of COLUMNS: `-` where there is nothing, warnings with commas between."""
    return "\t".join(_as_text(name, row[name]) for name in COLUMNS)


def _as_text(name: str, value) -> str:
    if value is None or value == []:
        return "-"
    if name == "warnings":
        return ",".join(value)
    if name == "id":
        return value.replace("\t", " ").replace("\n", " ")
    return f"{value:.{_DECIMALS[name]}f}" if name in _DECIMALS else str(value)


def _read_names(names: list[str], options: CheckOptions) -> list[Utterance]:
    if any(name.endswith(".scp") for name in names):
        if len(names) > 1:
            raise ConfigError(f"{len(names)} inputs with a list among them; want recordings, or one list (.scp)")
        return read_utterances(names[0], allow_pipes=options.audio_options.allow_pipes)
    if names.count("-") > 1:
        raise ConfigError("standard input (-) can be one recording only")
    return [Utterance(name, name) for name in names]


_detector = None  # of this process; workers inherit it by fork


def _load_detector(vad: bool) -> None:
    global _detector
    from speakerkit.inference.speech_detector import load_detector

    _detector = load_detector() if vad else None


def _describe(task: tuple[Utterance, audio.AudioOptions]) -> str:
    return task[0].path


def _check(task: tuple[Utterance, audio.AudioOptions]) -> tuple[list[dict], list[RecordingError]]:
    """The rows of one recording and what is wrong with it, in a worker."""
    utterance, options = task
    rows, faults, first = [], [], None
    source = sys.stdin.buffer.read() if utterance.path == "-" else utterance.path
    try:
        channels = _choose_channels(source, options)
    except RecordingError as error:
        return [_empty_row(utterance, None, error)], [_named(error, utterance)]
    for channel in channels:
        try:
            chosen = dataclasses.replace(options, channel=channel)
            samples, rate = audio.load_audio(source, chosen, notes=Counter())
            rows.append(_make_row(utterance, channel, samples, rate, options))
            if first is not None and len(first) == len(samples):
                for sign, code in ((1, "equal-channels"), (-1, "opposite-channels")):
                    if np.abs(first - sign * samples).max() <= STEP:  # negated, a rounding differs
                        rows[-1]["warnings"].append(code)
            first = samples if first is None else first
        except RecordingError as error:
            rows.append(_empty_row(utterance, channel, error))
            faults.append(_named(error, utterance))
    return rows, faults[:1]  # a recording is bad once


def _choose_channels(source, options: audio.AudioOptions) -> list[int | str | None]:
    """The channels that are measured: the chosen one, else each."""
    if options.channel is not None or (isinstance(source, str) and pipes.is_pipe(source)):
        return [options.channel]
    num_channels = audio.scan_audio(source, dataclasses.replace(options, channel="mix")).num_channels
    return [None] if num_channels == 1 else list(range(num_channels))


def _named(error: RecordingError, utterance: Utterance) -> RecordingError:
    return RecordingError(utterance.path, error.reason, error.detail)


def _empty_row(utterance: Utterance, channel: int | str | None, error: RecordingError) -> dict:
    return dict.fromkeys(COLUMNS) | {"id": utterance.utt_id, "channel": channel, "warnings": [error.reason]}


def _make_row(utterance: Utterance, channel: int | str | None, samples: np.ndarray, rate: int,
              options: audio.AudioOptions) -> dict:
    quality = measure_quality(samples, rate)
    if _detector is not None:
        speech = _detector.keep_speech(samples, rate, options.min_duration_s)
        quality = dataclasses.replace(quality, speech_s=len(speech) / rate)
    row = {"id": utterance.utt_id, "channel": channel, "seconds": quality.duration_s, "sample_rate": rate,
           "speech_seconds": quality.speech_s, "snr_db": quality.snr_db, "bandwidth_hz": quality.bandwidth_hz,
           "level_dbfs": quality.level_dbfs, "peak_dbfs": quality.peak_dbfs,
           "clipped_percent": 100.0 * quality.clipped, "dc_offset": quality.dc_offset,
           "silence_percent": 100.0 * quality.silent}
    return row | {"warnings": [code for code, (_, holds) in WARNINGS.items() if holds(quality)]}
