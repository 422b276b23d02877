"""import-model as a user calls it."""

import json
import os

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
    (tmp_path / "half.pt").write_bytes(checkpoint.read_bytes()[:10_000])
    assert "half.pt: truncated or damaged" in refuse(1, tmp_path / "half.pt")
    assert "none.pt: no such" in refuse(1, tmp_path / "none.pt")
    assert "want a name that ends in .safetensors" in refuse(2, checkpoint, "m.pt")
    assert "is a ResNet, which isn't speechbrain's; want --from wespeaker or 3dspeaker" in refuse(
        1, checkpoint, "m.safetensors", "--from", "speechbrain")
    config = tmp_path / "config.yaml"
    config.write_text("model: ResNet18\nmodel_args: {feat_dim: 80}\ndataset_args: {frontend: s3prl}\n")
    assert "config.yaml: a front end that isn't had here: dataset_args.frontend is 's3prl'" in refuse(
        1, checkpoint, "m.safetensors", "--config", str(config))
    config.write_text("model: ResNet18\nmodel_args: {feat_dim: 80}\n")
    assert "is wespeaker's configuration; --from says 3dspeaker" in refuse(
        2, checkpoint, "m.safetensors", "--config", str(config), "--from", "3dspeaker")
