"""Download a corpus as it is published: archives in parts, each checked, joined and unpacked; stopped runs go on."""

import argparse
import functools
import json
import shutil
import sys
from pathlib import Path

from archive_list import Archive, hash_stream, published_digests, read_archives, what_differs
from archive_parts import PartialFile, fetch_part, take_local_part
from speakerkit.cli import entry
from speakerkit.errors import ConfigError, DataError, MachineError

log = entry.log

UNPACKED_RATIO = 1.15    # of speech as FLAC or WAV in a .tar.gz; for the estimate of disk space only
_CHUNK = 1 << 20

FORMATS = """\
ARCHIVES.toml   mirrors = ["https://host/folder/", ...]   tried in turn; optional where each part has a url
                [[archive]]
                name = "corpus.tar.gz"      the file in CORPUS_DIR
                folder = "Corpus"           what it unpacks to; without it, it isn't unpacked
                bytes = 123                 optional; so are md5 = "..." and sha256 = "..."
                download = false            not fetched, only unpacked if it is there
                parts = [{ name = "corpus.tar.gzaa", url = "...", bytes = 1, md5 = "..." }, ...]
                                            in the order in which they are joined; optional, as is all but name
CORPUS_DIR      NAME.part, NAME.part.json   a download that goes on with the next run
                NAME, NAME.download.json    the archive and its checksums
                FOLDER                      what was in it
An archive, or a part of one, that lies in CORPUS_DIR under its name is checked and used."""


def download(archive: Archive, folder: Path, show: bool) -> str:
    """Have an archive in a folder, whole and checked; its SHA-256.

    Raises:
        DataError: what is there, or what the servers have, isn't what is published.
        MachineError: no server could be reached, or the disk is full.
    """
    path = folder / archive.name
    noted = _read_note(path, as_published=True)
    if noted is not None:
        return noted
    if path.exists():
        log.info("%s: is there already; its checksums are computed", path)
        return _verify(archive, path, hint=f"; remove it to download it again: rm {path}")
    partial = PartialFile(path, archive)
    _check_space(archive, folder, partial)
    with partial.open() as stream, _progress_bar(archive, show) as bar:
        if partial.begin or stream.seek(0, 2):
            log.info("%s: going on after %s bytes", archive.name, f"{stream.seek(0, 2):,}")
        for part in archive.parts[len(partial.finished):]:
            if len(archive.parts) > 1 and take_local_part(part, partial, stream, folder):
                continue
            base = partial.begin
            log.info("%s: %s", part.name, part.urls[0])
            fetch_part(part, partial, stream, functools.partial(_show, bar, base))
            if not published_digests(part) and not published_digests(archive):
                log.warning("%s: no checksum is published; checked by its size and gzip's own sums", part.name)
    try:
        sha256 = _verify(archive, partial.path, name=path)
    except DataError:
        partial.path.unlink()  # every part was right, or has no checksum: nobody can say which is wrong
        partial.state_path.unlink(missing_ok=True)
        raise
    partial.publish(path)
    _verify_note(path, sha256)
    return sha256


def _show(bar, base: int, place: int) -> None:
    bar.update(base + place - bar.n)


def _progress_bar(archive: Archive, show: bool):
    from tqdm import tqdm

    return tqdm(total=archive.expected_bytes, desc=archive.name, unit="B", unit_scale=True,
                disable=None if show else True)


def _check_space(archive: Archive, folder: Path, partial: PartialFile) -> None:
    """Say it before the first byte if an archive and what it unpacks to don't fit."""
    expected = archive.expected_bytes
    free = shutil.disk_usage(folder).free
    if expected is None:
        log.info("%s: its size isn't known; %.1f GB are free", archive.name, free / 1e9)
        return
    there = partial.path.stat().st_size if partial.path.exists() else 0
    needed = expected - there + (UNPACKED_RATIO * expected if archive.folder else 0)
    log.info("%s: %.1f GB to download, about %.1f GB of disk; %.1f GB are free", archive.name,
             (expected - there) / 1e9, needed / 1e9, free / 1e9)
    if needed > free:
        raise MachineError(f"{folder}: {archive.name} needs about {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB are free")


def _verify(archive: Archive, path: Path, name: Path | None = None, hint: str = "") -> str:
    """SHA-256 of an archive that is as published."""
    with open(path, "rb") as stream:
        digests = hash_stream(stream, 0, ("md5", "sha256"))
    fault = what_differs(archive, path.stat().st_size, digests)
    if fault is not None:
        raise DataError(name or path, fault + hint)
    if name is None:
        _verify_note(path, digests["sha256"])
    return digests["sha256"]


def _note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.download.json")


def _verify_note(path: Path, sha256: str, as_published: bool = True) -> None:
    from speakerkit.io.files import write_json

    facts = path.stat()
    write_json(_note_path(path), {"sha256": sha256, "num_bytes": facts.st_size, "time_ns": facts.st_mtime_ns,
                                 "as_published": as_published})


