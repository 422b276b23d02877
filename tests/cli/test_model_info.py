"""model-info as a user calls it."""

import json
import re
from pathlib import Path

import pytest
import torch

from speakerkit.cli import model_info
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.models import model_file
from speakerkit.models.networks import initialise, make_network

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture
def model(tmp_path):
    config = ModelConfig(embedding_dim=16, base_channels=4, num_blocks=(1, 1, 1, 1))
    network = make_network(config, 40)
    initialise(network, torch.Generator().manual_seed(1))
    info = model_file.ModelInfo(
        name="small", model=config, fbank=FbankConfig(num_mel_bins=40), training_data="three\ntalkers", domain="rooms",
        licence="CC BY 4.0", threshold=0.25, training={"num_steps": 7, "system": {"fbank": {}}},
        results={"trials": {"eer_percent": 3.5}})
    path = tmp_path / "exp" / "model.safetensors"
    model_file.save_model(path, network.eval(), info)
    return path


def test_the_installed_command_on_the_reference(run_command, tmp_path):
    reference = CONF / "resnet34_reference.toml"
    result = run_command("model-info", reference, "--num-classes", 3465, "--json", tmp_path / "j")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    for line in ("architecture resnet34_reference", "embedding_dim 256", "num_parameters 5587360", "num_values 5596960",
                 "num_parameters_with_classifier 6474400", "licence not stated"):
        assert line in lines
    report = json.loads((tmp_path / "j").read_text())
    assert (report["status"], report["num_values"], report["licence"]) == ("ok", 5596960, None)
    assert report["system"]["loss"]["scale"] == 8.0
    assert not re.search("system|fbank[. ]", result.stdout)


@pytest.mark.parametrize("by_folder", [False, True])
def test_a_model(model, tmp_path, capsys, by_folder):
    assert model_info.main([str(model.parent if by_folder else model), "--json", str(tmp_path / "j")]) == 0
    out = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert out["training_data"] == "three talkers"
    assert out["threshold"] == "0.25"
    assert out["training.num_steps"] == "7"
    assert out["results.trials.eer_percent"] == "3.5"
    assert out["mean_norm"] == "yes"
    assert out["sha256"] == model_file.sha256_of(model)
    assert float(out["golden_cosine"]) > 0.99999
    report = json.loads((tmp_path / "j").read_text())
    assert report["command"] == "model-info"
    assert {"architecture", "embedding_dim", "num_parameters", "num_values", "sha256", "licence", "training_data"} <= (
        report.keys())


def test_the_environment_names_the_default(model, monkeypatch, capsys):
    monkeypatch.setenv("SPEAKERKIT_MODEL", str(model))
    assert model_info.main([]) == 0
    assert "name small\n" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, code, message", [
    (["nowhere"], 1, "model-info: nowhere: no such model"),
    (["nowhere.toml"], 2, "model-info: nowhere.toml: no such file; want a configuration"),
    (["x.safetensors"], 1, "x.safetensors: is no model file"),
    ([str(CONF / "resnet34.toml"), "--num-classes", "1"], 2, "--num-classes: '1' is not a number from 2"),
    (["a", "b"], 2, "unrecognized arguments: b"),
])
def test_refusals(tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    Path("x.safetensors").write_bytes(b"RIFF" + bytes(40))
    assert model_info.main(arguments) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_damaged_model_is_told_with_what_is_known(model, tmp_path, capsys):
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    assert model_info.main([str(model), "--json", str(tmp_path / "j")]) == 1
    assert "damaged: its weights don't have the SHA-256" in capsys.readouterr().err
    report = json.loads((tmp_path / "j").read_text())
    assert (report["status"], report["name"]) == ("bad-data", "small")
