"""Unpacking: real archives whole and once; nothing of a hostile one appears, and the message names it."""

import gzip
import io
import os
import random
import re
import shutil
import stat
import tarfile

import pytest

from speakerkit.errors import ConfigError, DataError, MachineError
from speakerkit.io.archives import UnpackLimits, unpack_archive, unpack_once
from speakerkit.io.files import sha256_file

BODY = b"payload\n"


def member(name, data=BODY, **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data) if fields.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tar_bytes(*members, form=tarfile.USTAR_FORMAT):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form, errors="surrogateescape") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def write_tar(path, *members, form=tarfile.USTAR_FORMAT, gz=True):
    data = tar_bytes(*members, form=form)
    path.write_bytes(gzip.compress(data, mtime=0) if gz else data)
    return path


def unpack(archive, folder, **options):
    return unpack_archive(archive, folder, sha256_file(archive), **options)


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*")
            if p.is_file() and p.name != ".unpacked.json"}


GOOD = (member("eval", type=tarfile.DIRTYPE), member("eval/enroll/a.wav", b"A" * 700), member("eval/test/b.wav", b""),
        member("eval/lists/说话人.lst", b"x\n"))
UNPACKED = {"enroll/a.wav": b"A" * 700, "test/b.wav": b"", "lists/说话人.lst": b"x\n"}


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_unpacks_what_tar_programs_write(tmp_path, form, gz):
    archive = write_tar(tmp_path / "x.tar.gz", *GOOD, form=form, gz=gz)
    unpacked = unpack(archive, tmp_path / "out" / "eval")
    assert tree(tmp_path / "out" / "eval") == UNPACKED
    assert (unpacked.num_files, unpacked.num_bytes) == (3, 702)
    assert os.listdir(tmp_path / "out") == ["eval"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_paths_of_every_format(tmp_path, form):
    name = f"eval/{'d' * 90}/{'f' * 90}.wav"
    archive = write_tar(tmp_path / "x.tar.gz", member(name), member("eval/after"), form=form)
    unpack(archive, tmp_path / "eval")
    assert set(tree(tmp_path / "eval")) == {name.removeprefix("eval/"), "after"}


def test_names_that_begin_with_a_dot_and_several_top_folders(tmp_path):
    archive = write_tar(tmp_path / "x.tar", member("./", type=tarfile.DIRTYPE), member("./enroll/a.wav"),
                        member(".//test/b.wav"), gz=False)
    unpack(archive, tmp_path / "eval")
    assert set(tree(tmp_path / "eval")) == {"enroll/a.wav", "test/b.wav"}


def test_times_are_kept_and_modes_are_not(tmp_path):  # H6
    archive = write_tar(tmp_path / "x.tar.gz", member("a", mode=0o6777, mtime=1_234_567), member("b", mode=0o000))
    unpack(archive, tmp_path / "eval")
    assert [(tmp_path / "eval" / name).stat().st_mtime for name in "ab"] == [1_234_567, 0]
    for name in "ab":
        assert stat.S_IMODE((tmp_path / "eval" / name).stat().st_mode) & ~0o044 == 0o600


def gnu_long(name):
    """A GNU archive whose long name is any bytes, which tarfile would not write."""
    return tar_bytes(member("././@LongLink", name + b"\0", type=tarfile.GNUTYPE_LONGNAME, size=len(name) + 1),
                     member("short"))


HOSTILE = {
    "H1 up": (tar_bytes(member("../evil")), r"member '\.\./evil' has '\.\.' in its path"),
    "H1 up in the middle": (tar_bytes(member("eval/x/../../../evil")), "has '..' in its path"),
    "H1 up in a long name": (gnu_long(b"a/" * 60 + b"../" * 70 + b"evil"), "has '..' in its path"),
    "H1 up in a pax path": (tar_bytes(member("ok", pax_headers={"path": "../evil"}), form=tarfile.PAX_FORMAT),
                            "has '..' in its path"),
    "H2 absolute": (tar_bytes(member("/abs/evil")), "member '/abs/evil' has an absolute path"),
    "H3 symlink out, then a file through it": (
        tar_bytes(member("link", type=tarfile.SYMTYPE, linkname=".."), member("link/evil")),
        "'link' is a symbolic link; only regular files are unpacked"),
    "H4 hard link": (tar_bytes(member("passwd", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
                     "'passwd' is a hard link"),
    "H5 character device": (tar_bytes(member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)),
                            "'null' is a character device"),
    "H5 block device": (tar_bytes(member("disk", type=tarfile.BLKTYPE, devmajor=8)), "'disk' is a block device"),
    "H5 pipe": (tar_bytes(member("pipe", type=tarfile.FIFOTYPE)), "'pipe' is a named pipe"),
    "sparse": (tar_bytes(member("holes", type=tarfile.GNUTYPE_SPARSE)), "'holes' is a sparse file"),
    "unknown kind": (tar_bytes(member("odd", type=b"Q")), "of the unknown kind b'Q'"),
    "H7 newline": (tar_bytes(member("a\nb")), r"member 'a\\nb' has a name with a control"),
    "H7 not UTF-8": (tar_bytes(member("a\udcff.wav")), r"member 'a\\xff.wav' has a name that is not UTF-8"),
    "H7 300 bytes": (gnu_long(b"n" * 300), "has a name longer than 255 bytes"),
    "H7 backslash": (tar_bytes(member("..\\evil")), "or a backslash"),
    "H7 right-to-left": (tar_bytes(member("a\u202egpj.wav")), "or invisible character"),
    "deep folders": (gnu_long(b"d/" * 40 + b"f"), "has a path of 41 folders; at most 32 are taken"),
    "no name": (tar_bytes(member("./.")), "names no file"),
    "H8 twice": (tar_bytes(member("a"), member("./a")), "'a' is there twice"),
    "H8 file and folder": (tar_bytes(member("a"), member("a/b")), "'a/b' is a file and a folder in one"),
    "H8 folder and file": (tar_bytes(member("a/b"), member("a")), "'a' is a file and a folder in one"),
    "our own note": (tar_bytes(member("eval/.unpacked.json", b"{}")), "is there twice"),
    "H10 cut at a member": (tar_bytes(*GOOD)[:-10240], "cut or still being written: it ends"),
    "H12 negative size": (tar_bytes(member("a"))[:124] + b"\xff" * 12 + tar_bytes(member("a"))[136:],
                          "is no tar archive"),
    "empty tar": (tar_bytes(), "holds no files"),
    "only folders": (tar_bytes(GOOD[0]), "holds no files"),
    "data behind the end": (tar_bytes(member("a")) + b"x", "damaged: data follow the end mark"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_leave_nothing(tmp_path, name):
    data, message = HOSTILE[name]
    work = tmp_path / "a" / "b" / "work"
    work.mkdir(parents=True)
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(gzip.compress(data, mtime=0))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError) as caught:
        unpack(archive, work / "eval")
    assert str(archive) in str(caught.value)
    assert re.search(message, str(caught.value)) or message in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert not os.path.exists("/abs/evil")


def test_a_cut_anywhere_is_told(tmp_path):  # H9, H10: without the last bytes gzip's checksum is missing
    whole = write_tar(tmp_path / "whole.tar.gz", member("eval/a", random.Random(1).randbytes(900)), member("eval/b"))
    data = whole.read_bytes()
    for size in (*range(0, len(data) - 10, 41), *range(len(data) - 10, len(data))):
        cut = tmp_path / "cut.tar.gz"
        cut.write_bytes(data[:size])
        with pytest.raises(DataError, match="cut|damaged|empty|no tar archive"):
            unpack(cut, tmp_path / "eval")
        assert sorted(os.listdir(tmp_path)) == ["cut.tar.gz", "whole.tar.gz"]


def test_a_cut_plain_tar_is_told(tmp_path):  # H10: tarfile takes a cut at a member or in a header for the end
    data = tar_bytes(*GOOD)[:-10240 + 1024]
    end = data.rstrip(b"\0")
    for size in range(1, 512 * -(-len(end) // 512) + 512, 128):
        cut = tmp_path / "cut.tar"
        cut.write_bytes(data[:size])
        with pytest.raises(DataError, match="cut|no tar archive"):
            unpack(cut, tmp_path / "eval")


def test_a_flipped_byte_is_told_or_harmless(tmp_path):
    rng = random.Random(2)
    data = write_tar(tmp_path / "whole.tar.gz", *GOOD).read_bytes()
    for place in rng.sample(range(len(data)), 40):
        broken = tmp_path / "broken.tar.gz"
        broken.write_bytes(data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1:])
        try:
            unpack(broken, tmp_path / "eval")
        except DataError:
            assert not (tmp_path / "eval").exists()
        else:
            assert tree(tmp_path / "eval") == UNPACKED  # e.g. the time in gzip's header
            shutil.rmtree(tmp_path / "eval")


def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path):
    data = bytearray(tar_bytes(member("a"), member("b")))
    data[1024 + 3] ^= 1
    archive = tmp_path / "x.tar"
    archive.write_bytes(data)
    with pytest.raises(DataError, match="damaged after 'a', file 1: no header follows"):
        unpack(archive, tmp_path / "eval")


def test_pax_sizes_and_globals(tmp_path):
    record = b"22 size=99999999999999\n"
    data = tar_bytes(member("x", record, type=tarfile.XHDTYPE, size=len(record)), member("a"))
    (tmp_path / "size.tar").write_bytes(data)
    with pytest.raises(DataError, match="pax header that can't be read"):  # its length is 23
        unpack(tmp_path / "size.tar", tmp_path / "eval")
    (tmp_path / "size.tar").write_bytes(data.replace(b"22 size=99999999999999\n", b"23 size=99999999999999\n"))
    with pytest.raises(DataError, match="99,999,999,999,999 bytes; at most"):
        unpack(tmp_path / "size.tar", tmp_path / "eval")
    sparse = b"22 GNU.sparse.major=1\n"
    (tmp_path / "sparse.tar").write_bytes(tar_bytes(member("x", sparse, type=tarfile.XHDTYPE, size=22), member("a")))
    with pytest.raises(DataError, match="a sparse file"):
        unpack(tmp_path / "sparse.tar", tmp_path / "eval")


@pytest.mark.parametrize("limits, message", [
    (UnpackLimits(num_files=2), "holds more than 2 files"),
    (UnpackLimits(num_files=0), "holds more than 0 folders"),
    (UnpackLimits(file_bytes=699), "'eval/enroll/a.wav' has 700 bytes; at most 699 are taken"),
    (UnpackLimits(total_bytes=2000), "unpacks to more than 2,000 bytes"),
    (UnpackLimits(ratio=5, ratio_from_bytes=4000), "times its size .*; at most 5 is taken"),
])
def test_limits(tmp_path, limits, message):  # H11
    archive = write_tar(tmp_path / "x.tar.gz", *GOOD)
    with pytest.raises(DataError, match=message):
        unpack(archive, tmp_path / "eval", limits=limits)
    assert os.listdir(tmp_path) == ["x.tar.gz"]


def test_a_bomb_ends_at_the_ratio(tmp_path):  # H11: 8 MB of zeros in 8 kB
    archive = write_tar(tmp_path / "x.tar.gz", member("zeros", bytes(8 << 20)))
    with pytest.raises(DataError, match=r"unpacks to \d+ times its size in 'zeros'; at most 100 is taken"):
        unpack(archive, tmp_path / "eval", limits=UnpackLimits(ratio_from_bytes=1 << 20))


def test_a_bomb_behind_the_end_mark(tmp_path):
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(gzip.compress(tar_bytes(member("a")) + bytes(1 << 20), mtime=0))
    with pytest.raises(DataError, match="more than 500,000 bytes"):
        unpack(archive, tmp_path / "eval", limits=UnpackLimits(total_bytes=500_000))


@pytest.mark.parametrize("data, message", [
    (b"", "is empty"),
    (b"\n<!DOCTYPE html><title>404</title>", "is a web page of 34 bytes"),  # H13
    (b"<html>" + b" " * 600, "is a web page of 606 bytes"),
    (b"PK\x03\x04" + bytes(600), "is a zip file; want a .tar.gz or .tar"),
    (b"hello", "is no tar archive: 5 bytes"),
    (b"RIFF" + b"x" * 2000, "is no tar archive"),
    (gzip.compress(b"some text, no tar"), "cut or still being written"),
    (gzip.compress(b"some text, no tar" * 100), "is no tar archive"),
])
def test_other_files(tmp_path, data, message):
    (tmp_path / "x.tar.gz").write_bytes(data)
    with pytest.raises(DataError, match=message):
        unpack(tmp_path / "x.tar.gz", tmp_path / "eval")


def test_an_archive_that_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "pipe", "is a pipe"), ("/dev/zero", "is a device")):
        with pytest.raises(DataError, match=f"{message}; want a regular file"):
            unpack_once(path, tmp_path / "eval")


def test_an_archive_that_changes_while_it_is_read(tmp_path):
    archive = write_tar(tmp_path / "x.tar.gz", *GOOD)

    with pytest.raises(DataError, match="changed while it was read: still being written"):
        unpack_once(archive, tmp_path / "eval", progress=lambda num_bytes: os.utime(archive, (num_bytes, num_bytes)))
    assert os.listdir(tmp_path) == ["x.tar.gz"]


@pytest.mark.parametrize("point", ["unpack:1", "unpack:3", "publish-folder:1", "replace-folder:1"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, point):
    folder, archive = tmp_path / "eval", write_tar(tmp_path / "x.tar.gz", *GOOD)
    unpack_once(write_tar(tmp_path / "old.tar.gz", member("old")), folder)
    monkeypatch.setenv("SPEAKERKIT_FAULT", f"{point}:enospc")
    monkeypatch.setattr("speakerkit.io.output._fault_counts", {})
    with pytest.raises(MachineError, match="eval: can't be written: No space left on device"):
        unpack_once(archive, folder, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["eval", "old.tar.gz", "x.tar.gz"]
    assert tree(folder) == {"old": BODY}
    unpack_once(archive, folder, overwrite=True)
    assert tree(folder) == UNPACKED


def test_too_little_space_is_said_before_the_work(tmp_path, monkeypatch):
    archive = write_tar(tmp_path / "x.tar.gz", *GOOD)
    monkeypatch.setattr("shutil.disk_usage", lambda place: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(MachineError, match=r"0.00 GB are free there; unpacking takes 0.00 GB or more"):
        unpack_once(archive, tmp_path / "eval", progress=lambda num_bytes: pytest.fail("began to unpack"))
    assert os.listdir(tmp_path) == ["x.tar.gz"]


def test_missing_archive(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        unpack_once(tmp_path / "none.tar.gz", tmp_path / "eval")


def test_once(tmp_path):
    archive, folder, seen = write_tar(tmp_path / "x.tar.gz", *GOOD), tmp_path / "eval", []
    first = unpack_once(archive, folder, progress=seen.append)
    assert seen[-1] == archive.stat().st_size
    time = (folder / "enroll" / "a.wav").stat().st_ctime_ns
    assert unpack_once(archive, folder, progress=lambda num_bytes: pytest.fail("unpacked again")) == first
    (folder / "enroll" / "a.wav").unlink()
    assert unpack_once(archive, folder) == first
    assert (folder / "enroll" / "a.wav").stat().st_ctime_ns > time
    assert tree(folder) == UNPACKED


def test_another_archive_needs_overwrite(tmp_path):
    folder = tmp_path / "eval"
    unpack_once(write_tar(tmp_path / "x.tar.gz", *GOOD), folder)
    other = write_tar(tmp_path / "y.tar.gz", member("eval/new"))
    with pytest.raises(ConfigError, match="holds another archive .*--overwrite"):
        unpack_once(other, folder)
    unpack_once(other, folder, overwrite=True)
    assert tree(folder) == {"new": BODY}
    assert sorted(os.listdir(tmp_path)) == ["eval", "x.tar.gz", "y.tar.gz"]


def test_a_users_folder_is_never_replaced(tmp_path):
    (tmp_path / "eval").mkdir()
    with pytest.raises(ConfigError, match="was not unpacked from an archive"):
        unpack_once(write_tar(tmp_path / "x.tar.gz", *GOOD), tmp_path / "eval", overwrite=True)


def test_leftovers_of_killed_processes_go(tmp_path):
    import socket

    dead = tmp_path / f".tmp-{socket.gethostname()}-{2 ** 22 + 1}-00000000-eval"
    alive = tmp_path / f".tmp-{socket.gethostname()}-{os.getpid()}-00000000-eval"
    for folder in (dead, alive):
        (folder / "enroll").mkdir(parents=True)
    unpack_once(write_tar(tmp_path / "x.tar.gz", *GOOD), tmp_path / "eval")
    assert not dead.exists()
    assert alive.exists()
