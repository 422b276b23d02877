"""Where the samples of training utterances lie, and how a stretch of them is read."""

import os
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from speakerkit.errors import DataError, RecordingError, raise_all
from speakerkit.features.resample import resample
from speakerkit.io import audio, data_dir, pipes, tables
from speakerkit.io.bad_recordings import BadRecordings


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
        return audio.read_chunk(self.path, self.start + first, count, channel, self.pcm_rate)


def find_recordings(data: data_dir.DataDir) -> dict[str, tuple[str, float, float]]:
    """utt_id -> path, start and end in seconds (end -1: all), of every utterance of utt2spk.

    Raises:
        DataError: an utterance without recording or segment; a pipe, which can't be read in chunks.
    """
    found, faults = {}, []
    for utt_id, line in data.utt2spk.lines.items():
        segment = data.segments.get(utt_id) if data.segments is not None else None
        rec_id = utt_id if data.segments is None else segment.rec_id if segment else None
        path = data.wav_scp.values.get(rec_id)
        if path is None:
            faults.append(DataError(data.utt2spk.path, f"'{utt_id}' has no recording in {data.wav_scp.path}", line))
        elif pipes.is_pipe(path):
            message = f"'{rec_id}' is a pipe: training reads chunks; store features with make-fbank --allow-pipes first"
            faults.append(DataError(data.wav_scp.path, message, data.wav_scp.lines[rec_id]))
        else:
            found[utt_id] = (path, segment.start_s if segment else 0.0, segment.end_s if segment else -1.0)
    raise_all(faults)
    return found


def scan_recordings(
    data: data_dir.DataDir, options: audio.AudioOptions, bad: BadRecordings, show: bool, random_channel: bool = False
) -> tuple[list[str], list[Recording]]:
    """Every usable utterance's place in its recording, from the headers alone; the others are noted in ``bad``.

    Args:
        random_channel: a channel is drawn for each chunk of a recording that has several.

    Raises:
        DataError: what ``find_recordings`` refuses.
    """
    places = find_recordings(data)
    infos: dict[str, audio.AudioInfo | RecordingError] = {}
    utt_ids, recordings = [], []
    for utt_id, (path, start_s, end_s) in tqdm(
        places.items(), desc="read headers", unit="utt", dynamic_ncols=True, leave=False, disable=None if show else True
    ):
        if path not in infos:
            infos[path] = _scan(path, options)
        info = infos[path]
        if isinstance(info, RecordingError):
            bad.add(utt_id, info)
            continue
        start = int(start_s * info.sample_rate)
        end = info.num_samples if end_s < 0 else min(info.num_samples, int(end_s * info.sample_rate))
        if end - start < options.min_duration_s * info.sample_rate:
            detail = f"{(end - start) / info.sample_rate:.3f} s; want at least {options.min_duration_s:g} s"
            bad.add(utt_id, RecordingError(path, "too-short", detail))
            continue
        utt_ids.append(utt_id)
        num_drawn = info.num_channels if random_channel else 1
        recordings.append(
            Recording(path, info.sample_rate, start, end - start, options.channel, options.pcm_rate, num_drawn)
        )
    return utt_ids, recordings


def _scan(path: str, options: audio.AudioOptions) -> audio.AudioInfo | RecordingError:
    try:
        return audio.scan_audio(path, options)
    except RecordingError as error:
        return error


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
        found.append(Recording(path, info.sample_rate, 0, info.num_samples, options.channel, options.pcm_rate))
    return found


def read_responses(scp: str | os.PathLike, options: audio.AudioOptions, sample_rate: int) -> list[np.ndarray]:
    """Room responses at ``sample_rate``, the direct sound at index 0 and of height 1."""
    responses = []
    for recording in read_noises(scp, options):
        samples = resample(recording.read(0, recording.num_samples), recording.sample_rate, sample_rate)
        direct = int(np.argmax(np.abs(samples)))
        responses.append(samples[direct:] / max(abs(float(samples[direct])), 1e-9))
    return responses
