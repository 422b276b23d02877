"""Unpack a tar archive that may come from anywhere: regular files only, whole or not at all, and once."""

import contextlib
import json
import logging
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from speakerkit.errors import ConfigError, DataError, MachineError
from speakerkit.io import files
from speakerkit.io.locks import is_alive
from speakerkit.io.tar_members import BLOCK, GZIP_MAGIC, Member, TarStream, UnpackLimits, read_members

__all__ = ["LIMITS", "UnpackLimits", "Unpacked", "is_unpacked", "unpack_archive", "unpack_once", "was_unpacked"]

log = logging.getLogger(__name__)

LIMITS = UnpackLimits()

_FACTS = ".unpacked.json"  # in the folder: which archive it is of
_CHUNK = 1 << 20
_OTHER_FORMATS = {b"PK\x03\x04": "a zip file", b"BZh": "compressed with bzip2", b"\xfd7zXZ": "compressed with xz",
                  b"7z\xbc\xaf": "a 7z file", b"Rar!": "a rar file", b"\x28\xb5\x2f\xfd": "compressed with zstd"}


@dataclass(frozen=True)
class Unpacked:
    """What was unpacked, and from what."""

    sha256: str  # of the archive
    num_files: int
    num_bytes: int


def was_unpacked(folder: str | os.PathLike) -> bool:
    """Whether a folder was made by `unpack_archive`, of whatever archive."""
    return _read_facts(Path(folder)) is not None


def is_unpacked(folder: str | os.PathLike, sha256: str) -> bool:
    """Whether a folder holds all files, each of its size, of the archive with this SHA-256."""
    known = _read_facts(Path(folder))
    return (known is not None and known.sha256 == sha256
            and _count_files(Path(folder)) == (known.num_files, known.num_bytes))


def unpack_once(archive: str | os.PathLike, folder: str | os.PathLike, overwrite: bool = False,
                limits: UnpackLimits = LIMITS, progress: Callable[[int], None] | None = None,
                sha256: str | None = None) -> Unpacked:
    """`unpack_archive`, unless `folder` already holds this very archive's files.

    Args:
        archive: `.tar.gz` or `.tar`.
        folder: where its files go.
        overwrite: whether a folder that another archive was unpacked to may be replaced.
        limits: of what it may grow to.
        progress: called with the bytes of the archive read so far.
        sha256: the archive's, where it is known.

    Raises:
        DataError: what `unpack_archive` refuses.
        ConfigError: the folder holds something else.
    """
    before = _check_regular(archive)
    sha256, folder = sha256 or files.sha256_file(archive), Path(folder)
    _check_unchanged(archive, before)
    known = _read_facts(folder)
    if known is not None and known.sha256 == sha256:
        if is_unpacked(folder, sha256):
            return known
        log.info("%s: files are missing or changed; unpacked again", folder)
    elif os.path.lexists(folder) and known is None:
        raise ConfigError(f"{folder}: exists and was not unpacked from an archive; move it, or choose another folder")
    elif known is not None and not overwrite:
        raise ConfigError(f"{folder}: holds another archive (SHA-256 {known.sha256[:8]}, this one {sha256[:8]}); "
                          "give --overwrite to replace it")
    return unpack_archive(archive, folder, sha256, limits, progress)


