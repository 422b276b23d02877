"""Downloads from a server of our own that cuts, lies, forgets ranges and moves files."""

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import archive_list
import archive_parts
import download_corpus


@dataclass
class Site:
    """What the server has, and how it behaves."""

    files: dict[str, bytes]
    url: str = ""
    ranges: bool = True
    validator: str | None = '"one"'       # ETag
    total: bool = True                    # whether Content-Length is sent
    cuts: list[int] = field(default_factory=list)       # bytes after which the next answers break off
    codes: list[int] = field(default_factory=list)      # the next answers' codes, in place of files
    requests: list[tuple[str, str | None]] = field(default_factory=list)   # (name, Range) of each


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802 - the name is http.server's
        site, name = self.server.site, self.path.rpartition("/")[2]
        wanted = self.headers.get("Range")
        site.requests.append((name, wanted))
        if site.codes or name not in site.files or "/empty/" in self.path:
            self.send_error(site.codes.pop(0) if site.codes else 404)
            return
        data = site.files[name]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and site.ranges else 0
        if self.headers.get("If-Range", site.validator) != site.validator:
            start = 0
        if start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if site.total:
            self.send_header("Content-Length", str(len(data) - start))
        if site.validator:
            self.send_header("ETag", site.validator)
        self.end_headers()
        self.wfile.write(data[start:site.cuts.pop(0) if site.cuts else None])

    def log_message(self, *args):
        pass


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    monkeypatch.setattr(archive_parts, "FIRST_WAIT_S", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.site = Site({}, f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.site
        server.shutdown()
        thread.join()


def make_archive(members: dict[str, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(output.getvalue(), mtime=0)


NOISE = np.random.default_rng(0).bytes(600_000)   # more than one chunk of a transfer, and gzip can't shrink it
WHOLE = make_archive({"Corpus/data/a.flac": NOISE, "Corpus/spk.lst": b"a\n"})
PARTS = {"corpus.tar.gzaa": WHOLE[:300_000], "corpus.tar.gzab": WHOLE[300_000:310_000],
         "corpus.tar.gzac": WHOLE[310_000:]}
MEMBERS = {"data/a.flac": NOISE, "spk.lst": b"a\n"}


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class Run:
    """A description of the archive and the command on it."""

    def __init__(self, tmp_path: Path, site: Site, in_parts: bool = False, checksums: bool = True,
                 num_bytes: bool = False):
        tmp_path.mkdir(exist_ok=True)
        self.site, self.folder, self.toml = site, tmp_path / "corpora", tmp_path / "archives.toml"
        site.files |= PARTS if in_parts else {"corpus.tar.gz": WHOLE}
        lines = [f'mirrors = ["{site.url}files"]', "[[archive]]", 'name = "corpus.tar.gz"', 'folder = "Corpus"']
        lines += [f'md5 = "{md5(WHOLE)}"', f'sha256 = "{hashlib.sha256(WHOLE).hexdigest()}"'] if checksums else []
        lines += [f"bytes = {len(WHOLE)}"] if num_bytes else []
        if in_parts:
            rows = [f'{{ name = "{name}", md5 = "{md5(data)}" }}' for name, data in PARTS.items()]
            lines.append(f"parts = [{', '.join(rows)}]")
        self.toml.write_text("\n".join(lines) + "\n")

    def __call__(self, *options: str) -> int:
        return download_corpus.main(["--quiet", *options, str(self.toml), str(self.folder)])

    def unpacked(self) -> dict[str, bytes]:
        root = self.folder / "Corpus"
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*")
                if path.is_file() and not path.name.startswith(".")}

    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


DONE = ["Corpus", "corpus.tar.gz", "corpus.tar.gz.download.json"]


@pytest.mark.parametrize("in_parts", [False, True])
def test_downloads_checks_joins_unpacks_and_a_rerun_asks_nothing(tmp_path, site, in_parts):
    run = Run(tmp_path, site, in_parts)
    assert run() == 0
    assert run.unpacked() == MEMBERS
    assert run.left() == DONE
    assert (run.folder / "corpus.tar.gz").read_bytes() == WHOLE
    assert [name for name, _ in site.requests] == (list(PARTS) if in_parts else ["corpus.tar.gz"])
    site.requests.clear()
    assert run() == 0
    assert site.requests == []


@pytest.mark.parametrize("in_parts", [False, True])
def test_cut_connections_go_on_where_they_broke(tmp_path, site, in_parts):
    run = Run(tmp_path, site, in_parts)
    site.cuts += [100_000, 200_000, 7]  # the last one sends nothing of use but a few bytes
    assert run() == 0
    assert run.unpacked() == MEMBERS
    name = next(iter(PARTS)) if in_parts else "corpus.tar.gz"
    assert [wanted for asked, wanted in site.requests if asked == name][:3] == [None, "bytes=100000-", "bytes=200000-"]


def test_a_killed_run_goes_on(tmp_path, site, monkeypatch):
    run = Run(tmp_path, site, in_parts=True)
    site.cuts += [len(PARTS["corpus.tar.gzaa"]), 5000]

    def stop(seconds):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(archive_parts.time, "sleep", stop)
        assert run() == 130
    assert run.left() == ["corpus.tar.gz.part", "corpus.tar.gz.part.json"]
    site.requests.clear()
    assert run() == 0
    assert site.requests == [("corpus.tar.gzab", "bytes=5000-"), ("corpus.tar.gzac", None)]
    assert run.unpacked() == MEMBERS


def test_a_server_without_ranges_sends_it_from_the_start(tmp_path, site):
    run = Run(tmp_path, site)
    site.ranges = False
    site.cuts += [250_000]
    assert run() == 0
    assert run.unpacked() == MEMBERS
    assert len(site.requests) == 2


def test_a_file_that_changed_between_is_fetched_from_its_start(tmp_path, site, monkeypatch):
    run = Run(tmp_path, site, checksums=False)
    site.files["corpus.tar.gz"] = b"x" * len(WHOLE)
    site.cuts += [250_000]

    def change(seconds):
        site.files["corpus.tar.gz"], site.validator = WHOLE, '"two"'

    monkeypatch.setattr(archive_parts.time, "sleep", change)
    assert run() == 0
    assert run.unpacked() == MEMBERS


def test_a_server_without_etag_and_length(tmp_path, site):
    run = Run(tmp_path, site, num_bytes=True)
    site.validator, site.total = None, False
    assert run() == 0
    assert run.unpacked() == MEMBERS


def test_an_end_that_is_no_end_is_seen_by_the_published_size(tmp_path, site, capsys):
    run = Run(tmp_path, site, num_bytes=True, checksums=False)
    site.total, site.cuts = False, [250_000]  # without a length a cut looks like the end
    assert run() == 0
    assert f"has 250,000 bytes; published: {len(WHOLE):,}; dropped, fetched again" in capsys.readouterr().err
    assert run.unpacked() == MEMBERS


def test_a_wrong_part_is_dropped_and_fetched_again(tmp_path, site, monkeypatch, capsys):
    run = Run(tmp_path, site, in_parts=True)
    right = site.files["corpus.tar.gzab"]
    site.files["corpus.tar.gzab"] = right[:-1] + bytes([right[-1] ^ 1])
    digest = md5(site.files["corpus.tar.gzab"])
    assert run() == 1
    assert (f"corpus.tar.gzab: has the MD5 {digest}; published: {md5(right)}; fetched 2 times and dropped"
            in capsys.readouterr().err)
    assert (run.folder / "corpus.tar.gz.part").stat().st_size == len(PARTS["corpus.tar.gzaa"])  # which was right
    site.files["corpus.tar.gzab"] = right
    site.requests.clear()
    assert run() == 0
    assert [name for name, _ in site.requests] == ["corpus.tar.gzab", "corpus.tar.gzac"]
    assert run.unpacked() == MEMBERS


def test_busy_servers_are_asked_again_and_only_so_often(tmp_path, site, capsys):
    run = Run(tmp_path, site)
    site.codes += [503, 429, 500]
    assert run() == 0
    assert len(site.requests) == 4
    other = Run(tmp_path / "other", site)
    site.codes += [503] * 20
    assert other() == 75
    assert "HTTP 503 Service Unavailable; 8 attempts in a row brought nothing" in capsys.readouterr().err


def test_no_server_there(tmp_path, site, capsys):
    run = Run(tmp_path, site)
    run.toml.write_text(run.toml.read_text().replace(site.url, "http://127.0.0.1:9/"))
    assert run() == 75
    assert "onnection refused; 8 attempts in a row brought nothing; what was fetched is kept" in capsys.readouterr().err


def test_mirrors_are_tried_in_turn(tmp_path, site, capsys):
    run = Run(tmp_path, site)
    run.toml.write_text(run.toml.read_text().replace("mirrors = [", 'mirrors = ["ftp://example.org/", '))
    assert run("--mirror", f"{site.url}empty/") == 0
    told = capsys.readouterr().err
    assert told.index("/empty/corpus.tar.gz: HTTP 404 Not Found") < told.index("ftp://example.org/corpus.tar.gz: is no")
    assert run.unpacked() == MEMBERS


@pytest.mark.parametrize("files, options, message", [
    ({}, {}, "corpus.tar.gz: HTTP 404 Not Found"),
    ({"corpus.tar.gz": b"<html>moved</html>"}, {"num_bytes": True}, "offers 18 bytes (text/plain); wanted 600,"),
    ({"corpus.tar.gz": WHOLE[:-1]}, {}, "has the MD5"),
    ({"corpus.tar.gz": b"<html>moved</html>"}, {"checksums": False}, "is a web page of 18 bytes"),
    ({"corpus.tar.gz": WHOLE[:-100]}, {"checksums": False}, "cut or still being written"),
])
def test_what_isnt_the_archive_is_refused(tmp_path, site, capsys, files, options, message):
    run = Run(tmp_path, site, **options)
    site.files.clear()
    site.files |= files
    assert run() == 1
    assert message in capsys.readouterr().err
    assert not (run.folder / "Corpus").exists()


def test_a_hostile_archive_leaves_nothing_outside(tmp_path, site, capsys):
    run = Run(tmp_path, site, checksums=False)
    site.files["corpus.tar.gz"] = make_archive({"../evil": b"x"})
    assert run() == 1
    assert "has '..' in its path" in capsys.readouterr().err
    assert not (tmp_path / "evil").exists()


def test_archives_and_parts_that_are_there_are_used(tmp_path, site, capsys):
    run = Run(tmp_path, site, in_parts=True)
    run.folder.mkdir()
    (run.folder / "corpus.tar.gzaa").write_bytes(PARTS["corpus.tar.gzaa"])
    (run.folder / "corpus.tar.gzab").write_bytes(b"something else")
    assert run() == 0
    assert [name for name, _ in site.requests] == ["corpus.tar.gzab", "corpus.tar.gzac"]
    assert "corpus.tar.gzab: has the MD5" in capsys.readouterr().err
    assert run.unpacked() == MEMBERS

    whole = Run(tmp_path / "whole", site)
    whole.folder.mkdir()
    (whole.folder / "corpus.tar.gz").write_bytes(WHOLE)
    site.requests.clear()
    assert whole() == 0
    assert site.requests == []
    assert whole.unpacked() == MEMBERS


def test_a_damaged_archive_that_is_there_is_told_and_kept(tmp_path, site, capsys):
    run = Run(tmp_path, site)
    run.folder.mkdir()
    (run.folder / "corpus.tar.gz").write_bytes(WHOLE[:1000])
    assert run() == 1
    assert "has the MD5" in (told := capsys.readouterr().err)
    assert f"remove it to download it again: rm {run.folder / 'corpus.tar.gz'}" in told
    assert (run.folder / "corpus.tar.gz").stat().st_size == 1000


def test_archives_can_be_removed_and_a_damaged_tree_comes_back(tmp_path, site):
    run = Run(tmp_path, site)
    assert run("--remove-archives") == 0
    assert run.left() == ["Corpus", "corpus.tar.gz.download.json"]
    site.requests.clear()
    assert run("--remove-archives") == 0
    assert site.requests == []
    (run.folder / "Corpus" / "spk.lst").unlink()
    assert run() == 0
    assert run.unpacked() == MEMBERS


def test_a_tree_from_elsewhere_is_left_alone(tmp_path, site, capsys):
    run = Run(tmp_path, site)
    (run.folder / "Corpus" / "data").mkdir(parents=True)
    assert run() == 0
    assert "Corpus: is there already, from elsewhere; taken as it is" in capsys.readouterr().err
    assert site.requests == []


@pytest.mark.parametrize("names", [["corpus.tar.gz"], list(PARTS), []])
def test_offline_takes_what_is_there(tmp_path, site, names, capsys):
    run = Run(tmp_path, site, in_parts=len(names) == 3)
    run.toml.write_text(run.toml.read_text().replace(md5(WHOLE), md5(b"another archive")))
    run.folder.mkdir()
    for name in names:
        (run.folder / name).write_bytes(WHOLE if len(names) == 1 else PARTS[name])
    assert run("--offline") == 0
    assert site.requests == []
    if names:
        assert f"corpus.tar.gz: has the MD5 {md5(WHOLE)}; published: " in (told := capsys.readouterr().err)
        assert "taken all the same" in told
        assert run.unpacked() == MEMBERS
    else:
        assert run.left() == []
    assert run("--offline") == 0
    assert capsys.readouterr().err == ""
    if names:  # which doesn't make it the published one
        (run.folder / "Corpus" / "spk.lst").unlink()
        assert run() == 1
        assert "remove it to download it again" in capsys.readouterr().err


def test_offline_damage_is_seen_when_it_is_unpacked(tmp_path, site, capsys):
    run = Run(tmp_path, site)
    run.folder.mkdir()
    (run.folder / "corpus.tar.gz").write_bytes(WHOLE[:-1000])
    assert run("--offline") == 1
    assert "corpus.tar.gz: cut or still being written" in capsys.readouterr().err
    assert not (run.folder / "Corpus").exists()


def test_what_isnt_to_be_downloaded_isnt(tmp_path, site):
    run = Run(tmp_path, site)
    run.toml.write_text(run.toml.read_text() + "download = false\n")
    assert run() == 0
    assert site.requests == []
    run.folder.mkdir(exist_ok=True)
    (run.folder / "corpus.tar.gz").write_bytes(WHOLE)
    assert run() == 0
    assert run.unpacked() == MEMBERS and site.requests == []


def test_too_little_disk_space_is_told_before_the_first_byte(tmp_path, site, capsys):
    run = Run(tmp_path, site)
    run.toml.write_text(run.toml.read_text().replace("[[archive]]", "[[archive]]\nbytes = 4000000000000000"))
    assert run() == 75
    assert "corpus.tar.gz needs about 8600000.0 GB" in capsys.readouterr().err
    assert site.requests == []


@pytest.mark.parametrize("old, new, message", [
    ("name = ", "nam = ", "[[archive]] nam is 'corpus.tar.gz'; known are name, url"),
    ('"corpus.tar.gz"', '"../corpus.tar.gz"', "name is '../corpus.tar.gz'; wanted a name without folders"),
    ('"Corpus"', '"/tmp"', "folder is '/tmp'; wanted a name without folders"),
    ("mirrors", "mirror", "no option 'mirror' is known"),
    ("[[archive]]", "[[archives]]", "no option 'archives' is known"),
    ('md5 = "', 'bytes = "', "[[archive]] bytes is '"),
    ("mirrors = [", "mirrors = []\n#", "'corpus.tar.gz' has no url, and there are no mirrors"),
    ("[[archive]]", "[[archive", "archives.toml: "),
])
def test_faulty_descriptions(tmp_path, site, capsys, old, new, message):
    run = Run(tmp_path, site)
    run.toml.write_text(run.toml.read_text().replace(old, new))
    assert run() == 2
    assert message in capsys.readouterr().err
    assert site.requests == []


def test_one_of_several_archives(tmp_path, site, capsys):
    run = Run(tmp_path, site)
    assert run("--only", "other.tar.gz") == 2
    assert "--only is 'other.tar.gz'" in capsys.readouterr().err
    assert run("--only", "corpus.tar.gz", "--json", str(tmp_path / "report.json")) == 0
    assert json.loads((tmp_path / "report.json").read_text())["num_archives"] == 1


def test_the_recipes_descriptions_can_be_read():
    root = Path(__file__).parents[2] / "recipes"
    listed = {path.parent.name: archive_list.read_archives(str(path)) for path in root.glob("*/archives.toml")}
    assert [archive.name for archive in listed["cnceleb"]] == [
        "cn-celeb_v2.tar.gz", "cn-celeb2_v2.tar.gz", "cn-celeb.tgz"]
    assert [part.name[-2:] for part in listed["cnceleb"][1].parts] == ["aa", "ab", "ac"]
