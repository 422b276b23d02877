"""calibrate-scores as a user meets it."""

import json

import numpy as np
import pytest

from speakerkit.cli import calibrate_scores
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.io import files
from speakerkit.models import model_file
from speakerkit.models.networks import make_network
from speakerkit.scoring.calibration import fit_calibration


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """trials and scores in the working folder; (scores, labels)."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(1)
    is_target = np.arange(200) < 50
    scores = (0.3 * is_target + generator.normal(0, 0.15, 200)).round(4)
    (tmp_path / "trials").write_text("".join(f"e t{n} {int(label)}\n" for n, label in enumerate(is_target)))
    (tmp_path / "scores").write_text("".join(f"e t{n} {score}\n" for n, score in enumerate(scores)))
    return scores, is_target


@pytest.fixture
def model(tmp_path):
    config = ModelConfig(embedding_dim=8, base_channels=4, num_blocks=(1, 1, 1, 1))
    info = model_file.ModelInfo("tiny", config, FbankConfig(num_mel_bins=24), training_data="none", threshold=0.2)
    model_file.save_model(tmp_path / "m.safetensors", make_network(config, 24).eval(), info)
    return tmp_path / "m.safetensors"


def test_a_calibration_on_its_own(scored, capsys, tmp_path):
    assert calibrate_scores.main(["trials", "scores", "--output", "new/c.json", "--p-target", "0.1"]) == 0
    expected = fit_calibration(*scored, 0.1)
    lines = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert list(lines) == ["num_target", "num_nontarget", "p_target", "scale", "offset", "cllr", "min_cllr"]
    assert (float(lines["scale"]), float(lines["offset"])) == pytest.approx((expected.scale, expected.offset), rel=1e-8)
    facts = json.loads((tmp_path / "new" / "c.json").read_text())
    assert (facts["scale"], facts["offset"], facts["p_target"]) == (expected.scale, expected.offset, 0.1)
    assert (facts["num_target"], facts["num_nontarget"], facts["trials"]) == (50, 150, "trials")
    assert 0 < facts["min_cllr"] <= facts["cllr"] < 1


def test_rerun(scored, capsys):
    command = ["trials", "scores", "--output", "c.json"]
    assert calibrate_scores.main(command) == 0
    first = capsys.readouterr().out
    assert calibrate_scores.main(command) == 0
    assert capsys.readouterr() == (first, "calibrate-scores: c.json: nothing to do, it is up to date\n")
    assert calibrate_scores.main([*command, "--p-target", "0.1"]) == 2
    assert "made with p_target 0.5, now 0.1; give --overwrite" in capsys.readouterr().err
    assert calibrate_scores.main([*command, "--p-target", "0.1", "--overwrite"]) == 0


def test_a_model_with_its_calibration(scored, model, tmp_path):
    assert calibrate_scores.main(["trials", "scores", "--output", "new.safetensors", "--model", str(model)]) == 0
    before, after = (model_file.load_model(path) for path in (model, tmp_path / "new.safetensors"))  # golden and sums
    assert (after.info.calibration["scale"], after.info.calibration["trials"]) == (fit_calibration(*scored).scale,
                                                                                  "trials")
    assert after.info.weights_sha256 == before.info.weights_sha256
    assert (after.info.name, after.info.threshold, after.info.training_data) == ("tiny", 0.2, "none")
    assert before.info.calibration is None


def test_a_model_that_is_not_that_of_the_scores(scored, model, capsys, tmp_path):
    files.write_manifest("scores", files.Manifest("score-trials", {}, {}, "0"),
                         {"protocol": {"model": "other", "model_sha256": "cd" * 32}})
    assert calibrate_scores.main(["trials", "scores", "--output", "new.safetensors", "--model", str(model)]) == 1
    assert capsys.readouterr().err.endswith("but the scores are of other (cdcdcdcd)\n")
    assert not (tmp_path / "new.safetensors").exists()


@pytest.mark.parametrize("words, code, told", [
    (["trials", "apart", "--output", "c.json"], 1, "apart: target and nontarget scores don't overlap"),
    (["trials", "turned", "--output", "c.json"], 1, "turned: higher scores don't mean more alike"),
    (["scores", "--output", "c.json"], 1, "scores: scores have no labels; give the labelled trials too"),
    (["trials", "scores", "--output", "./scores"], 2, "--output ./scores is one of the inputs"),
    (["trials", "scores", "--output", "c", "--model", "none"], 1, "none: no such model"),
    (["trials", "scores", "--output", "trials/c"], 75, "trials/c: can't be written"),
])
def test_refusals(scored, capsys, tmp_path, words, code, told):
    scores, is_target = scored
    for name, values in (("apart", is_target), ("turned", -scores)):
        (tmp_path / name).write_text("".join(f"e t{n} {float(value)}\n" for n, value in enumerate(values)))
    assert calibrate_scores.main([*words, "--quiet"]) == code
    assert capsys.readouterr().err.startswith(f"calibrate-scores: {told}")
    assert not (tmp_path / "c.json").exists()


def test_wrong_command_lines(scored, capsys):
    for words in (["trials", "scores"], ["trials", "scores", "--output", "c", "--p-target", "1"]):
        assert calibrate_scores.main(words) == 2
        assert "hint: calibrate-scores --help" in capsys.readouterr().err
