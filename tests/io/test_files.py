import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from speakerkit.errors import ConfigError, DataError, MachineError
from speakerkit.io import files, output
from speakerkit.io.files import Manifest

MANIFEST = Manifest("make-thing", {"gain": 0.5, "names": ("a", "b")}, {"data/wav.scp": "ab" * 32}, "1.0")


def run_python(code, *args, **env):
    """Run code in a fresh process, as a crash test must; returns the finished process."""
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], env=os.environ | env,
                          capture_output=True, text=True)


@pytest.fixture
def ram_folder(tmp_path):
    """A folder in memory where there is one: tests that sync to the disk many times wait for it otherwise."""
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=in_memory or tmp_path) as folder:
        yield Path(folder)


# Runs `work(N)` in a child that fails at its N-th chance, N = 1, 2, 3, ... until a child passes untouched.
FAIL_EVERYWHERE = """
import os, sys
from speakerkit.errors import ConfigError, MachineError
from speakerkit.io import files
folder, action = sys.argv[1:]

def fail_at(number, work):
    child = os.fork()
    if child == 0:
        os.environ["SPEAKERKIT_FAULT"] = f"any:{number}:{action}"
        code = 1
        try:
            work()
            code = 0
        except MachineError as error:
            print("told:", error, flush=True)
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]
"""

# --- open_output ---------------------------------------------------------------------------------------------------


def test_a_file_takes_its_name_only_at_the_end(tmp_path):
    path = tmp_path / "new" / "folder" / "out.bin"
    with files.open_output(path) as stream:
        stream.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert os.listdir(path.parent) == ["out.bin"]


def test_what_is_written_is_sent_to_disk_piece_by_piece(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(output, "_SENT_ON_BYTES", 1 << 20)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, length, __: sent.append((start, length)))
    data = bytes(range(256)) * (10 << 10)
    with files.open_output(tmp_path / "out") as stream:
        stream.write(data)
        stream.write(data[:1000])
        stream.write(data)
    assert (tmp_path / "out").read_bytes() == data + data[:1000] + data
    assert sent and all(length >= 1 << 20 for _, length in sent)
    assert [start for start, _ in sent] == [0, *(start + length for start, length in sent[:-1])]


def test_text_is_utf8_with_plain_line_ends(tmp_path):
    with files.open_output(tmp_path / "说话人.txt", "w") as stream:
        stream.write("说话人 é\r\n")
    assert (tmp_path / "说话人.txt").read_bytes() == "说话人 é\r\n".encode()


def test_permissions_follow_the_umask(tmp_path):
    mask = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a", "x")
    finally:
        os.umask(mask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_keeps_the_old_file(tmp_path, failure):
    path = tmp_path / "out"
    path.write_text("old")
    with pytest.raises(failure), files.open_output(path) as stream:
        stream.write(b"x" * 3_000_000)
        raise failure
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_another_mode_is_a_callers_mistake(tmp_path):
    with pytest.raises(ValueError, match="'ab'"), files.open_output(tmp_path / "out", "ab"):
        pass


def test_a_long_name_is_written(tmp_path):
    path = tmp_path / ("话" * 85)  # 255 bytes, the most that a file name may have
    files.write_text(path, "x")
    assert path.read_text() == "x"


def test_a_link_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "real")
    files.write_text(tmp_path / "link", "x")
    assert (tmp_path / "disk" / "real").read_text() == "x"
    assert (tmp_path / "link").is_symlink()


def test_a_device_is_written_and_not_replaced():
    files.write_text("/dev/null", "x")
    assert not os.path.isfile("/dev/null")


def test_standard_output_as_a_path():
    code = "from speakerkit.io import files; files.write_text('/dev/stdout', 'hello')"
    assert run_python(code).stdout == "hello"


def test_a_named_pipe_is_written_directly(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write_text(tmp_path / "pipe", "hello")
    assert os.read(reader, 100) == b"hello"
    os.close(reader)


@pytest.mark.parametrize("write", [files.check_writable, lambda path: files.write_text(path, "x")])
def test_a_folder_in_the_way(tmp_path, write):
    (tmp_path / "out").mkdir()
    with pytest.raises(MachineError, match=r"out: can't be written: is a folder"):
        write(tmp_path / "out")


@pytest.mark.parametrize("write", [files.check_writable, lambda path: files.write_text(path, "x")])
def test_a_file_where_a_folder_must_be(tmp_path, write):
    (tmp_path / "exp").write_text("")
    with pytest.raises(MachineError, match=r"exp/out: can't be written: "):
        write(tmp_path / "exp" / "out")


def test_check_writable_makes_the_folder_and_leaves_nothing_in_it(tmp_path):
    files.check_writable(tmp_path / "a" / "b" / "out")
    assert os.listdir(tmp_path / "a" / "b") == []


def test_leftovers_of_dead_writers_go(tmp_path):
    host = socket.gethostname()
    dead = run_python("import os; print(os.getpid())").stdout.strip()
    (tmp_path / f".tmp-{host}-{dead}-00-out").write_text("half")
    kept = [f".tmp-{host}-{os.getpid()}-00-out", f".tmp-elsewhere-{dead}-00-out", f".tmp-{host}-x-out"]
    for name in kept:
        (tmp_path / name).write_text("half")
    files.write_text(tmp_path / "out", "whole")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "out"])


