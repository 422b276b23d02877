"""Where the samples of training utterances lie, and how a stretch of them is read."""

import bisect
import itertools
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from speakerkit.errors import DataError, RecordingError, raise_all
from speakerkit.features.resample import resample
from speakerkit.io import audio, data_dir, packed, pcm_wave, pipes, tables
from speakerkit.io.bad_recordings import BadRecordings

log = logging.getLogger(__name__)
MOST_HELD_BYTES = 1 << 30  # 9 hours at 16 kHz
Places = dict[str, packed.Packed | pcm_wave.PcmWave]  # by path: where samples can be read without a decoder


@dataclass(frozen=True)
class Recording:
    """An utterance's place in its file."""

    path: str
    sample_rate: int
    start: int  # first sample of the utterance, at its own rate
    num_samples: int  # at its own rate
    channel: int | str | None = None
    pcm_rate: int | None = None
    num_drawn: int = 1  # where above 1, a channel is drawn among so many, the first ones
    place: packed.Packed | pcm_wave.PcmWave | None = None  # where its samples can be read without a decoder

    def draw_channel(self, generator: np.random.Generator) -> int | str | None:
        """The channel to read: drawn where it is to be random and there are several, else the chosen one."""
        return int(generator.integers(self.num_drawn)) if self.num_drawn > 1 else self.channel

    def read(self, first: int, count: int, channel: int | str | None = None) -> np.ndarray:
        """(count,) float32 samples from the utterance's sample ``first`` on.

        Args:
            channel: as ``draw_channel`` gave it; None: the chosen one.

        Raises:
            RecordingError: what ``audio.read_chunk`` refuses.
        """
        channel = self.channel if channel is None else channel
        if self.place is not None:
            return self.place.read(self.start + first, count, channel)
        return audio.read_chunk(self.path, self.start + first, count, channel, self.pcm_rate)


@dataclass(frozen=True)
class Held:
    """A recording in memory, where 16 bits hold it exactly; made before the workers fork, they share it."""

    samples: np.ndarray  # (num_samples,) int16
    sample_rate: int

    @property
    def num_samples(self) -> int:
        """Its length."""
        return len(self.samples)

    def draw_channel(self, generator: np.random.Generator) -> None:
        """It has one."""

    def read(self, first: int, count: int, channel: None = None) -> np.ndarray:
        """(count,) float32 from sample ``first`` on, as its file gives them."""
        return self.samples[first : first + count] * np.float32(1 / 32768)


def hold(recordings: list[Recording]) -> "list[Recording | Held]":
    """The same with those in memory that 16 bits hold; all as they are where they would take too much of it."""
    if 2 * sum(recording.num_samples for recording in recordings) > MOST_HELD_BYTES:
        log.info("%d noises take more than %d MB: they are read from their files", len(recordings),
                 MOST_HELD_BYTES >> 20)
        return list(recordings)
    held = []
    for recording in recordings:
        samples = recording.read(0, recording.num_samples)
        whole = samples * np.float32(32768)
        is_exact = (whole == np.rint(whole)).all() and whole.min() >= -32768 and whole.max() <= 32767
        held.append(Held(whole.astype(np.int16), recording.sample_rate) if is_exact else recording)
    return held


@dataclass(frozen=True)
class Joined:
    """An utterance that is several recordings' stretches end to end; read as one."""

    parts: tuple[Recording, ...]
    ends: tuple[int, ...]  # of each part, in samples of the whole

    @property
    def sample_rate(self) -> int:
        """That of every part."""
        return self.parts[0].sample_rate

    @property
    def num_samples(self) -> int:
        """Of all parts."""
        return self.ends[-1]

    def draw_channel(self, generator: np.random.Generator) -> int | str | None:
        """One channel for all parts: drawn among those that each of them has, or the chosen one."""
        return min(self.parts, key=lambda part: part.num_drawn).draw_channel(generator)

    def read(self, first: int, count: int, channel: int | str | None = None) -> np.ndarray:
        """(count,) float32 samples from the utterance's sample ``first`` on; only parts that hold some are opened."""
        pieces, end = [], first + count
        for number in range(bisect.bisect_right(self.ends, first), len(self.parts)):
            begin = self.ends[number - 1] if number else 0
            if begin >= end:
                break
            skip = max(0, first - begin)
            pieces.append(self.parts[number].read(skip, min(end, self.ends[number]) - begin - skip, channel))
        return np.concatenate(pieces) if len(pieces) != 1 else pieces[0]


def find_recordings(data: data_dir.DataDir) -> dict[str, list[tuple[str, float, float]]]:
    """utt_id -> path, start and end in seconds (end -1: all) of its parts, of every utterance of utt2spk.

    Raises:
        DataError: an utterance without recording or segment; a pipe, which can't be read in chunks.
    """
    found, faults = {}, []
    utt2utts = data.utt2utts or {}
    for utt_id, line in data.utt2spk.lines.items():
        places = []
        for part_id in utt2utts.get(utt_id, (utt_id,)):
            segment = data.segments.get(part_id) if data.segments is not None else None
            rec_id = part_id if data.segments is None else segment.rec_id if segment else None
            path = data.wav_scp.values.get(rec_id)
            if path is None:
                named = f"'{utt_id}'" if part_id == utt_id else f"part '{part_id}' of '{utt_id}'"
                faults.append(DataError(data.utt2spk.path, f"{named} has no recording in {data.wav_scp.path}", line))
            elif pipes.is_pipe(path):
                message = (
                    f"'{rec_id}' is a pipe: training reads chunks; store features with make-fbank --allow-pipes first"
                )
                faults.append(DataError(data.wav_scp.path, message, data.wav_scp.lines[rec_id]))
            else:
                places.append((path, segment.start_s if segment else 0.0, segment.end_s if segment else -1.0))
        found[utt_id] = places
    raise_all(faults)
    return found


