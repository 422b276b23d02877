"""Published models by name, from a server on this machine that answers as the hubs do, and from the cache."""

import contextlib
import dataclasses
import hashlib
import http.server
import io
import json
import random
import sys
import threading
import time

import pytest
import torch

from speakerkit import __version__
from speakerkit.cli import model_info
from speakerkit.errors import ConfigError, DataError, MachineError
from speakerkit.models import model_file
from speakerkit.models.find import find_model
from speakerkit.models.published import catalogue, fetch
from speakerkit.models.published.catalogue import CATALOGUE, HUGGINGFACE, MODELSCOPE, look_up

PLACE = {MODELSCOPE: "/api/v1/models/{0}/repo?Revision=master&FilePath={1}", HUGGINGFACE: "/{0}/resolve/main/{1}"}


class Hub(http.server.ThreadingHTTPServer):
    """Files by their place; so many transfers break off half way as `cuts` says, and it `dies` with the first."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.gets, self.cuts, self.dies, self.is_dead = {}, [], 0, False, False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        server, data = self.server, self.server.files.get(self.path)
        if server.is_dead:
            self.close_connection = True
            return
        if data is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")  # as Hugging Face says it
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        for name, value in (("Content-Length", len(data) - first), ("ETag", f'"{hashlib.sha256(data).hexdigest()}"'),
                            ("X-Repo-Commit", "a" * 40), ("Accept-Ranges", "bytes")):
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            server.gets.append((self.path, first))
            is_cut = server.cuts > 0
            server.cuts -= is_cut
            with contextlib.suppress(OSError):
                self.wfile.write(data[first:first + (len(data) - first) // 2] if is_cut else data[first:])
            self.close_connection = self.close_connection or is_cut
            server.is_dead = is_cut and server.dies

    do_GET = do_HEAD = answer  # noqa: N815 - the names that the server looks for

    def log_message(self, *arguments):
        """Nothing: tests read standard error."""


def never_wait(monkeypatch):
    """The clients wait before they try again."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr("modelscope_hub._download_control._DownloadControl.sleep", lambda self, seconds: None)


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.url)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    never_wait(monkeypatch)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "MODELSCOPE_CACHE", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return tmp_path / "xdg_cache_home" / "speakerkit" / "published"


@pytest.fixture
def checkpoint() -> bytes:
    """What stands for a checkpoint where none is converted."""
    return random.Random(1).randbytes(200_000)


def list_only(monkeypatch, hub, checkpoint):
    """A catalogue of one entry, whose checkpoint this is."""
    made = dataclasses.replace(CATALOGUE[0], hub=hub, num_bytes=len(checkpoint),
                               sha256=hashlib.sha256(checkpoint).hexdigest())
    monkeypatch.setattr(catalogue, "CATALOGUE", (made,))
    return made


@pytest.fixture(params=[MODELSCOPE, HUGGINGFACE])
def entry(request, checkpoint, monkeypatch):
    """An entry of each hub, made a model by taking its bytes."""
    monkeypatch.setattr(fetch, "_convert", lambda entry, checkpoint, model: model.write_bytes(checkpoint.read_bytes()))
    return list_only(monkeypatch, request.param, checkpoint)


def serve(hub, entry, data):
    hub.files[PLACE[entry.hub].format(entry.repository, entry.file)] = data


def is_nothing_kept(home, entry):
    folder = home / entry.name
    return not folder.exists() or not [path for path in folder.iterdir() if path.suffix != ".lock"]


def test_a_name_gives_a_model(hub, monkeypatch, original_weights):
    stream = io.BytesIO()
    torch.save(original_weights("3dspeaker_campplus"), stream)
    entry = list_only(monkeypatch, MODELSCOPE, stream.getvalue())
    serve(hub, entry, stream.getvalue())
    model = model_file.load_model(find_model(entry.name))
    assert (model.info.name, model.info.licence, model.info.embedding_dim) == (entry.name, "Apache-2.0", 192)
    assert model.info.training_data == entry.training_data
    assert model.info.training["checkpoint_sha256"] == entry.sha256


def test_fetched_and_converted_once(hub, entry, checkpoint, home):
    serve(hub, entry, checkpoint)
    path = find_model(entry.name)
    assert path == home / entry.name / f"{entry.name}-{__version__}.safetensors"
    assert path.read_bytes() == checkpoint
    assert sorted(place.name for place in path.parent.iterdir()) == sorted([entry.file, path.name])
    assert len(hub.gets) == 1
    for name in (entry.name, entry.repository, entry.repository.replace("iic/", "damo/")):
        assert find_model(name) == path
    assert len(hub.gets) == 1
    path.unlink()  # as after an update of speakerkit
    assert find_model(entry.name) == path
    assert len(hub.gets) == 1


def test_a_cut_transfer_goes_on(hub, entry, checkpoint):
    serve(hub, entry, checkpoint)
    hub.cuts = 1
    assert find_model(entry.name).read_bytes() == checkpoint
    assert hub.gets[0][1] == 0 and len(hub.gets) > 1


