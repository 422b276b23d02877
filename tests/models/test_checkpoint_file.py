"""Checkpoints of strangers: what is read, what is refused, and that nothing in them is run."""

import io
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.errors import DataError
from speakerkit.models.published.checkpoint_file import read_checkpoint

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "bn.num_batches_tracked": torch.full((300,), 0.5)}


def saved(value, **options) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


@pytest.fixture
def read(tmp_path):
    def write_and_read(data: bytes):
        path = tmp_path / "x.pt"
        path.write_bytes(data)
        return read_checkpoint(path)

    return write_and_read


@pytest.mark.parametrize("data", [
    saved(STATE),
    saved(OrderedDict(STATE)),
    saved(STATE, _use_new_zipfile_serialization=False),
    saved({"epoch": 3, "state_dict": STATE, "optimizer": {"lr": 0.1}}),
    saved({"model": {"state_dict": {f"module.{k}": v for k, v in STATE.items()}}}),
    safetensors.torch.save(STATE),
], ids=["dict", "ordered", "legacy", "nested", "module", "safetensors"])
def test_every_form(read, data):
    tensors = read(data)
    assert list(tensors) == ["conv.weight"]
    torch.testing.assert_close(tensors["conv.weight"], STATE["conv.weight"])


class Evil:
    """Unpickled by an ordinary reader, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_refused_and_not_run(read, tmp_path, legacy):
    mark = tmp_path / "it-ran"
    data = saved(STATE | {"x": Evil(mark)}, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(DataError, match="holds '(posix|nt).system', not weights alone; refused, nothing of it was run"):
        read(data)
    with pytest.raises(DataError, match=r"x\.pt: "):
        read(pickle.dumps(Evil(mark)))
    assert not mark.exists()


def compressed_archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(1 << 24))
    return stream.getvalue()


def other_archive(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, "hello")
    return stream.getvalue()


@pytest.mark.parametrize("data, message", [
    (b"", "is empty"),
    (b"101 hello", r"is no checkpoint \(it starts with b'101 hello'\)"),
    (b"<html>", "is no checkpoint"),
    (compressed_archive(), "holds compressed members, which torch.save never writes: refused"),
    (other_archive("word/document.xml"), "is a zip archive but no checkpoint"),
    (other_archive("archive/code/x.py"), "is a TorchScript program, not weights"),
    (saved([torch.ones(2)]), "holds no state dictionary but a list"),
    (saved({"a": {"b": 1}}), "holds no state dictionary but nothing"),
    (saved({"bn.num_batches_tracked": torch.ones(1)}), "holds no weights"),
    (saved(STATE | {"epoch": 3}), "'epoch' is a int; want a name -> tensor"),
    (saved({1: torch.ones(2)}), "a key of its state dictionary is a int; want a name"),
    (saved({"a": torch.empty(2, device="meta")}), r"'a' has a shape and no values \(it is on the meta device\)"),
    (saved({"a\n\x1b[31m": torch.ones(2, dtype=torch.int32)}), r"'a\\n\\x1b\[31m' is torch.int32"),
    (saved({10**5000: torch.ones(2)}), "truncated or damaged: Unsupported operand 139$"),
    ((5 << 20).to_bytes(8, "little") + b"{}", "has 5,242,880 bytes of names and shapes; want at most 4,194,304"),
    (saved({"a": torch.ones(2, dtype=torch.int32)}), "'a' is torch.int32, torch.strided; want dense floating-point"),
    (saved({"a": torch.eye(3).to_sparse()}), "'a' is torch.float32, torch.sparse_coo"),
    (saved({"a": torch.ones(1).expand(10**9)}), r"'a' claims \[1000000000\], more values than are stored"),
    (saved({"a": np.float64(3.0), "b": torch.ones(2)}), "holds 'numpy.*', not weights alone"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_refused(read, data, message):
    with pytest.raises(DataError, match=message):
        read(data)


def int64(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def archive_of(pickled: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3\n")
    return stream.getvalue()


def legacy_claiming(num_values: int) -> bytes:
    """torch's older format, whose reader makes room for what is claimed before it reads on."""
    stream = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True,
                                                 "type_sizes": {"short": 2, "int": 4, "long": 4}}):
        pickle.dump(value, stream, protocol=2)
    stream.write(b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n"
                 b"FloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + int64(num_values) + b"NtQK\x00(" +
                 int64(num_values) + b"t(K\x01t\x89ccollections\nOrderedDict\n)RtRs.")
    pickle.dump(["0"], stream, protocol=2)
    return stream.getvalue() + struct.pack("<q", num_values) + bytes(64)


# {"a": bytearray(bytearray(6 GB))}: the inner one is a promise of zeros, its copy takes them.
BYTEARRAYS = (b"\x80\x02}X\x01\x00\x00\x00acbuiltins\nbytearray\ncbuiltins\nbytearray\n(" + int64(6 << 30) +
              b"tR\x85Rs.")
SCRIPT = """\
import resource, sys
from speakerkit.errors import DataError
from speakerkit.models.published.checkpoint_file import read_checkpoint
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        read_checkpoint(path)
    except DataError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, resource.getrlimit(resource.RLIMIT_AS))
"""


def test_small_files_that_want_much_memory(tmp_path):
    """A process of its own, whose memory at its peak is measured."""
    assert read_checkpoint_bytes(tmp_path, legacy_claiming(16))["a"].shape == (16,)  # the form itself is one
    names = {"bytearrays.pt": archive_of(BYTEARRAYS), "legacy.pt": legacy_claiming(1 << 40),
             "tensor.pt": archive_of(b"\x80\x02}X\x01\x00\x00\x00actorch\nTensor\n(" + int64(1 << 40) + b"tRs.")}
    for name, data in names.items():
        (tmp_path / name).write_bytes(data)
    result = subprocess.run([sys.executable, "-c", SCRIPT, *(tmp_path / name for name in names)],
                            capture_output=True, text=True)
    *told, last = result.stdout.splitlines()
    message = "damaged: it wants far more memory than it has bytes; refused"
    assert told == [f"{tmp_path / name}: {message}" for name in names]
    num_mib, limits = last.split(" ", 1)
    assert int(num_mib) < 200, result
    assert limits == str(resource.getrlimit(resource.RLIMIT_AS))  # as before


def read_checkpoint_bytes(folder, data: bytes) -> dict:
    (folder / "x.pt").write_bytes(data)
    return read_checkpoint(folder / "x.pt")


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_torchscript_program(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "x.pt")
    with pytest.raises(DataError, match="is a TorchScript program, not weights"):
        read_checkpoint(tmp_path / "x.pt")


def test_links(tmp_path):
    (tmp_path / "blob").write_bytes(saved(STATE))  # as Hugging Face's cache keeps it
    (tmp_path / "x.pt").symlink_to("blob")
    assert list(read_checkpoint(tmp_path / "x.pt")) == ["conv.weight"]
    for name, target, message in (("none.pt", "nowhere", "no such checkpoint"),
                                  ("loop.pt", "loop.pt", "can't be read: Too many levels of symbolic links"),
                                  ("zero.pt", "/dev/zero", "is no regular file")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(DataError, match=message):
            read_checkpoint(tmp_path / name)


def test_paths_that_are_none(tmp_path):
    with pytest.raises(DataError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(DataError, match="is no regular file; want a checkpoint"):
        read_checkpoint(tmp_path)


FORMS = {"archive": saved(STATE), "legacy": saved(STATE, _use_new_zipfile_serialization=False),
         "safetensors": safetensors.torch.save(STATE)}


@pytest.mark.parametrize("form", FORMS)
def test_cut_anywhere(read, form):
    data = FORMS[form]
    for size in range(1, len(data), 7):
        with pytest.raises(DataError):
            read(data[:size])


@settings(max_examples=150, deadline=None)
@given(form=st.sampled_from(list(FORMS)), at=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_changed_byte_is_told_or_harmless(tmp_path_factory, form, at, value):
    data = bytearray(FORMS[form])
    data[int(at * len(data))] = value
    path = tmp_path_factory.mktemp("flipped") / "x.pt"
    path.write_bytes(data)
    try:
        tensors = read_checkpoint(path)
    except DataError:
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
