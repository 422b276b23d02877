"""The Python API on an ONNX model, in a process of its own: every input, and torch never imported."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

import speakerkit
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import ConfigError, DataError
from speakerkit.inference import onnx_export
from speakerkit.models import model_file
from speakerkit.scoring.cosine import cosine_score

CODE = """
import io, json, sys
from pathlib import Path
import numpy as np
import soundfile
import speakerkit

graph, backend, folder = sys.argv[1:]
wavs = [Path(folder, f"{n}.wav") for n in range(3)]
model = speakerkit.load_model(graph, precision="float32", backend=backend)
assert model is speakerkit.load_model(graph, precision="float32", backend=backend)
whole = model.embed(wavs[0])
samples = soundfile.read(wavs[0], dtype="int16")[0]
for form in (str(wavs[0]), wavs[0].read_bytes(), io.BytesIO(wavs[0].read_bytes()), open(wavs[0], "rb")):
    assert np.array_equal(model.embed(form), whole), form
for form in (samples, samples.astype(np.int32) << 16, samples / 32768, (samples / 32768).astype(np.float32)):
    assert np.array_equal(model.embed(form, 16000), whole), form.dtype
several = model.embed(wavs)
assert np.array_equal(several[0], whole)
assert np.array_equal(several, model.embed(wavs, nj=1))
Path(folder, "wav.scp").write_text("".join(f"{n} {wav}\\n" for n, wav in enumerate(wavs)))
assert np.array_equal(model.embed_file_list(Path(folder, "wav.scp"))["2"], several[2])
assert model.embed([wavs[0], np.zeros(16000, np.int16)], [None, 16000], on_bad="return")[1].reason == "silent"
answer = model.verify(wavs[0], wavs[1])
voices = model.enrol(Path(folder, f"{backend}.voices"), {"a": wavs[0], "b": wavs[2]})
found = model.identify(voices, wavs[0])
assert found.matches[0].speaker == "a"
without = "torch" not in sys.modules
import torch
assert np.array_equal(model.embed(torch.from_numpy(samples.copy()), 16000), whole)
print(json.dumps({"embedding": whole.tolist(), "cosine": answer.cosine, "without": without, "repr": repr(model),
                  "backend": model.backend}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, speech_files, draw_network):
    """A model as .safetensors and .onnx, and three recordings of two seconds."""
    made = tmp_path_factory.mktemp("onnx")
    config = ModelConfig(base_channels=4, num_blocks=(1, 1, 1, 1), embedding_dim=16)
    info = model_file.ModelInfo("small", config, FbankConfig(), threshold=0.5)
    model_file.save_model(made / "m.safetensors", draw_network(config, info.fbank.num_columns), info)
    (made / "m.onnx").write_bytes(onnx_export.to_onnx(model_file.load_model(made / "m.safetensors"))[0])
    for number, paths in zip(range(3), speech_files.values(), strict=False):
        samples, rate = soundfile.read(paths[0], dtype="int16", frames=32000)
        soundfile.write(made / f"{number}.wav", samples, rate)
    return made


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_every_input_without_torch(folder, backend):
    ended = subprocess.run([sys.executable, "-c", CODE, folder / "m.onnx", backend, folder], text=True, timeout=100,
                           capture_output=True)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert said["without"] and said["backend"] == backend and said["repr"].endswith(f"cpu, float32, {backend}>")
    by_torch = speakerkit.load_model(folder / "m.safetensors", "cpu", "float32", backend="torch")
    assert cosine_score(np.array(said["embedding"]), by_torch.embed(folder / "0.wav")) >= 0.999999
    assert said["cosine"] == pytest.approx(by_torch.verify(folder / "0.wav", folder / "1.wav").cosine, abs=1e-5)


def test_threads_of_a_model_that_torch_does_not_run(folder, monkeypatch):
    monkeypatch.setattr("speakerkit.models.device.usable_cores", lambda: 3)
    counts = []
    monkeypatch.setattr("speakerkit.jobs.pool.run_threads", lambda function, items, nj: counts.append(nj) or [])
    speakerkit.load_model(folder / "m.onnx").embed([folder / "0.wav"])
    speakerkit.load_model(folder / "m.safetensors", backend="torch").embed([folder / "0.wav"])
    assert counts == [3, torch.get_num_threads()]


@pytest.mark.parametrize("name, arguments, error, message", [
    ("m.onnx", {"backend": "tensorflow"}, ValueError, "backend is 'tensorflow'; want auto, torch, onnx or openvino"),
    ("m.onnx", {"backend": "torch"}, ConfigError, "m.onnx is an ONNX model; want --backend onnx or openvino"),
    ("m.onnx", {"device": "cuda"}, ConfigError, "an ONNX model runs on the CPU"),
    ("m.onnx", {"precision": "int8"}, ConfigError, "m.onnx isn't quantised"),
    ("0.wav", {}, DataError, "0.wav"),
])
def test_what_can_not_be_loaded(folder, name, arguments, error, message):
    with pytest.raises(error, match=message):
        speakerkit.load_model(folder / name, **arguments)