def test_a_cut_transfer_that_can_not_go_on(hub, entry, checkpoint, home):
    serve(hub, entry, checkpoint)
    hub.cuts, hub.dies = 1, True
    with pytest.raises(MachineError, match=f"{entry.name}: can't be fetched from {entry.hub} .*; run again, or put "
                                           f"{entry.file} of {entry.repository} at {home}"):
        find_model(entry.name)
    assert is_nothing_kept(home, entry)


def test_another_file_than_the_published_one(hub, entry, checkpoint, home):
    other = bytearray(checkpoint)
    other[-100] ^= 1
    sent = f"what {entry.hub} sent as {entry.name}"
    for data, message in (
            (bytes(other), f"{sent}: has SHA-256 .*; {entry.file} of {entry.repository} has {entry.sha256}"),
            (checkpoint[:-5], f"{sent}: has {len(checkpoint) - 5:,} bytes; .* has {len(checkpoint):,}"),
            (b"<html>sign in</html>", f"{sent}: has 20 bytes")):
        serve(hub, entry, data)
        with pytest.raises(DataError, match=message):
            find_model(entry.name)
        assert is_nothing_kept(home, entry)


def test_a_hub_that_does_not_have_it(hub, entry, home):
    with pytest.raises(DataError, match=f"{entry.hub}: {entry.repository}: has no {entry.file} that can be fetched"):
        find_model(entry.name)
    assert is_nothing_kept(home, entry)


def test_without_a_network_it_says_which_file_to_put_where(entry, checkpoint, home, monkeypatch):
    for name in ("MODELSCOPE_ENDPOINT", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens at the discard port
    never_wait(monkeypatch)
    place = home / entry.name / entry.file
    with pytest.raises(MachineError) as caught:
        find_model(entry.name)
    assert str(caught.value).endswith(f"run again, or put {entry.file} of {entry.repository} at {place}")
    assert "\n" not in str(caught.value)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(checkpoint)
    assert find_model(entry.name).read_bytes() == checkpoint


def test_a_wrong_file_put_there_by_hand_is_told_and_left(entry, home):
    place = home / entry.name / entry.file
    place.parent.mkdir(parents=True)
    place.write_bytes(b"hello")
    with pytest.raises(DataError, match=f"{place}: has 5 bytes; {entry.file} of {entry.repository} has"):
        find_model(entry.name)
    assert place.read_bytes() == b"hello"


@pytest.mark.parametrize("entry", [MODELSCOPE, HUGGINGFACE], indirect=True)
def test_no_client_library(entry, home, monkeypatch):
    client = fetch.CLIENTS[entry.hub]
    monkeypatch.setitem(sys.modules, client, None)
    with pytest.raises(ConfigError) as caught:
        find_model(entry.name)
    assert str(caught.value) == (
        f"{entry.name}: isn't in the cache, and {client.replace('_', '-')} isn't installed: pip install "
        f"'speakerkit[hub]', or put {entry.file} of {entry.repository} at {home / entry.name / entry.file}")


def test_a_cache_that_can_not_be_written(entry, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(MachineError, match="can't be written"):
        find_model(entry.name)


@pytest.mark.parametrize("failure, code, message", [
    ("missing", 1, "has no campplus_cn_en_common.pt that can be fetched"),
    ("wrong", 1, "has 5 bytes; campplus_cn_en_common.pt of"),
    ("client", 2, "isn't installed: pip install 'speakerkit[hub]'"),
    ("network", 75, "can't be fetched from ModelScope"),
])
@pytest.mark.parametrize("entry", [MODELSCOPE], indirect=True)
def test_a_command_tells_it_in_one_line(hub, entry, monkeypatch, capsys, failure, code, message):
    if failure == "wrong":
        serve(hub, entry, b"hello")
    if failure == "client":
        monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    if failure == "network":
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    assert model_info.main([entry.name]) == code
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert captured.out == "" and last.startswith("model-info: ") and message in last
    assert len(captured.err.splitlines()) <= 2  # that it fetches, and why it didn't come


def test_the_catalogue():
    names = [entry.name for entry in CATALOGUE]
    assert len(names) == len(set(names)) == len({entry.repository for entry in CATALOGUE})
    for entry in CATALOGUE:
        assert entry.hub in fetch.CLIENTS and entry.licence and entry.training_data
        assert entry.source in ("3dspeaker", "wespeaker", "speechbrain")
        assert entry.sha256 is None or (len(entry.sha256) == 64 and entry.num_bytes)
        assert look_up(entry.name) is look_up(entry.repository) is entry
    assert look_up("damo/speech_campplus_sv_zh-cn_16k-common").name == "campplus-cn"
    assert look_up("nobody/nothing") is None
    with pytest.raises(DataError, match=r"nobody/nothing: no such model \(--model\); want .*model-info --published"):
        find_model("nobody/nothing")


def test_model_info_lists_it(capsys, tmp_path):
    assert model_info.main(["--published", "--json", str(tmp_path / "j")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [entry.name for entry in CATALOGUE]
    assert "ModelScope: iic/speech_campplus_sv_zh_en_16k-common_advanced" in lines[0]
    assert [row["name"] for row in json.loads((tmp_path / "j").read_text())["published"]] == [
        entry.name for entry in CATALOGUE]
    assert model_info.main(["--published", "campplus-cn"]) == 2
    assert "--published takes no model" in capsys.readouterr().err
