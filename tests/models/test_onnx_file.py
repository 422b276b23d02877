"""The outermost structure of an ONNX file: its facts, and every cut or changed byte refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import DataError
from speakerkit.models import model_file, onnx_file
from speakerkit.models.find import find_model
from speakerkit.models.model_header import read_info
from speakerkit.models.model_info import ModelInfo, facts_as_json

INFO = ModelInfo("tiny", ModelConfig(embedding_dim=16), FbankConfig(), licence="CC0 – Ω", golden=(0.5,) * 16)


def make_file(path, sign=onnx_file.sign, props=None, **facts):
    value = helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["batch", "n"])
    graph = helper.make_graph([helper.make_node("Identity", ["samples"], ["out"])], "tiny", [value],
                              [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", "n"])],
                              [helper.make_tensor("w", TensorProto.FLOAT, [300], np.arange(300.0))])
    model = helper.make_model(graph, ir_version=10)
    text = facts_as_json(INFO, onnx={"precision": "float32", **facts})
    helper.set_model_props(model, props or {"speakerkit": text, onnx_file.DIGEST_KEY: onnx_file.ZEROS})
    path.write_bytes(sign(model.SerializeToString()))
    return path


def test_what_was_written_is_read(tmp_path):
    path = make_file(tmp_path / "tiny.onnx", num_parameters=7)
    data, info, facts = onnx_file.read_onnx(path)
    assert info == read_info(path) == INFO and facts == {"precision": "float32", "num_parameters": 7}
    assert find_model(path) == path
    assert {item.key: item.value for item in onnx.load_from_string(data).metadata_props}["speakerkit"]


def test_its_weights_are_not_to_be_had(tmp_path):
    with pytest.raises(DataError, match="is an ONNX model, a graph to be run; want the .safetensors that it was made"):
        model_file.load_model(make_file(tmp_path / "tiny.onnx"))


def test_every_cut_and_many_changed_bytes_are_refused(tmp_path):
    whole = make_file(tmp_path / "tiny.onnx").read_bytes()
    cut, changed = tmp_path / "cut.onnx", tmp_path / "changed.onnx"
    for size in (*range(9, 60), *range(60, len(whole), 97)):
        cut.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut.onnx: (truncated|damaged|has no speakerkit metadata)"):
            onnx_file.read_onnx(cut)
    for place in range(9, len(whole), 13):
        changed.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises(DataError, match="changed.onnx: "):
            onnx_file.read_onnx(changed)


@pytest.mark.parametrize("data, message", [
    (None, "no such model file"),
    (b"", "is no ONNX model"),
    (b"\x08\x0a" + b"\xff" * 20, "truncated or damaged: its fields don't fit in it"),
    (b"\x08\x0a\x12\x05hallo\x05\x00", "truncated or damaged"),  # wire type 5: no such field in ONNX
    (b"<html>not found</html>", "is no ONNX model"),
])
def test_other_files_are_refused(tmp_path, data, message):
    if data is not None:
        (tmp_path / "x.onnx").write_bytes(data)
    with pytest.raises(DataError, match=message):
        onnx_file.read_onnx(tmp_path / "x.onnx")


def test_an_onnx_model_of_others_is_told_so(tmp_path):
    path = make_file(tmp_path / "other.onnx", sign=bytes, props={"author": "somebody"})
    with pytest.raises(DataError, match="has no speakerkit metadata: .* make it with export-onnx"):
        read_info(path)


def loop_forever(model):
    body = helper.make_graph([helper.make_node("Identity", ["going"], ["goes"])], "body", [
        helper.make_tensor_value_info("turn", TensorProto.INT64, []),
        helper.make_tensor_value_info("going", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("goes", TensorProto.BOOL, [])])
    model.graph.node.append(helper.make_node("Loop", ["", "yes"], [], body=body))


def take_weights_elsewhere(model):
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")


def call_a_library(model):
    model.graph.node[0].domain = "their.ops"


def hide_it_in_a_function(model):
    model.functions.append(helper.make_function("their.ops", "F", ["x"], ["y"], [
        helper.make_node("Identity", ["x"], ["y"])], [helper.make_opsetid("", 18)]))


def make_it_sparse(model):
    values, places = (helper.make_tensor(name, kind, [1], [1]) for name, kind in
                      (("v", TensorProto.FLOAT), ("i", TensorProto.INT64)))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))


@pytest.mark.parametrize("change, message", [
    (loop_forever, "holds the operator 'Loop', which export-onnx never writes: refused"),
    (call_a_library, "holds the operator 'their.ops.Identity', which export-onnx never writes: refused"),
    (take_weights_elsewhere, "has weights in another file or form than export-onnx writes: refused"),
    (make_it_sparse, "has weights in another file or form than export-onnx writes: refused"),
    (hide_it_in_a_function, "holds a function, which export-onnx never writes: refused"),
])
def test_what_none_of_ours_holds(tmp_path, change, message):
    """The SHA-256 in a file is no signature: whoever makes a file can make it fit."""
    path = make_file(tmp_path / "tiny.onnx")
    model = onnx.load_from_string(path.read_bytes())
    change(model)
    digest = next(item for item in model.metadata_props if item.key == onnx_file.DIGEST_KEY)
    digest.value = onnx_file.ZEROS
    path.write_bytes(onnx_file.sign(model.SerializeToString()))
    with pytest.raises(DataError) as caught:
        onnx_file.read_onnx(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_safetensors_header_of_any_length_is_no_onnx():
    for size in range(2, 4000):
        assert not onnx_file.is_onnx(size.to_bytes(8, "little") + b"{")