# --- crashes and full disks ----------------------------------------------------------------------------------------

WRITE_TWO = FAIL_EVERYWHERE + """
def write_two():
    for name in "ab":
        with files.open_output(f"{folder}/{name}") as stream:
            for _ in range(3):
                stream.write(b"n" * 1_500_000)

for number in range(1, 100):
    for name in "ab":
        open(f"{folder}/{name}", "w").write("old")
    status = fail_at(number, write_two)
    found = [open(f"{folder}/{name}").read() for name in "ab"]
    print(*("old" if text == "old" else "new" if text == "n" * 4_500_000 else "half" for text in found), status)
    if status == 0:
        break
"""


@pytest.mark.parametrize("action, status", [("kill", signal.SIGKILL), ("enospc", 256), ("eio", 256)])
def test_a_failure_at_any_point_leaves_old_or_new(ram_folder, action, status):
    result = run_python(WRITE_TWO, ram_folder, action)
    lines = result.stdout.splitlines()
    told = [line for line in lines if line.startswith("told: ")]
    outcomes = [line for line in lines if not line.startswith("told: ")]
    assert outcomes[-1] == "new new 0"
    assert set(outcomes[:-1]) == {f"old old {status}", f"new old {status}", f"new new {status}"}  # never half
    if action != "kill":
        words = {"enospc": "no space left on device", "eio": "input/output error"}[action]
        assert len(told) == len(outcomes) - 1
        assert all(f"can't be written: {words} (" in line and "GB free there)" in line for line in told)
    assert sorted(os.listdir(ram_folder)) == ["a", "b"]  # each process sweeps what killed ones left


def test_a_file_over_the_limit_is_told(tmp_path):
    (tmp_path / "out").write_text("old")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    code = limit + "import sys; from speakerkit.io import files; files.write_text(sys.argv[1], 'x' * 5000)"
    result = run_python(code, tmp_path / "out")
    assert "MachineError" in result.stderr and "out: can't be written: file too large (" in result.stderr
    assert (tmp_path / "out").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_many_writers_of_one_file_leave_one_whole(tmp_path):
    code = """
import sys
from speakerkit.io import files
for _ in range(5):
    with files.open_output(sys.argv[1]) as stream:
        for _ in range(3):
            stream.write(sys.argv[2].encode() * 1_100_000)
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "out", name]) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    text = (tmp_path / "out").read_bytes()
    assert len(text) == 3_300_000 and len(set(text)) == 1
    assert os.listdir(tmp_path) == ["out"]


def test_a_planted_link_is_not_written_through(tmp_path, monkeypatch):
    (tmp_path / "victim").write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda size: "00")
    (tmp_path / f".tmp-{socket.gethostname()}-{os.getpid()}-00-out").symlink_to(tmp_path / "victim")
    with pytest.raises(MachineError, match="out: can't be written: file exists"):
        files.write_text(tmp_path / "out", "x")
    (tmp_path / "out.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(MachineError, match="is being written by a process that has not said who it is"), \
            files.output_lock(tmp_path / "out"):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


# --- locks ---------------------------------------------------------------------------------------------------------


def test_a_second_writer_is_told_who_writes(tmp_path):
    code = """
