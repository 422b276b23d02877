"""Checkpoints of strangers: what is read, what is refused, and that nothing in them is run."""

import io
import os
import pickle
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
    (saved({1: torch.ones(2)}), "'1' is a Tensor; want a name"),
    (saved({"a": torch.ones(2, dtype=torch.int32)}), "'a' is torch.int32, torch.strided; want dense floating-point"),
    (saved({"a": torch.eye(3).to_sparse()}), "'a' is torch.float32, torch.sparse_coo"),
    (saved({"a": torch.ones(1).expand(10**9)}), r"'a' claims \[1000000000\], more values than are stored"),
    (saved({"a": np.float64(3.0), "b": torch.ones(2)}), "holds 'numpy.*', not weights alone"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_refused(read, data, message):
    with pytest.raises(DataError, match=message):
        read(data)


def test_paths_that_are_none(tmp_path):
    with pytest.raises(DataError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(DataError, match="is no regular file; want a checkpoint, e.g. the avg_model.pt in this folder"):
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