def unpack_archive(archive: str | os.PathLike, folder: str | os.PathLike, sha256: str,
                   limits: UnpackLimits = LIMITS, progress: Callable[[int], None] | None = None) -> Unpacked:
    """Unpack into a fresh folder that takes its name when all is there; it replaces one of that name.

    Args:
        archive: `.tar.gz` or `.tar`. If all its files lie in one folder, that folder is `folder`.
        folder: the place; missing parents are made.
        sha256: the archive's, which is noted inside.
        limits: of what it may grow to.
        progress: called with the bytes of the archive read so far.

    Raises:
        DataError: no such file, no archive, cut or damaged anywhere, a member that is no regular file or
            whose name could lead out of the folder, a name twice, beyond a limit. Nothing stays.
        MachineError: the place can't be written.

    Files get the mode 0644 whatever the archive says; of the rest of what it says only times are kept, so
    that files unpacked again don't look changed.
    """
    folder, before = Path(os.path.abspath(folder)), _check_regular(archive)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep_dead_temps(folder.parent)
        _check_free_space(folder, before.st_size)
        temp = folder.parent / f".tmp-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}-{folder.name}"
        temp.mkdir(mode=0o700)
    except OSError as error:
        raise MachineError(f"{folder}: can't be written: {error.strerror}") from error
    try:
        unpacked = _unpack_all(archive, temp, sha256, limits, progress)
        _check_unchanged(archive, before)
        _publish(temp, folder, unpacked)
        return unpacked
    except OSError as error:  # of writing: those of reading are DataErrors by now
        raise MachineError(f"{folder}: can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _check_regular(archive: str | os.PathLike) -> os.stat_result:
    """The state of a regular file; opening a FIFO would wait for ever, a device may have no end."""
    try:
        status = os.stat(archive)
    except OSError as error:
        raise DataError(archive, (error.strerror or str(error)).lower()) from None
    if not stat.S_ISREG(status.st_mode):
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe" if stat.S_ISFIFO(status.st_mode) else "device"
        raise DataError(archive, f"is a {kind}; want a regular file: .tar.gz or .tar")
    return status


def _check_unchanged(archive: str | os.PathLike, before: os.stat_result) -> None:
    now = _check_regular(archive)
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
        raise DataError(archive, "changed while it was read: still being written?")


def _check_free_space(folder: Path, num_bytes: int) -> None:
    """Refuse at once what can't fit: an archive of speech unpacks to at least its own size."""
    free = shutil.disk_usage(folder.parent).free
    if free < num_bytes:
        raise MachineError(f"{folder}: {free / 1e9:.2f} GB are free there; unpacking takes {num_bytes / 1e9:.2f} GB "
                           "or more")


def _unpack_all(archive, temp: Path, sha256: str, limits: UnpackLimits,
                progress: Callable[[int], None] | None) -> Unpacked:
    written: dict[tuple[str, ...], Path] = {}
    num_bytes = 0
    try:
        raw = open(archive, "rb")  # noqa: SIM115 - closed below; only its opening can be the archive's fault
    except OSError as error:
        raise DataError(archive, (error.strerror or str(error)).lower()) from None
    with raw:
        _refuse_other_formats(archive, raw)
        stream = TarStream(archive, raw, limits, progress)
        for member in read_members(stream):
            path = temp.joinpath(*member.parts)
            if member.parts in written or (member.parts and member.parts[-1] == _FACTS):
                raise DataError(archive, f"'{member.name}' is there twice")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if member.is_folder:
                    path.mkdir(exist_ok=True)
                    continue
                _write_member(stream, member, path)
            except (FileExistsError, NotADirectoryError):
                raise DataError(archive, f"'{member.name}' is a file and a folder in one") from None
            written[member.parts] = path
            num_bytes += member.size
    if not written:
        raise DataError(archive, "holds no files")
    for path in written.values():
        _sync(path)
    return Unpacked(sha256, len(written), num_bytes)


def _refuse_other_formats(archive, raw) -> None:
    head = raw.read(BLOCK)
    raw.seek(0)
    size = os.fstat(raw.fileno()).st_size
    kind = next((kind for magic, kind in _OTHER_FORMATS.items() if head.startswith(magic)), None)
    if not head:
        kind = "empty"
    elif head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        kind = f"a web page of {size:,} bytes (it begins with {head[:20]!r}), not the archive"
    if kind is not None:
        raise DataError(archive, f"is {kind}; want a .tar.gz or .tar")
    if not head.startswith(GZIP_MAGIC) and len(head) < BLOCK:
        raise DataError(archive, f"is no tar archive: {size} bytes; want a .tar.gz or .tar")


def _write_member(stream: TarStream, member: Member, path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    files.failpoint("unpack")
    with open(descriptor, "wb") as output:
        left = member.size
        while left:
            chunk = stream.read(min(left, _CHUNK))
            output.write(chunk)
            left -= len(chunk)
    os.utime(path, (member.time, member.time))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(temp: Path, folder: Path, unpacked: Unpacked) -> None:
    entries = list(temp.iterdir())
    content = entries[0] if len(entries) == 1 and entries[0].is_dir() else temp
    files.write_json(content / _FACTS, {"sha256": unpacked.sha256, "num_files": unpacked.num_files,
                                        "num_bytes": unpacked.num_bytes})
    content.chmod(0o755)
    files.failpoint("publish-folder")
    if os.path.lexists(folder):
        grave = temp.with_name(f"{temp.name}-old")
        folder.rename(grave)
        try:
            files.failpoint("replace-folder")
            content.rename(folder)
        except OSError:
            grave.rename(folder)
            raise
        shutil.rmtree(grave, ignore_errors=True)
    else:
        content.rename(folder)


def _read_facts(folder: Path) -> Unpacked | None:
    try:
        facts = json.loads((folder / _FACTS).read_bytes())
        return Unpacked(str(facts["sha256"]), int(facts["num_files"]), int(facts["num_bytes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _count_files(folder: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != _FACTS]
    return len(sizes), sum(sizes)


def _sweep_dead_temps(folder: Path) -> None:
    """Remove what killed processes of this host were unpacking here."""
    prefix = f".tmp-{socket.gethostname()}-"
    for path in folder.glob(f"{prefix}*"):
        pid = path.name.removeprefix(prefix).split("-", 1)[0]
        if path.is_dir() and not path.is_symlink() and pid.isdecimal() and not is_alive(int(pid)):
            with contextlib.suppress(OSError):
                shutil.rmtree(path)