import sys
from speakerkit.io import files
with files.output_lock(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""
    first = subprocess.Popen([sys.executable, "-c", code, tmp_path / "emb.ark"], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout.readline() == "locked\n"
    with pytest.raises(MachineError, match=f"emb.ark: is being written by process {first.pid} on "), \
            files.output_lock(tmp_path / "emb.ark"):
        pass
    first.communicate("")
    with files.output_lock(tmp_path / "emb.ark"):
        assert os.listdir(tmp_path) == ["emb.ark.lock"]
    assert os.listdir(tmp_path) == []


def test_the_lock_of_a_killed_writer_is_taken_over(tmp_path, caplog):
    code = """
import os, signal, sys
from speakerkit.io import files
with files.output_lock(sys.argv[1]):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_python(code, tmp_path / "emb.ark").returncode == -signal.SIGKILL
    with caplog.at_level("INFO", "speakerkit"), files.output_lock(tmp_path / "emb.ark"):
        assert "its writer is dead" in caplog.text
    assert os.listdir(tmp_path) == []


def lock_text(**changes):
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": None, "time": "now"} | changes)


def test_a_reused_process_number_is_another_process(tmp_path):
    (tmp_path / "out.lock").write_text(lock_text(started="1"))
    with files.output_lock(tmp_path / "out"):
        pass


@pytest.mark.parametrize("text, who", [
    (lock_text(), f"process {os.getpid()} on"),
    (lock_text(host="node17"), "on node17 since now"),
    ("", "a process that has not said who it is"),
    ('{"pid": []}', "a process that has not said who it is"),
])
def test_a_lock_that_may_live_is_respected(tmp_path, text, who):
    (tmp_path / "out.lock").write_text(text)
    with pytest.raises(MachineError, match=who), files.output_lock(tmp_path / "out"):
        pass
    assert (tmp_path / "out.lock").read_text() == text


def test_an_old_empty_lock_is_dead(tmp_path):
    (tmp_path / "out.lock").write_text("")
    os.utime(tmp_path / "out.lock", (1, 1))
    with files.output_lock(tmp_path / "out"):
        pass


def test_a_lock_is_given_back_after_an_exception(tmp_path):
    with pytest.raises(KeyError), files.output_lock(tmp_path / "out"):
        raise KeyError
    assert os.listdir(tmp_path) == []


# --- JSON and checksums --------------------------------------------------------------------------------------------


def test_json_is_sorted_utf8_without_nan(tmp_path):
    np = pytest.importorskip("numpy")
    files.write_json(tmp_path / "a.json", {"z": np.float32(0.5), "a": tmp_path, "说": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == f'{{\n "a": "{tmp_path}",\n "z": 0.5,\n "说": 1\n}}\n'
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            files.write_json(tmp_path / "b.json", value)
    with pytest.raises(TypeError, match="set can't be written"):
        files.write_json(tmp_path / "b.json", {1})
    assert os.listdir(tmp_path) == ["a.json"]


def test_json_of_a_path_that_is_no_utf8_can_be_read_back(tmp_path):
    files.write_json(tmp_path / "a.json", {"path": "b\udcff.wav"})
    assert b'"b\\udcff.wav"' in (tmp_path / "a.json").read_bytes()
    assert files.json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"path": "b\udcff.wav"}


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # the first example of FIPS 180-2, appendix B.1
    assert files.sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(DataError, match="b: no such file"):
        files.sha256_file(tmp_path / "b")


# --- manifests -----------------------------------------------------------------------------------------------------


def make_output(folder, manifest=MANIFEST):
    paths = folder / "out.ark", folder / "out.scp"
    for path in paths:
        files.write_text(path, path.name)
    files.write_manifest(paths[0], manifest, {"num_utterances": 2}, paths[1:])
    return paths


def test_an_equal_manifest_means_nothing_to_do(tmp_path):
    ark, scp = tmp_path / "out.ark", tmp_path / "out.scp"
    assert files.output_state(ark, MANIFEST, [scp]) == "absent"
    assert files.prepare_output(ark, MANIFEST, False, [scp])
    make_output(tmp_path)
    assert files.output_state(ark, MANIFEST, [scp]) == "same"
    assert not files.prepare_output(ark, MANIFEST, False, [scp])
    manifest = files.read_manifest(ark)
    assert manifest["results"] == {"num_utterances": 2}
    assert manifest["outputs"]["out.scp"] == {"bytes": 7, "sha256": files.sha256_file(scp)}
    assert files.manifest_path(ark).name == "out.ark.manifest.json"
    assert (manifest["command"], manifest["version"], manifest["options"]["names"]) == ("make-thing", "1.0", ["a", "b"])


def test_outputs_may_move_together(tmp_path):
    (tmp_path / "a").mkdir()
    make_output(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert files.output_state(tmp_path / "b" / "out.ark", MANIFEST, [tmp_path / "b" / "out.scp"]) == "same"


@pytest.mark.parametrize("change, told", [
    ({"options": {"gain": 0.25, "names": ["a", "b"]}}, "made with gain 0.5, now 0.25"),
    ({"options": {"gain": 0.5}}, 'made with names ["a", "b"], now null'),
    ({"inputs": {"data/wav.scp": "cd" * 32}}, "data/wav.scp has changed since"),
    ({"inputs": {}}, "made from data/wav.scp too"),
    ({"inputs": {"data/wav.scp": "ab" * 32, "m": "00"}}, "made without m"),
    ({"version": "2.0"}, "made by version 1.0, now 2.0"),
    ({"command": "other"}, "made by command make-thing, now other"),
])
def test_a_difference_is_named(tmp_path, change, told):
    make_output(tmp_path, MANIFEST)
    now = Manifest(**{"command": "make-thing", "options": MANIFEST.options, "inputs": MANIFEST.inputs,
                      "version": "1.0"} | change)
    assert files.output_state(tmp_path / "out.ark", now) == "different"
    with pytest.raises(ConfigError) as caught:
        files.prepare_output(tmp_path / "out.ark", now, False)
    assert told in str(caught.value) and "--overwrite" in str(caught.value)
    assert files.prepare_output(tmp_path / "out.ark", now, True)


@pytest.mark.parametrize("change, told", [
    (lambda path: path.write_text("out.brk"), "is not as it was written"),
    (lambda path: path.write_text("out.arkk"), "has 8 bytes, was written with 7"),
    (lambda path: path.write_text("out.ar"), "has 6 bytes, was written with 7"),
    (lambda path: path.unlink(), "is gone"),
])
@pytest.mark.parametrize("name", ["out.ark", "out.scp"])
def test_changed_bytes_are_noticed(tmp_path, name, change, told):
    ark, scp = make_output(tmp_path)
    change(tmp_path / name)
    with pytest.raises(ConfigError, match=f"{name} {told}"):
        files.prepare_output(ark, MANIFEST, False, [scp])


def test_a_touched_file_is_the_same(tmp_path):
    ark, scp = make_output(tmp_path)
    os.utime(ark, (1, 1))
    assert files.output_state(ark, MANIFEST, [scp]) == "same"


def test_a_file_that_the_manifest_does_not_know(tmp_path):
    ark, _ = make_output(tmp_path)
    with pytest.raises(ConfigError, match="made without .*/bad.tsv"):
        files.prepare_output(ark, MANIFEST, False, [tmp_path / "bad.tsv"])


def test_many_differences_are_counted(tmp_path):
    make_output(tmp_path)
    now = Manifest("other", {}, {}, "2.0")
    with pytest.raises(ConfigError, match="; and 2 more; give --overwrite"):
        files.prepare_output(tmp_path / "out.ark", now, False)


@pytest.mark.parametrize("text, told", [
    (None, "manifest.json is missing"), ("{", "is no manifest that can be read"), ("[]", "wanted a JSON object"),
    ("{}", "'command' is missing or no str"), ("[" * 100_000, "is no manifest that can be read"),
    ("\xff", "is no manifest that can be read"),
])
def test_an_output_without_a_manifest_is_not_replaced(tmp_path, text, told):
    path = tmp_path / "out"
    path.write_text("x")
    if text is not None:
        files.manifest_path(path).write_text(text, encoding="latin-1")
        with pytest.raises(DataError, match="is no manifest"):
            files.read_manifest(path)
    else:
        assert files.read_manifest(path) is None
    assert files.output_state(path, MANIFEST) == "unknown"
    with pytest.raises(ConfigError, match=told):
        files.prepare_output(path, MANIFEST, False)
    assert files.prepare_output(path, MANIFEST, True)


RUN_COMMAND = FAIL_EVERYWHERE + """
def run(place, gain):
    ark, scp = f"{place}/out.ark", f"{place}/out.scp"
    manifest = files.Manifest("make-thing", {"gain": gain}, {}, "1.0")
    if not files.prepare_output(ark, manifest, False, [scp]):
        return "nothing to do"
    for path in (ark, scp):
        files.write_text(path, path)
    files.write_manifest(ark, manifest, {}, [scp])
    return "made"

for number in range(1, 100):
    place = f"{folder}/{number}"
    status = fail_at(number, lambda: run(place, 0.5))
    if status == 0:
        break
    if os.path.exists(f"{place}/out.ark") and not files.read_manifest(f"{place}/out.ark"):
        try:
            run(place, 0.25)
        except ConfigError as error:
            print("other options:", error)
    print("the same options:", run(place, 0.5), *sorted(n for n in os.listdir(place) if not n.startswith(".")))
"""


def test_a_killed_command_goes_on_without_overwrite(ram_folder):
    lines = run_python(RUN_COMMAND, ram_folder, "kill").stdout.splitlines()
    rerun = [line for line in lines if line.startswith("the same options: ")]
    other = [line for line in lines if line.startswith("other options: ")]
    names = "out.ark out.ark.manifest.json out.scp"
    assert set(rerun) == {f"the same options: made {names}", f"the same options: nothing to do {names}"}
    assert len(rerun) > 15
    assert other and all("an unfinished run wrote it; made with gain 0.5, now 0.25; give --overwrite" in line
                         for line in other)
