"""import-model as a user calls it."""

import json
import os
import shutil
import sys

import pytest
import torch

from speakerkit.cli import import_model
from speakerkit.models import model_file


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, original_weights):
    path = tmp_path_factory.mktemp("published") / "resnet18.pt"
    torch.save({f"module.{key}": weight.half() for key, weight in original_weights("wespeaker_resnet18").items()}, path)
    return path


@pytest.mark.timeout(300)  # four processes that load torch
def test_the_installed_command_and_a_rerun(checkpoint, run_command, tmp_path):
    out = tmp_path / "out" / "m.safetensors"
    result = run_command("import-model", checkpoint, out, "--licence", "MIT", "--json", tmp_path / "j")
    assert result.returncode == 0, result.stderr
    assert "architecture resnet18\nimported_from wespeaker\nembedding_dim 64\nnum_parameters 257592" in result.stdout
    assert "a ResNet from wespeaker, 257,592 parameters" in result.stderr
    report = json.loads((tmp_path / "j").read_text())
    assert (report["status"], report["num_values"], report["licence"]) == ("ok", 258792, "MIT")
    model = model_file.load_model(out)  # meets its golden vector
    assert (model.info.name, model.info.fbank.window_type, model.info.threshold) == ("m", "hamming", None)
    assert model.info.training["checkpoint"] == "resnet18.pt"

    before = out.stat().st_mtime_ns
    again = run_command("speakerkit", "import-model", checkpoint, out, "--licence", "MIT")
    assert again.returncode == 0 and "nothing to do" in again.stderr and again.stdout == result.stdout
    assert out.stat().st_mtime_ns == before
    other = run_command("import-model", checkpoint, out, "--from", "3dspeaker")
    assert other.returncode == 2 and "--overwrite" in other.stderr


CONFIG = "model: ResNet18\nmodel_args: {feat_dim: 80, embed_dim: 64, pooling_func: TSTP, two_emb_layer: true}\n"


def test_a_trainers_folder(original_weights, tmp_path, capsys):
    def said(code, *arguments):
        assert import_model.main([*map(str, arguments)]) == code
        return capsys.readouterr().err

    weights = original_weights("wespeaker_resnet18")
    two_layers = {"seg_2.weight": torch.eye(64), "seg_2.bias": torch.zeros(64),
                  "seg_bn_1.running_mean": torch.zeros(64), "seg_bn_1.running_var": torch.ones(64)}
    (tmp_path / "models").mkdir()
    for epoch in (1, 2):
        torch.save(weights | two_layers, tmp_path / "models" / f"model_{epoch}.pt")
    out = tmp_path / "out" / "m.safetensors"
    assert said(2, tmp_path, out) == (f"import-model: {tmp_path}: holds 2 checkpoints: models/model_1.pt, "
                                      "models/model_2.pt; name one of them\n")
    checkpoint = tmp_path / "models" / "avg_model.pt"
    checkpoint.symlink_to("model_2.pt")
    assert "want --from wespeaker or --from 3dspeaker" in said(2, tmp_path, out)  # its keys leave it open

    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    for path in (tmp_path, checkpoint):
        told = said(0, path, out)
        assert told.count(f"{config}: lies beside and tells wespeaker's front end; used\n") == 1
    assert "nothing to do" in told
    info = model_file.read_info(out)
    assert (info.fbank.window_type, info.training["checkpoint"]) == ("hamming", "avg_model.pt")
    assert f"{config}: lies beside and is wespeaker's; not used, for --from says 3dspeaker" in said(
        0, checkpoint, out, "--from", "3dspeaker", "--overwrite")
    assert model_file.read_info(out).fbank.window_type == "povey"
    config.write_text("lr: 0.1\n")
    assert f"{config}: lies beside and is no configuration of a system we know; not used" in said(2, checkpoint, out)
    config.write_text(CONFIG.replace("TSTP", "MQMHASTP"))
    assert said(1, checkpoint, out, "--overwrite") == (
        f"import-model: {config}: what isn't had here: model_args.pooling_func is 'MQMHASTP'; want one of TSTP, "
        "ASTP, TAP, TSDP\n")


def test_a_configuration_beside_needs_pyyaml(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    shutil.copy(checkpoint, tmp_path / "x.pt")
    (tmp_path / "config.yaml").write_text(CONFIG)
    assert import_model.main([str(tmp_path / "x.pt"), str(tmp_path / "m.safetensors")]) == 2
    assert "config.yaml: a published model's configuration needs PyYAML: pip install" in capsys.readouterr().err
    assert import_model.main([str(tmp_path / "x.pt"), str(tmp_path / "m.safetensors"), "--from", "wespeaker"]) == 0


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_refusals(checkpoint, tmp_path, capsys):
    def refuse(code, path, out="m.safetensors", *options):
        assert import_model.main([str(path), str(tmp_path / out), *options]) == code
        error = capsys.readouterr().err
        assert error.startswith("import-model: ") and error.count("\n") == 1
        assert not list(tmp_path.glob("m.*"))
        return error

    evil = tmp_path / "evil.pt"
    torch.save({"x": Evil(tmp_path / "it-ran")}, evil)
    assert "system', not weights alone; refused, nothing of it was run" in refuse(1, evil)
    assert not (tmp_path / "it-ran").exists()
    os.mkfifo(tmp_path / "pipe.pt")  # nothing ever writes to it
    for path in (tmp_path / "pipe.pt", "/dev/zero"):
        assert f"{path}: is no regular file; want a checkpoint" in refuse(1, path)
    loud = torch.load(checkpoint)
    for block in (0, 1):  # each value is finite, their sums aren't
        loud[f"module.layer4.{block}.bn1.weight"] = torch.full((64,), 1e30)
    torch.save(loud, tmp_path / "loud.pt")
    assert "m.safetensors: is not written: with these weights an embedding isn't finite" in refuse(
        1, tmp_path / "loud.pt")
    (tmp_path / "empty").mkdir()
    assert "empty: holds no checkpoint; want a folder with" in refuse(1, tmp_path / "empty")
    (tmp_path / "half.pt").write_bytes(checkpoint.read_bytes()[:10_000])
    assert "half.pt: truncated or damaged" in refuse(1, tmp_path / "half.pt")
    assert "none.pt: no such" in refuse(1, tmp_path / "none.pt")
    assert "want a name that ends in .safetensors" in refuse(2, checkpoint, "m.pt")
    assert "is a ResNet, which isn't speechbrain's; want --from wespeaker or 3dspeaker" in refuse(
        1, checkpoint, "m.safetensors", "--from", "speechbrain")
    config = tmp_path / "config.yaml"
    config.write_text("model: ResNet18\nmodel_args: {feat_dim: 80}\ndataset_args: {frontend: s3prl}\n")
    assert "config.yaml: what isn't had here: dataset_args.frontend is 's3prl'" in refuse(
        1, checkpoint, "m.safetensors", "--config", str(config))
    config.write_text("model: ResNet18\nmodel_args: {feat_dim: 80}\n")
    assert "is wespeaker's configuration; --from says 3dspeaker" in refuse(
        2, checkpoint, "m.safetensors", "--config", str(config), "--from", "3dspeaker")
