"""Which library runs a model: by the processor, what is installed and what is asked for."""

import dataclasses
import logging
import subprocess
import sys

import pytest

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import ConfigError, DataError
from speakerkit.inference import backends, export_cache, onnx_export
from speakerkit.models import device, model_file

AMX, PLAIN = frozenset({"avx2", "amx_bf16"}), frozenset({"avx2"})
NO_AMX = frozenset({"avx2", "avx512_bf16"})
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


@pytest.mark.parametrize("flags, packages, few, architecture, chosen", [
    (NO_AMX, ALL, False, "campplus", ("onnx", "float32")),
    (NO_AMX, {"openvino", "onnx"}, False, "campplus", ("openvino", "bfloat16")),
    (NO_AMX, set(), False, "campplus", ("torch", "bfloat16")),
    (NO_AMX, ALL, False, "resnet34", ("openvino", "bfloat16")),
    (NO_AMX, ALL, False, "ecapa", ("openvino", "bfloat16")),
    (AMX, ALL, False, "campplus", ("openvino", "bfloat16")),  # ten times float32
    (PLAIN, ALL, False, "campplus", ("onnx", "float32")),
    (NO_AMX, ALL, True, "campplus", ("onnx", "float32")),
    (NO_AMX, ALL, True, "resnet34", ("onnx", "float32")),
])
def test_the_order_follows_the_architecture(machine, flags, packages, few, architecture, chosen):
    machine(flags, packages)
    pairs = [(name, kind) for name in backends.BACKENDS for kind in backends._precisions(name, "float32")
             if name == "torch" or backends.is_installed(name)]
    assert min(pairs, key=lambda pair: backends._rank(*pair, "cpu", few, architecture)) == chosen


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


@pytest.fixture(scope="module")
def shallow_and_deep(tmp_path_factory, draw_network):
    """Two models: one as any other, and one whose values are so large beside their differences that bfloat16 fails."""
    folder, fbank = tmp_path_factory.mktemp("deep"), FbankConfig(num_mel_bins=24)
    config = ModelConfig(base_channels=4, num_blocks=(1, 1, 1, 1), embedding_dim=16)
    for name in ("shallow", "deep"):
        network = draw_network(config, 24)
        if name == "deep":  # a constant of 3,000 through the last block, taken off again behind the pooling
            width = network.trunk.out_channels * 3
            network.trunk.blocks[-1].norm2.bias += 3e3
            network.embedding.bias -= network.embedding.weight[:, :width].sum(dim=1) * 3e3
        model_file.save_model(folder / f"{name}.safetensors", network, model_file.ModelInfo(name, config, fbank))
    return folder


def test_a_model_that_bfloat16_fails_is_run_in_float32(machine, shallow_and_deep, caplog, monkeypatch):
    """By torch, which computes in bfloat16 on any processor."""
    monkeypatch.setattr(logging.getLogger("speakerkit"), "propagate", True)
    machine(AMX, set())
    assert backends.load_extractor(shallow_and_deep / "shallow.safetensors").precision_name == "bfloat16"
    caplog.clear()
    deep = shallow_and_deep / "deep.safetensors"
    with caplog.at_level(logging.INFO, "speakerkit"):
        loaded = backends.load_extractor(deep)
    assert (loaded.backend, loaded.precision_name) == ("torch", "float32") and loaded.golden_cosine > 0.999999
    refused, chosen = caplog.messages
    assert refused.startswith("bfloat16 by torch isn't taken:") and "for its golden signal: cosine" in refused
    assert chosen.startswith("float32 by torch on ")
    for asked in ({}, {"backend": "torch"}):
        with pytest.raises(DataError, match="golden signal: cosine .*; want at least 0.999 in bfloat16"):
            backends.load_extractor(deep, precision="bfloat16", **asked)


def test_before_workers_are_forked_openvino_is_tried_in_a_child(models, tmp_path):
    """In a process of its own, for this one has OpenVINO's threads already."""
    loaded = model_file.load_model(models["resnet34"])
    wrong = dataclasses.replace(loaded.info, golden=loaded.info.golden[::-1])
    loaded = dataclasses.replace(loaded, info=wrong)
    (tmp_path / "wrong.onnx").write_bytes(onnx_export.to_onnx(loaded)[0])
    (tmp_path / "right.onnx").write_bytes(onnx_export.to_onnx(model_file.load_model(models["resnet34"]))[0])
    code = f"""
import sys
from speakerkit.errors import DataError
from speakerkit.inference.backends import choose_backend
print(choose_backend({str(tmp_path / "right.onnx")!r}, backend="openvino", forks=True).backend)
try:
    choose_backend({str(tmp_path / "wrong.onnx")!r}, backend="openvino", forks=True)
except DataError as error:
    print(error.message[:50])
print("openvino" in sys.modules, "torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert result.stdout.splitlines() == ["openvino", "gives another embedding for its golden signal: cos",
                                          "False False"], result.stderr
