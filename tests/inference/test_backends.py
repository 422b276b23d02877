"""Which library runs a model: by the processor, what is installed and what is asked for."""

import logging

import pytest

from speakerkit.errors import ConfigError
from speakerkit.inference import backends, export_cache
from speakerkit.models import device

AMX, PLAIN = frozenset({"avx2", "amx_bf16"}), frozenset({"avx2"})
ALL = {"onnxruntime", "openvino", "onnx"}


@pytest.fixture
def machine(monkeypatch):
    """``machine(flags, packages)``: a processor and what is installed on it."""

    def set_up(flags, packages):
        monkeypatch.setattr(device, "cpu_flags", lambda: flags)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in packages else None)
        monkeypatch.setattr(backends, "GPU_FILES", ())

    return set_up


@pytest.mark.parametrize("flags, packages, few, asked, chosen", [
    (AMX, ALL, False, {}, ("openvino", "bfloat16")),
    (PLAIN, ALL, False, {}, ("onnx", "float32")),
    (AMX, {"onnxruntime", "onnx"}, False, {}, ("torch", "bfloat16")),   # 5.9 times beats 1.6
    (AMX, {"onnxruntime", "onnx"}, True, {}, ("onnx", "float32")),      # two recordings: what starts fast
    (PLAIN, {"openvino", "onnx"}, False, {}, ("openvino", "float32")),
    (AMX, set(), False, {}, ("torch", "bfloat16")),
    (PLAIN, set(), True, {}, ("torch", "float32")),
    (AMX, {"openvino", "onnxruntime"}, False, {}, ("torch", "bfloat16")),  # nothing to export with
    (AMX, ALL, False, {"precision": "float32"}, ("onnx", "float32")),
    (PLAIN, ALL, False, {"precision": "bfloat16"}, ("openvino", "bfloat16")),
    (AMX, ALL, False, {"backend": "onnx"}, ("onnx", "float32")),
    (AMX, ALL, False, {"backend": "torch", "precision": "float32"}, ("torch", "float32")),
])
def test_safetensors(machine, models, caplog, monkeypatch, flags, packages, few, asked, chosen):
    monkeypatch.setattr(logging.getLogger("speakerkit"), "propagate", True)
    export_cache.exported(str(models["resnet34"]), backends.files.sha256_file(models["resnet34"]))
    machine(flags, packages)
    with caplog.at_level(logging.INFO, "speakerkit"):
        choice = backends.choose_backend(models["resnet34"], few=few, **asked)
    assert (choice.backend, choice.precision, choice.device) == (*chosen, "cpu")
    said = [message for message in caplog.messages if "(--" in message]
    assert len(said) == (len(asked) < 2)  # once, unless nothing was left open
    assert all(message.startswith(f"{chosen[1]} by {backends.TITLES[chosen[0]]} on ") for message in said)


@pytest.mark.parametrize("flags, packages, chosen", [
    (AMX, ALL, ("openvino", "bfloat16")),
    (AMX, {"onnxruntime"}, ("onnx", "float32")),
    (PLAIN, {"openvino"}, ("openvino", "float32")),
])
def test_onnx_needs_no_package_but_a_runtime(machine, graphs, flags, packages, chosen):
    machine(flags, packages)
    choice = backends.choose_backend(graphs["resnet34"])
    assert (choice.backend, choice.precision) == chosen and choice.graph == str(graphs["resnet34"])


@pytest.mark.parametrize("kind, packages, asked, message", [
    ("graph", set(), {}, r"onnxruntime isn't installed; .* pip install 'speakerkit\[onnx\]'"),
    ("graph", ALL, {"backend": "torch"}, "--backend torch: .* is an ONNX model; want --backend onnx or openvino"),
    ("graph", ALL, {"device": "cuda"}, "--device cuda: an ONNX model runs on the CPU; a GPU takes a .safetensors"),
    ("model", ALL, {"device": "cuda:1", "backend": "openvino"}, "--device cuda:1: --backend openvino runs on the CPU"),
    ("model", {"onnx"}, {"backend": "openvino"}, r"openvino isn't installed; .*'speakerkit\[openvino\]'"),
    ("model", {"onnxruntime"}, {"backend": "onnx"}, r"onnx isn't installed; .*'speakerkit\[export\]'"),
    ("model", ALL, {"backend": "onnx", "precision": "bfloat16"}, "ONNX Runtime has no bfloat16 convolutions"),
    ("model", ALL, {"precision": "int8"}, "isn't quantised; make one with export-onnx --quantise int8"),
])
def test_what_can_not_be_done_is_told(machine, models, graphs, kind, packages, asked, message):
    machine(AMX, packages)
    with pytest.raises(ConfigError, match=message):
        backends.choose_backend((graphs if kind == "graph" else models)["resnet34"], **asked)