def scan_recordings(
    data: data_dir.DataDir, options: audio.AudioOptions, bad: BadRecordings, show: bool, random_channel: bool = False
) -> tuple[list[str], list[Recording | Joined]]:
    """Every usable utterance's place in its recordings, from the headers alone; the others are noted in ``bad``.

    Args:
        random_channel: a channel is drawn for each chunk of a recording that has several.

    Raises:
        DataError: what ``find_recordings`` refuses.
    """
    utterances = find_recordings(data)
    infos: dict[str, audio.AudioInfo | RecordingError] = {}
    places: Places = dict(_find_packed(data))
    utt_ids, recordings = [], []
    for utt_id, parts in tqdm(
        utterances.items(), desc="read headers", unit="utt", dynamic_ncols=True, leave=False,
        disable=None if show else True,
    ):  # fmt: skip
        try:
            recording = _locate(parts, options, infos, places, random_channel)
        except RecordingError as error:
            bad.add(utt_id, error)
            continue
        utt_ids.append(utt_id)
        recordings.append(recording)
    return utt_ids, recordings


def _locate(
    parts: list, options: audio.AudioOptions, infos: dict, places: Places, random_channel: bool
) -> Recording | Joined:
    """One utterance's place; RecordingError where a header shows that it can't be used."""
    found = []
    for path, start_s, end_s in parts:
        if path not in infos:
            infos[path] = _scan(path, places, options if len(parts) == 1 else audio.any_length(options))
        info = infos[path]
        if isinstance(info, RecordingError):
            raise info
        audio.check_joint(path, info.sample_rate, parts[0][0], found[0].sample_rate if found else info.sample_rate)
        start = int(start_s * info.sample_rate)
        end = info.num_samples if end_s < 0 else min(info.num_samples, int(end_s * info.sample_rate))
        num_drawn = info.num_channels if random_channel else 1
        found.append(
            Recording(
                path, info.sample_rate, start, end - start, options.channel, options.pcm_rate, num_drawn,
                places.get(path),
            )  # fmt: skip
        )
    ends = tuple(itertools.accumulate(recording.num_samples for recording in found))
    if ends[-1] < options.min_duration_s * found[0].sample_rate:
        detail = f"{ends[-1] / found[0].sample_rate:.3f} s; want at least {options.min_duration_s:g} s"
        raise RecordingError(parts[0][0], "too-short", detail)
    return found[0] if len(found) == 1 else Joined(tuple(found), ends)


def _find_packed(data: data_dir.DataDir) -> dict[str, packed.Packed]:
    """The packed recordings by the path that wav.scp gives them, each where the list says.

    Raises:
        DataError: a list or shard at fault.
    """
    found, faults = {}, []
    for rec_id, place in packed.read_packed(data.path).items():
        try:
            place.check()
        except RecordingError as error:
            message = f"{error}; pack it again (local/pack_audio.py --overwrite)"
            faults.append(DataError(Path(data.path) / packed.NAME, message))
        if rec_id in data.wav_scp.values:
            found[data.wav_scp.values[rec_id]] = place
    raise_all(faults)
    if found:
        log.info("%d of %d recordings are read packed", len(found), len(data.wav_scp.values))
    return found


def _scan(
    path: str, places: Places, options: audio.AudioOptions
) -> audio.AudioInfo | RecordingError:
    """What its header says; a WAV that can be read without a decoder is noted among the places."""
    try:
        if (place := places.get(path)) is not None:
            info = audio.AudioInfo(place.sample_rate, place.num_samples, place.num_channels, "PACKED")
            audio.check_channel(path, info.num_channels, options.channel)
            audio.check_duration(path, info, info.num_samples, options)
            return info
        info = audio.scan_audio(path, options)
        if (wave := _find_wave(path, info)) is not None:
            places[path] = wave
        return info
    except RecordingError as error:
        return error


def _find_wave(path: str, info: audio.AudioInfo) -> pcm_wave.PcmWave | None:
    """Where a recording's samples lie, if it is a 16-bit PCM WAV of which libsndfile says the same."""
    wave = pcm_wave.find_pcm_wave(path) if info.format == "WAV" else None
    is_same = wave is not None and (wave.num_samples, wave.num_channels) == (info.num_samples, info.num_channels)
    return wave if is_same else None


def read_noises(scp: str | os.PathLike, options: audio.AudioOptions) -> list[Recording]:
    """The recordings of a wav.scp of noises or room responses; none for an empty name.

    Raises:
        DataError: what the table's reader refuses; RecordingError: one that can't be used.
    """
    if not scp:
        return []
    found = []
    for value in tables.read_table(scp).values.values():
        path = tables.resolve_path(value, scp)
        info = audio.scan_audio(path, options)
        found.append(
            Recording(
                path, info.sample_rate, 0, info.num_samples, options.channel, options.pcm_rate,
                place=_find_wave(path, info),
            )  # fmt: skip
        )
    return found


def read_responses(scp: str | os.PathLike, options: audio.AudioOptions, sample_rate: int) -> list[np.ndarray]:
    """Room responses of any length at ``sample_rate``, the direct sound at index 0 and of height 1."""
    responses = []
    for recording in read_noises(scp, audio.any_length(options)):
        samples = resample(recording.read(0, recording.num_samples), recording.sample_rate, sample_rate)
        direct = int(np.argmax(np.abs(samples)))
        responses.append(samples[direct:] / max(abs(float(samples[direct])), 1e-9))
    return responses
