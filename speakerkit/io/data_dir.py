"""A Kaldi data directory as a whole: read it, write it; what may be wrong with it is in `data_dir_checks.py`."""

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from speakerkit.errors import DataError, raise_all
from speakerkit.io.pipes import is_pipe
from speakerkit.io.tables import (
    Segment,
    Table,
    read_segments,
    read_spk2utt,
    read_table,
    read_utt2spk,
    read_utt2utts,
    resolve_path,
    sort_key,
    write_table,
)

__all__ = ["DataDir", "check_folder", "read_data_dir", "read_tables", "write_data_dir"]

log = logging.getLogger(__name__)

# Wrong as soon as the utterances are others.
_DESCRIBES_UTTERANCES = ("segments", "utt2utts", "feats.scp", "utt2num_frames")


@dataclasses.dataclass(frozen=True)
class DataDir:
    """The tables of one data directory; None where there is no such file.

    Attributes:
        path: the folder.
        wav_scp: rec_id -> absolute path or shell pipe; without segments a recording is an utterance.
        utt2spk: utt_id -> spk_id.
        spk2utt: spk_id -> utt_ids.
        segments: utt_id -> Segment.
        utt2utts: utt_id -> the parts that it is joined of: segments where there are some, else recordings.
            A part is no utterance by itself; what isn't named here is.
        feats_scp: utt_id -> `archive:offset`; `ark.read_scp` reads the same file as places.
        utt2num_frames: utt_id -> a number of frames, as text.
        trials_path: the trials, which `trials.read_trials` reads.
    """
    path: str
    wav_scp: Table | None = None
    utt2spk: Table | None = None
    spk2utt: dict[str, list[str]] | None = None
    segments: dict[str, Segment] | None = None
    utt2utts: dict[str, list[str]] | None = None
    feats_scp: Table | None = None
    utt2num_frames: Table | None = None
    trials_path: str | None = None


def check_folder(path: str | os.PathLike) -> None:
    """Refuse what is no folder, or one whose files can't be opened: each would seem not to be there.

    Raises:
        DataError: no such folder, no folder, no right to go there or into it.
    """
    try:
        os.stat(os.path.join(path, "."))
    except NotADirectoryError:
        raise DataError(path, "is no folder; wanted a data directory") from None
    except PermissionError as error:
        raise DataError(path, f"can't be read: {error.strerror.lower()}; wanted a data directory") from None
    except OSError:
        raise DataError(path, "no such folder; wanted a data directory") from None


def read_data_dir(path: str | os.PathLike) -> DataDir:
    """Read the tables of a data directory, each by itself.

    Raises:
        DataError: as check_folder does. DataErrors: every faulty line of every table.
    """
    faults: list[DataError] = []
    data = read_tables(path, faults)
    raise_all(faults)
    return data


def read_tables(path: str | os.PathLike, faults: list[DataError]) -> DataDir:
    """What can be read of a data directory's tables; every faulty line of the others is added to ``faults``.

    Raises:
        DataError: as check_folder does.
    """
    check_folder(path)

    def read(name: str, reader: Callable):
        file_path = os.path.join(path, name)
        if not os.path.lexists(file_path):
            return None
        try:
            return reader(file_path)
        except DataError as error:
            faults.extend(getattr(error, "faults", [error]))
            return None

    trials_path = os.path.join(path, "trials")
    return DataDir(
        path=os.fspath(path),
        wav_scp=read("wav.scp", _read_wav_scp),
        utt2spk=read("utt2spk", read_utt2spk),
        spk2utt=read("spk2utt", read_spk2utt),
        segments=read("segments", read_segments),
        utt2utts=read("utt2utts", read_utt2utts),
        feats_scp=read("feats.scp", lambda file_path: read_table(file_path, "archive:offset")),
        utt2num_frames=read("utt2num_frames", _read_utt2num_frames),
        trials_path=trials_path if os.path.lexists(trials_path) else None,
    )


