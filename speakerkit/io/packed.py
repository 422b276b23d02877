"""Recordings packed into a few large files, so that training reads stretches of them without opening any other.

`packed.scp` beside `wav.scp` has a line '<rec-id> <shard>:<offset> <num-samples> <num-channels>
<sample-rate> <int16|float32>' for each; a shard holds '<rec-id> ' and then the samples, little-endian,
channels interleaved, from the offset on. 16 bits are taken where they hold the samples exactly, so a
stretch is what `audio.read_chunk` gives of the recording's own file. Shards are named relative to the
list and can be moved with it.
"""

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakerkit.errors import DataError, RecordingError, raise_all
from speakerkit.io import files, output, sound_file, tables
from speakerkit.io.audio import check_channel, choose_channel
from speakerkit.io.silence import raise_not_finite

NAME = "packed.scp"
TYPES = {"int16": np.dtype("<i2"), "float32": np.dtype("<f4")}
WANTED = "'<rec-id> <shard>:<offset> <num-samples> <num-channels> <sample-rate> <int16|float32>' a line"


@dataclass(frozen=True)
class Packed:
    """Where the samples of a recording lie."""

    rec_id: str
    shard: str
    offset: int  # bytes
    num_samples: int  # of one channel
    num_channels: int
    sample_rate: int
    type: str  # int16 or float32

    @property
    def num_bytes(self) -> int:
        """Of all its samples."""
        return self.num_samples * self.num_channels * TYPES[self.type].itemsize

    def check(self) -> None:
        """Its id stands before its samples, and all of them are there.

        Raises:
            RecordingError: missing, truncated or unreadable (another recording lies there).
        """
        descriptor = _descriptor(self.shard, os.getpid())
        key = f"{self.rec_id} ".encode()
        found = os.pread(descriptor, len(key), self.offset - len(key)) if self.offset >= len(key) else b""
        if found != key:
            raise RecordingError(self.shard, "unreadable", f"offset {self.offset} doesn't hold '{self.rec_id}'")
        size = os.fstat(descriptor).st_size
        if self.offset + self.num_bytes > size:
            raise RecordingError(self.shard, "truncated", f"'{self.rec_id}' ends beyond its {size} bytes")

    def read(self, first: int, count: int, channel: int | str | None = None) -> np.ndarray:
        """(count,) float32 of the chosen channel, from sample ``first`` on: as ``audio.read_chunk`` gives them.

        Raises:
            RecordingError: not all of them are there, not finite, a channel that it lacks.
        """
        check_channel(self.rec_id, self.num_channels, channel)
        width = self.num_channels * TYPES[self.type].itemsize
        wanted = max(0, min(count, self.num_samples - first)) * width
        data = os.pread(_descriptor(self.shard, os.getpid()), wanted, self.offset + first * width)
        if len(data) != count * width:
            detail = f"{count} samples from {first} on wanted of '{self.rec_id}', {len(data) // width} there"
            raise RecordingError(self.shard, "truncated", detail)
        samples = np.frombuffer(data, TYPES[self.type]).reshape(count, self.num_channels)
        if self.type == "int16":
            return choose_channel(samples * np.float32(1 / 32768), channel)
        samples = choose_channel(samples.astype(np.float32), channel)
        raise_not_finite(samples, self.sample_rate, self.shard)
        return samples


@functools.lru_cache(maxsize=256)
def _descriptor(shard: str, pid: int) -> int:
    """A shard's descriptor, opened once in each process."""
    return sound_file.open_file(shard)