def _read_note(path: Path, of_missing: bool = False, as_published: bool = False) -> str | None:
    """The SHA-256 noted of an archive that hasn't changed since (or, if it may be, is no longer there)."""
    try:
        note = json.loads(_note_path(path).read_bytes())
        if as_published and not note["as_published"]:
            return None
        facts = path.stat() if not of_missing else None
        if facts is None or (facts.st_size, facts.st_mtime_ns) == (note["num_bytes"], note["time_ns"]):
            return str(note["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def unpack(archive: Archive, folder: Path, sha256: str, overwrite: bool, show: bool) -> None:
    """Unpack an archive beside it, once."""
    from tqdm import tqdm

    from speakerkit.io.archives import unpack_once

    path, target = folder / archive.name, folder / archive.folder
    with tqdm(total=path.stat().st_size, desc=f"unpacking {archive.name}", unit="B", unit_scale=True,
              disable=None if show else True) as bar:
        unpacked = unpack_once(path, target, overwrite, progress=functools.partial(_show, bar, 0), sha256=sha256)
    log.info("%s: %s files, %s bytes", target, f"{unpacked.num_files:,}", f"{unpacked.num_bytes:,}")


def take_local(archive: Archive, folder: Path) -> str | None:
    """The SHA-256 of an archive that lies in the folder, joined of its parts if need be; None if it isn't there.

    One that isn't as published is told and taken: gzip's own checksums show damage when it is unpacked.
    """
    path = folder / archive.name
    noted = _read_note(path)
    if noted is not None:
        return noted
    parts = [folder / part.name for part in archive.parts]
    if not path.exists() and not all(part.exists() for part in parts):
        return None
    if not path.exists():
        from speakerkit.io.files import open_output

        log.info("%s: joined of %s", path, ", ".join(part.name for part in parts))
        with open_output(path) as whole:
            for part in parts:
                with open(part, "rb") as stream:
                    shutil.copyfileobj(stream, whole, _CHUNK)
    with open(path, "rb") as stream:
        digests = hash_stream(stream, 0, ("md5", "sha256"))
    fault = what_differs(archive, path.stat().st_size, digests)
    if fault is not None:
        log.warning("%s: %s; taken all the same", path, fault)
    _verify_note(path, digests["sha256"], as_published=fault is None)
    return digests["sha256"]


def is_done(archive: Archive, folder: Path) -> bool:
    """Whether the archive's folder is there, so that there is nothing to download."""
    from speakerkit.io.archives import is_unpacked, was_unpacked

    if archive.folder is None or not (folder / archive.folder).exists():
        return False
    if not was_unpacked(folder / archive.folder):
        log.warning("%s: is there already, from elsewhere; taken as it is", folder / archive.folder)
        return True
    sha256 = _read_note(folder / archive.name, of_missing=not (folder / archive.name).exists())
    return sha256 is not None and is_unpacked(folder / archive.folder, sha256)


def run(args: argparse.Namespace) -> None:
    archives = read_archives(args.archives, args.mirror)
    known = {archive.name for archive in archives}
    for name in args.only or ():
        if name not in known:
            raise ConfigError(f"--only is '{name}'; {args.archives} has {', '.join(sorted(known))}")
    args.report |= {"num_archives": 0, "num_done_before": 0}
    for archive in archives:
        is_wanted = archive.download or (Path(args.corpus_dir) / archive.name).exists() or args.offline
        if is_wanted and (not args.only or archive.name in args.only):
            args.report["num_archives"] += 1
            args.report["num_done_before"] += not have_archive(archive, Path(args.corpus_dir), args)


def have_archive(archive: Archive, folder: Path, args: argparse.Namespace) -> bool:
    """Download, check and unpack one archive, as far as that is wanted; whether there was anything to do."""
    from speakerkit.io.files import check_writable, output_lock

    if args.offline and archive.folder and (folder / archive.folder).exists():
        return False
    if is_done(archive, folder):
        log.info("%s: nothing to do", folder / archive.folder)
        return False
    if args.offline and not any((folder / name).exists() for name in (archive.name, archive.parts[0].name)):
        return False
    check_writable(folder / archive.name)
    with output_lock(folder / archive.name):
        sha256 = take_local(archive, folder) if args.offline else download(archive, folder, not args.quiet)
        if sha256 is None:
            return False
        if archive.folder is not None:
            unpack(archive, folder, sha256, args.overwrite, not args.quiet)
            if args.remove_archives:
                (folder / archive.name).unlink()
    return True


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "download_corpus.py", formats=FORMATS,
        summary="Download a corpus in its published parts, check, join and unpack it; the same command again goes on.",
        example="local/download_corpus.py recipes/cnceleb/archives.toml corpora/cnceleb")
    parser.add_argument("archives", metavar="ARCHIVES.toml", help="what to download, and from where")
    parser.add_argument("corpus_dir", metavar="CORPUS_DIR", help="where archives and what is in them go")
    parser.add_argument("--only", action="append", metavar="NAME", help="this archive; may be repeated (default: all)")
    parser.add_argument("--mirror", metavar="URL", help="a folder's address to try first")
    parser.add_argument("--offline", action="store_true",
                        help="join and unpack what lies in CORPUS_DIR, though it may differ from what is published")
    parser.add_argument("--remove-archives", action="store_true", help="remove each archive once it is unpacked")
    entry.add_output_options(parser)
    return entry.run(parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
