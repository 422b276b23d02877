"""import-model as a user calls it."""

import json
import os

import pytest
import torch

from speakerkit.cli import import_model
from speakerkit.models import model_file


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, original_weights):
    path = tmp_path_factory.mktemp("published") / "campplus.pt"
    torch.save({f"module.{key}": weight.half() for key, weight in original_weights("3dspeaker_campplus").items()}, path)
    return path


def test_the_installed_command_and_a_rerun(checkpoint, run_command, tmp_path):
    out = tmp_path / "out" / "m.safetensors"
    result = run_command("import-model", checkpoint, out, "--licence", "MIT", "--json", tmp_path / "j")
    assert result.returncode == 0, result.stderr
    assert "architecture campplus\nimported_from 3dspeaker\nembedding_dim 192\nnum_parameters 6848544" in result.stdout
    assert "a CAM++ from 3dspeaker, 6,848,544 parameters" in result.stderr
    report = json.loads((tmp_path / "j").read_text())
    assert (report["status"], report["num_values"], report["licence"]) == ("ok", 6930720, "MIT")
    model = model_file.load_model(out)  # meets its golden vector
    assert (model.info.name, model.info.fbank.waveform_scale, model.info.threshold) == ("m", 1.0, None)
    assert model.info.training["checkpoint"] == "campplus.pt"

    before = out.stat().st_mtime_ns
    again = run_command("speakerkit", "import-model", checkpoint, out, "--licence", "MIT")
    assert again.returncode == 0 and "nothing to do" in again.stderr and again.stdout == result.stdout
    assert out.stat().st_mtime_ns == before
    other = run_command("import-model", checkpoint, out, "--from", "wespeaker")
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
    (tmp_path / "half.pt").write_bytes(checkpoint.read_bytes()[:100_000])
    assert "half.pt: truncated or damaged" in refuse(1, tmp_path / "half.pt")
    assert "none.pt: no such" in refuse(1, tmp_path / "none.pt")
    assert "want a name that ends in .safetensors" in refuse(2, checkpoint, "m.pt")