def read_packed(data_dir: str | os.PathLike) -> dict[str, Packed]:
    """The packed recordings of a data directory by id; none where it has no `packed.scp`.

    Raises:
        DataError: it was made from another wav.scp than lies there. DataErrors: every faulty line.
    """
    path = Path(data_dir) / NAME
    if not path.is_file():
        return {}
    manifest = files.read_manifest(path)
    if manifest is None or manifest["inputs"].get("wav.scp") != files.sha256_file(path.parent / "wav.scp"):
        raise DataError(path, "wav.scp has changed since; pack it again (local/pack_audio.py --overwrite), or remove "
                              "packed.scp")  # fmt: skip
    table, found, faults = tables.read_table(path, "place"), {}, []
    for rec_id, value in table.values.items():
        try:
            place, *numbers, kind = value.split()
            shard, _, offset = place.rpartition(":")
            num_samples, num_channels, sample_rate = map(int, numbers)
            if kind not in TYPES or not shard or min(num_samples, num_channels, sample_rate, int(offset)) < 1:
                raise ValueError
        except ValueError:
            faults.append(table.fault(rec_id, f"'{value}'; wanted {WANTED}"))
            continue
        shard = os.path.join(path.parent, shard)
        found[rec_id] = Packed(rec_id, shard, int(offset), num_samples, num_channels, sample_rate, kind)
    raise_all(faults)
    return found


def read_whole(path: str, pcm_rate: int | None = None) -> tuple[np.ndarray, int]:
    """All channels of a recording, as its file has them: (num_samples, num_channels) float32, its rate in Hz.

    Raises:
        RecordingError: it can't be opened, is damaged, or breaks off.
    """
    with sound_file.open_recording(path, pcm_rate) as opened:
        info = opened.info
        samples, fault, _ = sound_file.read_samples(opened, 0, info.num_samples, lambda block: block)
    if fault or len(samples) != info.num_samples:
        detail = fault or f"{len(samples)} of {info.num_samples} samples"
        raise RecordingError(path, "unreadable" if fault else "truncated", detail)
    raise_not_finite(samples.reshape(-1), info.sample_rate, path)
    return samples, info.sample_rate


def as_int16(samples: np.ndarray) -> np.ndarray | None:
    """Samples as 16 bits, where these hold them exactly; None where they don't."""
    scaled = samples * np.float32(32768)
    if len(scaled) and ((scaled != np.rint(scaled)).any() or scaled.min() < -32768 or scaled.max() > 32767):
        return None
    return scaled.astype(TYPES["int16"])


def write_packed(
    data_dir: str | os.PathLike, recordings: Iterable[tuple[str, np.ndarray, int]], shard_bytes: int
) -> Iterator[str]:
    """Write shards and, when all are there, `packed.scp`; gives each id as it is written.

    Args:
        recordings: id, (num_samples, num_channels) float32 in [-1, 1], sample rate in Hz.
        shard_bytes: a shard ends with the recording that reaches this size.

    Raises:
        DataError: no recording at all.
        MachineError: the disk is full; then there is no list, and training reads the recordings' own files.
    """
    folder, lines, number, rest = Path(data_dir), [], 0, iter(recordings)
    (folder / NAME).unlink(missing_ok=True)  # it must never name shards of another run
    current = next(rest, None)
    while current is not None:
        number += 1
        name, size = f"packed/shard-{number:05d}", 0
        with output.open_output(folder / name) as stream:
            while current is not None and size < shard_bytes:
                rec_id, samples, rate = current
                whole = as_int16(samples)
                kind = "float32" if whole is None else "int16"
                key = f"{rec_id} ".encode()
                data = (samples.astype(TYPES[kind]) if whole is None else whole).tobytes()
                stream.write(key)
                stream.write(data)
                shape = f"{samples.shape[0]} {samples.shape[1]} {rate} {kind}"
                lines.append((rec_id, f"{name}:{size + len(key)} {shape}"))
                size += len(key) + len(data)
                yield rec_id
                current = next(rest, None)
    if not lines:
        raise DataError(folder / "wav.scp", "no recording could be packed")
    for old in folder.glob("packed/shard-*"):
        if int(old.name.rpartition("-")[2]) > number:
            old.unlink()
    tables.write_table(folder / NAME, lines)