def _read_wav_scp(path: str) -> Table:
    table = read_table(path)
    faults = []
    for rec_id, value in table.values.items():
        if value == "-":
            faults.append(table.fault(rec_id, "'-' is standard input; wanted a path"))
        elif value.startswith("~"):
            faults.append(table.fault(rec_id, f"'{value}' begins with '~'; write {os.path.expanduser(value)}"))
        elif not is_pipe(value):
            table.values[rec_id] = resolve_path(value, path)
    raise_all(faults)
    return table


def _read_utt2num_frames(path: str) -> Table:
    table = read_table(path, "number of frames")
    raise_all([table.fault(utt_id, f"'{value}' is no number of frames; wanted 1 or more")
               for utt_id, value in table.values.items()
               if not (value.isascii() and value.isdecimal() and int(value) > 0)])
    return table


def write_data_dir(path: str | os.PathLike, wav_scp: Mapping[str, str] | None = None,
                   utt2spk: Mapping[str, str] | None = None,
                   segments: Mapping[str, Segment] | None = None,
                   utt2utts: Mapping[str, Sequence[str]] | None = None,
                   feats_scp: Mapping[str, str] | None = None,
                   utt2num_frames: Mapping[str, int] | None = None,
                   extra: Mapping[str, Mapping[str, object]] | None = None) -> None:
    """Write tables of a data directory, each sorted as LC_ALL=C sorts; spk2utt comes from utt2spk.

    Args:
        path: the folder; made if it isn't there. Files that are not given stay as they are, but if
            utt2spk or wav.scp changes, segments, utt2utts, feats.scp and utt2num_frames of before are removed.
        wav_scp: rec_id -> path or shell pipe.
        utt2spk: utt_id -> spk_id.
        segments: utt_id -> Segment.
        utt2utts: utt_id -> the parts that it is joined of.
        feats_scp: utt_id -> `archive:offset`.
        utt2num_frames: utt_id -> number of frames.
        extra: name of a further file -> its ids and values.

    Raises:
        DataError: an id or value that could not be read back.
        MachineError: the folder can't be written.
    """
    folder = Path(path)
    tables: dict[str, Mapping[str, object] | None] = {
        "wav.scp": wav_scp, "utt2spk": utt2spk, "spk2utt": _invert(utt2spk),
        "segments": segments and {utt_id: _format_segment(segment) for utt_id, segment in segments.items()},
        "utt2utts": utt2utts and {utt_id: " ".join(parts) for utt_id, parts in utt2utts.items()},
        "feats.scp": feats_scp, "utt2num_frames": utt2num_frames, **(extra or {})}
    before = _read_bytes(folder / "utt2spk"), _read_bytes(folder / "wav.scp")
    for name, table in tables.items():
        if table is not None:
            write_table(folder / name, sorted(table.items(), key=lambda item: sort_key(item[0])))
    if before != (None, None) and before != (_read_bytes(folder / "utt2spk"), _read_bytes(folder / "wav.scp")):
        for name in _DESCRIBES_UTTERANCES:
            if tables[name] is None and (folder / name).exists():
                log.info("%s: removed, the utterances are others now", folder / name)
                (folder / name).unlink()


def _invert(utt2spk: Mapping[str, str] | None) -> dict[str, str] | None:
    if utt2spk is None:
        return None
    spk2utt: dict[str, list[str]] = {}
    for utt_id in sorted(utt2spk, key=sort_key):
        spk2utt.setdefault(utt2spk[utt_id], []).append(utt_id)
    return {spk_id: " ".join(utt_ids) for spk_id, utt_ids in spk2utt.items()}


def _format_segment(segment: Segment) -> str:
    end = "-1" if segment.end_s == -1 else _format_seconds(segment.end_s)
    return f"{segment.rec_id} {_format_seconds(segment.start_s)} {end}"


def _format_seconds(seconds: float) -> str:
    """Microseconds: far below a sample, and no exponent for other tools to stumble over."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
