"""Fixed-length chunks of features with speaker labels, from stored features or straight from recordings.

An item is an utterance in one voice: at one speed, through one vocal tract. A chunk is a function of
(item, generator): nothing else is random, so every run with the same seed sees the same chunks.
"""

import contextlib
import itertools
import logging
import os
import re
import signal
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from speakerkit.config import AugmentationConfig, FbankConfig
from speakerkit.errors import DataError, MachineError, RecordingError
from speakerkit.features.augment import RoomResponse
from speakerkit.features.augment_together import room_length
from speakerkit.features.fbank import chunk_samples, compute_fbank
from speakerkit.features.resample import chunk_span, convert, speed_chunk, speed_spk_id
from speakerkit.features.resample_together import change_speeds, is_transformed
from speakerkit.io import ark, tables
from speakerkit.training.disturb import Disturbance, disturb_together, draw_disturbance
from speakerkit.training.recordings import Joined, Recording

log = logging.getLogger(__name__)
FBANK_GROUP = 4  # chunks whose frames fit a core's cache together
MOST_KEPT_BYTES = 1 << 28  # of a worker: spectra of room responses


def number_speakers(spk_ids: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The distinct speakers, sorted as LC_ALL=C sorts, and (num_items,) int64 class of each item."""
    speakers = sorted(set(spk_ids), key=tables.sort_key)
    index = {spk_id: number for number, spk_id in enumerate(speakers)}
    return speakers, np.array([index[spk_id] for spk_id in spk_ids], dtype=np.int64)


def voice_id(spk_id: str, speed: float, warp: float, new_speakers: bool = True) -> str:
    """The speaker of an utterance at a speed and a vocal tract warp: `vtln1.1-sp0.9-<spk>`, or the same."""
    spk_id = speed_spk_id(spk_id, speed, new_speakers)
    return f"vtln{warp:g}-{spk_id}" if new_speakers and warp != 1.0 else spk_id


def person_of(spk_id: str) -> str:
    """Whose voice was perturbed to make a speaker."""
    return re.sub(r"^(vtln[0-9.]+-)?(sp[0-9.]+-)?", "", spk_id)


def repeated(rows: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """A random stretch of ``count`` rows (samples or frames); what is shorter is repeated from a random place."""
    if len(rows) >= count:
        start = generator.integers(len(rows) - count + 1)
        return rows[start : start + count]
    start = generator.integers(len(rows))
    return rows[(start + np.arange(count)) % len(rows)]


class FeatureChunks:
    """Chunks of feats.scp; nothing is disturbed, speeds are those the features were made at."""

    def __init__(
        self,
        utt_ids: Sequence[str],
        spk_ids: Sequence[str],
        locations: dict,
        num_frames: dict[str, int],
        chunk_frames: int,
    ):
        self.utt_ids, self.locations, self.num_frames = list(utt_ids), locations, num_frames
        self.chunk_frames = chunk_frames
        self.speakers, self.labels = number_speakers(spk_ids)

    def name(self, item: int) -> str:
        """The utterance's id, for messages."""
        return self.utt_ids[item]

    def fbanks(self, chunks: Sequence[np.ndarray]) -> np.ndarray:
        """(num_chunks, chunk_frames, bins) float32 of chunks that are features already."""
        return np.stack(chunks)

    def chunk(self, item: int, generator: np.random.Generator) -> np.ndarray:
        """(chunk_frames, bins) float32 of one item."""
        utt_id = self.utt_ids[item]
        total, wanted = self.num_frames[utt_id], self.chunk_frames
        if total >= wanted:
            start = int(generator.integers(total - wanted + 1))
            chunk = ark.read_matrix_rows(self.locations[utt_id], utt_id, start, start + wanted)
        else:
            chunk = repeated(ark.read_matrix(self.locations[utt_id], utt_id), wanted, generator)
        if not np.isfinite(chunk).all():
            raise RecordingError(self.locations[utt_id].ark_path, "not-finite", f"features of '{utt_id}'")
        return chunk


class Stretch(NamedTuple):
    """What is read for a chunk: the chunk itself, or what a change of speed makes it of."""

    samples: np.ndarray  # (n,) float32, as recorded
    speed: float = 1.0  # of these samples in one of the chunk's
    lead: int = 0  # samples before the chunk's start


class WaveChunk(NamedTuple):
    """A chunk before it changes speed, is disturbed and becomes features; all that needs a recording is there."""

    stretch: "Stretch"
    disturbance: Disturbance
    warp: float  # of the vocal tract
    generator: np.random.Generator  # of the dither


class WaveChunks:
    """Chunks of recordings: read, change speed, disturb, fbank; only the samples of the chunk are decoded."""

    def __init__(
        self,
        utt_ids: Sequence[str],
        spk_ids: Sequence[str],
        recordings: Sequence[Recording | Joined],
        fbank: FbankConfig,
        augmentation: AugmentationConfig,
        chunk_frames: int,
        noises: Sequence[Recording] = (),
        responses: Sequence[np.ndarray] = (),
    ):
        self.utt_ids, self.recordings = list(utt_ids), list(recordings)
        self.fbank, self.augmentation = fbank, augmentation
        self.num_samples = chunk_samples(chunk_frames, fbank)
        self.noises = list(noises)
        self.longest_response = max(map(len, responses), default=0)
        kept_bytes = 4 * len(responses) * room_length(self.num_samples, self.longest_response)
        self.responses = [RoomResponse(r) for r in responses] if kept_bytes <= MOST_KEPT_BYTES else list(responses)
        self.voices = list(itertools.product(augmentation.speeds, augmentation.vtln_warps))  # speed, warp
        new = augmentation.speed_speakers == "new"
        self.speakers, self.labels = number_speakers(
            [voice_id(spk_id, speed, warp, new) for speed, warp in self.voices for spk_id in spk_ids]
        )

    @property
    def changes_speed(self) -> bool:
        """Whether some chunk comes from a recording at another speed or rate than it has."""
        sources = [*self.recordings, *self.noises]
        return any(s != 1.0 for s, _ in self.voices) or any(r.sample_rate != self.fbank.sample_rate for r in sources)

    def name(self, item: int) -> str:
        """The utterance's id, for messages."""
        return self.utt_ids[item % len(self.utt_ids)]

    def features(self, item: int, generator: np.random.Generator) -> np.ndarray:
        """(chunk_frames, bins) float32 of one item."""
        return self.fbanks([self.chunk(item, generator)])[0]

    def chunk(self, item: int, generator: np.random.Generator) -> WaveChunk:
        """One item's samples as recorded, what is to happen to them, and what its features need besides."""
        speed, warp = self.voices[item // len(self.utt_ids)]
        stretch = self._stretch(self.recordings[item % len(self.utt_ids)], speed, self.num_samples, generator)
        disturbance = draw_disturbance(
            stretch.samples,
            self.num_samples,
            self.augmentation,
            self.fbank.sample_rate,
            generator,
            babble=self._babble,
            noises=self._noise if self.noises else None,
            responses=self._response if self.responses else None,
        )
        return WaveChunk(stretch, disturbance, warp, generator)

    def samples(self, chunks: Sequence[WaveChunk]) -> np.ndarray:
        """(num_chunks, num_samples) float32 at their speeds, disturbed."""
        rows = at_speeds([chunk.stretch for chunk in chunks], self.num_samples)
        drawn = [chunk.disturbance for chunk in chunks]
        return disturb_together(rows, drawn, self.fbank.sample_rate, self.longest_response)

    def fbanks(self, chunks: Sequence[WaveChunk]) -> np.ndarray:
        """(num_chunks, chunk_frames, bins) float32; a few at a time: cheaper than one by one or all at once."""
        samples, features = torch.from_numpy(self.samples(chunks)), None
        for warp, group in itertools.groupby(range(len(chunks)), key=lambda n: chunks[n].warp):
            numbers = list(group)
            for first in range(0, len(numbers), FBANK_GROUP):
                part = numbers[first : first + FBANK_GROUP]
                place = slice(part[0], part[-1] + 1)
                dither = [chunk.generator for chunk in chunks[place]] if self.fbank.dither > 0 else None
                computed = compute_fbank(samples[place], self.fbank, generator=dither, vtln_warp=warp)
                if features is None:
                    features = np.empty((len(chunks), *computed.shape[1:]), np.float32)
                features[place] = computed.numpy()
        return features

    def whole(self, item: int) -> tuple[np.ndarray, float]:
        """An item's whole recording, undisturbed: ((n,) float32 at its speed and the fbank's rate, its warp)."""
        speed, warp = self.voices[item // len(self.utt_ids)]
        recording = self.recordings[item % len(self.utt_ids)]
        ratio = speed * recording.sample_rate / self.fbank.sample_rate
        return convert(recording.read(0, recording.num_samples), ratio, 1.0), warp

    def _stretch(
        self, recording: Recording | Joined, speed: float, count: int, generator: np.random.Generator
    ) -> Stretch:
        """What ``count`` samples at the fbank's rate are made of, from a random place; a short one is repeated."""
        channel = recording.draw_channel(generator)
        ratio = speed * recording.sample_rate / self.fbank.sample_rate  # input samples a output sample
        room = recording.num_samples - int(np.ceil(count * ratio))
        if room < 0:
            whole = recording.read(0, recording.num_samples, channel)
            return Stretch(repeated(speed_chunk(whole, ratio, int(len(whole) / ratio), 0), count, generator))
        start = int(generator.integers(room + 1))
        first, length = chunk_span(count, ratio, start, recording.num_samples)
        samples = recording.read(first, length, channel)
        if ratio == 1.0 or is_transformed(ratio):
            return Stretch(samples, ratio, start - first)
        samples = speed_chunk(samples, ratio, count, start - first)
        return Stretch(samples if len(samples) == count else repeated(samples, count, generator))

    def _take(
        self, recording: Recording | Joined, speed: float, count: int, generator: np.random.Generator
    ) -> np.ndarray:
        """(count,) samples at the fbank's rate and a speed."""
        stretch = self._stretch(recording, speed, count, generator)
        return stretch.samples if stretch.speed == 1.0 else at_speeds([stretch], count)[0]

    def _babble(self, count: int, generator: np.random.Generator) -> np.ndarray:
        voices = [
            self._take(self.recordings[generator.integers(len(self.recordings))], 1.0, count, generator)
            for _ in range(int(generator.integers(3, 7)))
        ]
        return np.sum(voices, axis=0, dtype=np.float32)

    def _noise(self, count: int, generator: np.random.Generator) -> np.ndarray:
        return self._take(self.noises[generator.integers(len(self.noises))], 1.0, count, generator)

    def _response(self, generator: np.random.Generator) -> "np.ndarray | RoomResponse":
        return self.responses[generator.integers(len(self.responses))]


def at_speeds(stretches: Sequence[Stretch], count: int) -> np.ndarray:
    """(num_stretches, count) float32: the chunks that they are for, those of one speed changed side by side."""
    rows = np.empty((len(stretches), count), np.float32)
    for speed in sorted({stretch.speed for stretch in stretches}):
        places = [place for place, stretch in enumerate(stretches) if stretch.speed == speed]
        alike = [stretches[place] for place in places]
        rows[places] = [stretch.samples for stretch in alike] if speed == 1.0 else change_speeds(
            [stretch.samples for stretch in alike], speed, count, [stretch.lead for stretch in alike])
    return rows


def start_worker(_: int) -> None:
    """One thread; in a group of its own, so that a signal to the run's group lets the parent finish its step."""
    torch.set_num_threads(1)
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    for signum in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class TrainingBatches(torch.utils.data.Dataset):
    """Item ``step`` is that step's batch: (features (batch, chunk_frames, bins), labels (batch,), bad recordings).

    A recording that can't be read is replaced by the batch's next draw and reported, so that the
    loop can count it; after 20 in a row the data are called unreadable. What goes wrong is the item:
    an exception of ours would not survive the way from a worker process (``loop.read_batches`` raises it).
    """

    MOST_BAD_IN_A_ROW = 20

    def __init__(
        self,
        chunks: FeatureChunks | WaveChunks,
        sampler,
        mean_norm: bool,
        places: range | None = None,
        as_samples: bool = False,
    ):
        self.chunks, self.sampler, self.mean_norm, self.as_samples = chunks, sampler, mean_norm, as_samples
        self.places = range(sampler.batch_size) if places is None else places

    def of_places(self, places: range) -> "TrainingBatches":
        """The same batches, of each only the items at these places: as they are in the whole."""
        return TrainingBatches(self.chunks, self.sampler, self.mean_norm, places, self.as_samples)

    def __getitem__(self, step: int):
        try:
            return self.batch(step)
        except (DataError, MachineError) as error:
            return error

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor, list]:
        """This process's part of a step's batch; with ``as_samples`` (batch, num_samples) and warps, in bins' place.

        Raises:
            DataError: nothing that is drawn can be read.
        """
        bad: list[tuple[str, str, str, str]] = []
        chunks, labels = [], []
        items = self.sampler.items(step)
        for index in self.places:
            generator = self.sampler.chunk_generator(step, index)
            item, chunk = self._read(int(items[index]), generator, bad)
            chunks.append(chunk)
            labels.append(self.chunks.labels[item])
        classes = torch.from_numpy(np.array(labels))
        if self.as_samples:
            warps = tuple(chunk.warp for chunk in chunks)
            return (torch.from_numpy(self.chunks.samples(chunks)), warps), classes, bad
        features = self.chunks.fbanks(chunks)
        if self.mean_norm:
            features -= features.mean(axis=1, keepdims=True)
        return torch.from_numpy(features), classes, bad

    def _read(self, item: int, generator: np.random.Generator, bad: list) -> tuple:
        for _ in range(self.MOST_BAD_IN_A_ROW):
            try:
                return item, self.chunks.chunk(item, generator)
            except RecordingError as error:
                bad.append((self.chunks.name(item), error.path, error.reason, error.detail))
                item = int(generator.integers(len(self.chunks.labels)))
        raise DataError(
            bad[-1][1],
            f"{self.MOST_BAD_IN_A_ROW} recordings drawn one after another can't be read; "
            f"this one: {bad[-1][2]} {bad[-1][3]}",
        )
