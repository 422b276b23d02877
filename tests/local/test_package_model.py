"""A trained model as it is given away: half precision, its threshold and a card that says where it comes from."""

import json

import numpy as np
import package_model
import pytest
import torch

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.models import model_file
from speakerkit.models.networks import initialise, make_network

RESULT = {"num_target": 100, "num_nontarget": 2000, "eer_percent": 3.25, "eer_threshold": 0.5, "min_dcf": 0.25,
          "dcf_p_target": 0.01, "dcf_c_miss": 1.0, "dcf_c_fa": 1.0,
          "protocol": {"trials": "/home/somebody/exp/trials", "trials_sha256": "ab" * 32, "num_missing": 0}}
TRAINING = {"num_steps": 1800, "seconds": 7200, "precision": "bfloat16", "seed": 1, "version": "0.1.0"}
INIT = {"name": "first", "sha256": "ab" * 32, "num_shared_speakers": 0}
TEACHER = {"name": "wise", "sha256": "cd" * 32, "training_data": "200,000 speakers", "licence": "Apache-2.0"}


@pytest.fixture
def package(tmp_path):
    """``package(training)`` packages a small model trained so; the card's text and the model it describes."""

    def package(training):
        config = ModelConfig(embedding_dim=8, base_channels=4, num_blocks=(1, 1, 1, 1))
        network = make_network(config, 24)
        initialise(network, torch.Generator().manual_seed(1))
        info = model_file.ModelInfo("plain", config, FbankConfig(num_mel_bins=24), training=training)
        model_file.save_model(tmp_path / "plain.safetensors", network.eval(), info)
        (tmp_path / "result.json").write_text(json.dumps(RESULT))
        (tmp_path / "text.md").write_text("What it is.\n\n## More\n\nWords.\n")
        rng = np.random.default_rng(1)
        pairs = [(f"e{n} t{n}", n < 60, rng.normal(0.7 if n < 60 else 0.3, 0.2)) for n in range(200)]
        (tmp_path / "trials").write_text("".join(f"{p} {'target' if t else 'nontarget'}\n" for p, t, _ in pairs))
        (tmp_path / "scores").write_text("".join(f"{p} {s:.9g}\n" for p, _, s in pairs))
        calibrate = ["--calibrate", str(tmp_path / "trials"), str(tmp_path / "scores")]
        options = ["--result", "some pairs", str(tmp_path / "result.json"), "--text", str(tmp_path / "text.md")]
        command = [str(tmp_path / "plain.safetensors"), str(tmp_path / "given.safetensors"), *options, *calibrate]
        assert package_model.main([*command, "--commit", "abc", "--command", "run.sh"]) == 0
        return (tmp_path / "given.md").read_text(), model_file.load_model(tmp_path / "given.safetensors")

    return package


def test_the_card_says_what_the_model_is(package):
    card, model = package(TRAINING)
    for part in ("# given\n\nWhat it is.", "| training | 1,800 steps, 2.00 h (7,200 s), bfloat16, seed 1",
                 "| some pairs | 100 | 2,000 | 3.25 | 0.2500 (0.01, 1, 1) |", "## More\n\nWords.", "| commit | abc |"):
        assert part in card
    assert f"`{model.info.weights_sha256}`" in card
    assert model.info.threshold == 0.5 and "EER 3.25 %" in model.info.threshold_trials
    assert model.info.training["commit"] == "abc"
    assert model.info.results["some pairs"]["protocol"] == {"trials": "trials", "trials_sha256": "ab" * 32,
                                                            "num_missing": 0}
    # Two Gaussians of one deviation: the ratio's slope is the distance of their means over the variance, 10.
    assert model.info.calibration["scale"] == pytest.approx(10, rel=0.3)
    assert model.info.calibration["num_target"] == 60
    assert f"{model.info.calibration['scale']:.3f} * cosine {model.info.calibration['offset']:+.3f}" in card
    assert "begun with" not in card and "teacher" not in card


def test_the_card_names_the_model_it_began_with_and_its_teacher(package):
    card, _ = package(TRAINING | {"init": INIT, "teacher": TEACHER})
    assert f"| begun with | first, SHA-256 `{'ab' * 32}` |\n" in card
    assert f"| teacher | wise, 200,000 speakers, Apache-2.0, SHA-256 `{'cd' * 32}` |\n" in card


def test_a_result_that_is_none_is_refused(tmp_path, package, capsys):
    package(TRAINING)
    (tmp_path / "result.json").write_text("{")
    command = [str(tmp_path / "plain.safetensors"), str(tmp_path / "again.safetensors")]
    assert package_model.main([*command, "--result", "x", str(tmp_path / "result.json")]) == 1
    assert "result.json: is no result" in capsys.readouterr().err
    assert not (tmp_path / "again.safetensors").exists()
