"""Whole runs: resumed as if never stopped, refused when something changed, guarded against what isn't finite."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from speakerkit.errors import ConfigError, DataError
from speakerkit.io.audio import AudioOptions
from speakerkit.models import model_file
from speakerkit.training import checkpoint, finish, loop, train
from speakerkit.training.aam_softmax import AamSoftmax


def run(train_dir, exp_dir, system, allowed_bad=0, **options):
    """One run in this process, float32 on one thread; returns the report."""
    report = {}
    chosen = train.TrainOptions(**({"device": "cpu", "precision": "float32", "nj": 1, "show": False} | options))
    train.train_model(train_dir, exp_dir, system, chosen, AudioOptions(), lambda total: allowed_bad, report)
    return report


def weights(exp_dir):
    return model_file.load_model(exp_dir / "model.safetensors").info.weights_sha256


@pytest.fixture
def straight(train_dir, make_system, tmp_path):
    """The weights of a run that nothing disturbed."""
    run(train_dir, tmp_path / "straight", make_system())
    return weights(tmp_path / "straight")


def test_same_seed_same_model_and_another_seed_another(train_dir, make_system, tmp_path, straight):
    run(train_dir, tmp_path / "again", make_system())
    assert weights(tmp_path / "again") == straight
    run(train_dir, tmp_path / "other", make_system(), seed=2)
    assert weights(tmp_path / "other") != straight


def test_stopped_at_any_step_it_goes_on_exactly(train_dir, make_system, tmp_path, straight, monkeypatch):
    whole_step = loop.train_step

    for stop_at in (1, 5, 11):  # before the first checkpoint, between two, before the end
        exp_dir = tmp_path / f"stopped-{stop_at}"

        def stopping(state, *rest, stop_at=stop_at):
            if state.step == stop_at:
                raise KeyboardInterrupt
            return whole_step(state, *rest)

        monkeypatch.setattr(loop, "train_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(train_dir, exp_dir, make_system())
        monkeypatch.setattr(loop, "train_step", whole_step)
        run(train_dir, exp_dir, make_system())
        assert weights(exp_dir) == straight


TRAIN = """
import sys, torch
from speakerkit.cli.train_model import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.timeout(600)  # four processes import torch one after another; on busy cores that takes minutes
def test_killed_and_terminated_runs_go_on_exactly(train_dir, make_system, toml, tmp_path, straight):
    (tmp_path / "system.toml").write_text(toml(make_system()))
    exp_dir = tmp_path / "killed"
    command = [sys.executable, "-c", TRAIN, "--config", str(tmp_path / "system.toml"), "--device", "cpu", "--nj", "1",
               "--precision", "float32", str(train_dir), str(exp_dir)]
    fault = os.environ | {"SPEAKERKIT_FAULT": "any:14:kill"}
    killed = subprocess.run(command, env=fault, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (exp_dir / "model.safetensors").exists()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (exp_dir / "checkpoints").is_dir():
        time.sleep(0.01)
    process.terminate()
    told = process.communicate()[1]
    assert process.returncode in (143, -signal.SIGTERM, 0), told  # -15: before the handler was there; 0: it was faster
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert weights(exp_dir) == straight
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and "nothing to do" in again.stderr


def test_a_damaged_checkpoint_is_skipped(train_dir, make_system, tmp_path, straight, caplog):
    exp_dir = tmp_path / "damaged"
    run(train_dir, exp_dir, make_system())
    (exp_dir / "model.safetensors").unlink()
    newest = checkpoint.list_checkpoints(exp_dir / "checkpoints")[0][1]
    newest.write_bytes(newest.read_bytes()[:-100])
    run(train_dir, exp_dir, make_system())
    assert "skipped, can't be read" in caplog.text
    assert weights(exp_dir) == straight


def test_other_options_or_data_are_refused(train_dir, make_system, tmp_path):
    exp_dir = tmp_path / "exp"
    run(train_dir, exp_dir, make_system(num_steps=2))
    with pytest.raises(ConfigError, match="system.training.learning_rate is 0.02 there, 0.01 here.*--overwrite"):
        run(train_dir, exp_dir, make_system(num_steps=2, learning_rate=0.01))
    with pytest.raises(ConfigError, match="seed is 1 there, 5 here"):
        run(train_dir, exp_dir, make_system(num_steps=2), seed=5)
    lines = (train_dir / "utt2spk").read_text().splitlines()
    (train_dir / "utt2spk").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(ConfigError, match="utterances is"):
        run(train_dir, exp_dir, make_system(num_steps=2))
    run(train_dir, exp_dir, make_system(num_steps=2), overwrite=True)


def test_the_channel_is_part_of_a_run(train_dir, make_system, tmp_path):
    system = make_system(num_steps=2)
    run(train_dir, tmp_path / "exp", system)
    with pytest.raises(ConfigError, match="channel is None there, 'random' here"):
        run(train_dir, tmp_path / "exp", system, random_channel=True)


def test_an_option_that_a_run_did_not_know_has_its_default(train_dir, make_system, tmp_path):
    exp_dir = tmp_path / "exp"
    run(train_dir, exp_dir, make_system(num_steps=2))
    known = json.loads((exp_dir / "run.json").read_text())
    del known["system"]["training"]["wccn"]
    (exp_dir / "run.json").write_text(json.dumps(known))
    run(train_dir, exp_dir, make_system(num_steps=2))  # nothing to do
    with pytest.raises(ConfigError, match="system.training.wccn is 0.0 there, 0.5 here"):
        run(train_dir, exp_dir, make_system(num_steps=2, wccn=0.5))


def test_a_run_whose_dither_was_drawn_in_another_way_does_not_go_on(train_dir, make_system, tmp_path):
    exp_dir, system = tmp_path / "exp", make_system(num_steps=2)
    run(train_dir, exp_dir, system)
    assert "dither_drawn_as" not in json.loads((exp_dir / "run.json").read_text())  # nothing is drawn
    dithered = dataclasses.replace(system, fbank=dataclasses.replace(system.fbank, dither=1.0))
    run(train_dir, exp_dir, dithered, overwrite=True)
    run(train_dir, exp_dir, dithered)  # nothing to do
    known = json.loads((exp_dir / "run.json").read_text())
    del known["dither_drawn_as"]  # as older versions wrote it
    (exp_dir / "run.json").write_text(json.dumps(known))
    with pytest.raises(ConfigError, match="dither_drawn_as is 'exact normals' there, '65536 levels' here"):
        run(train_dir, exp_dir, dithered)


def test_a_run_whose_speeds_were_made_in_another_way_does_not_go_on(train_dir, make_system, tmp_path):
    exp_dir, faster = tmp_path / "exp", make_system(num_steps=2)
    assert set(faster.augmentation.speeds) != {1.0}
    plain = dataclasses.replace(faster, augmentation=dataclasses.replace(faster.augmentation, speeds=(1.0,)))
    run(train_dir, exp_dir, plain)
    assert "speeds_made_by" not in json.loads((exp_dir / "run.json").read_text())  # every recording is as it is
    run(train_dir, exp_dir, faster, overwrite=True)
    run(train_dir, exp_dir, faster)  # nothing to do
    known = json.loads((exp_dir / "run.json").read_text())
    del known["speeds_made_by"]  # as older versions wrote it
    (exp_dir / "run.json").write_text(json.dumps(known))
    with pytest.raises(ConfigError, match="speeds_made_by is 'soxr' there, 'transforms of whole chunks' here"):
        run(train_dir, exp_dir, faster)


def test_a_step_that_is_not_finite_changes_nothing(train_dir, make_system, tmp_path, monkeypatch):
    seen = []
    forward = AamSoftmax.forward

    def poisoned(self, x, labels, margin):
        loss, accuracy = forward(self, x, labels, margin)
        seen.append(loss.item())
        return (loss * float("nan") if len(seen) == 3 else loss), accuracy

    monkeypatch.setattr(AamSoftmax, "forward", poisoned)
    run(train_dir, tmp_path / "exp", make_system())
    assert len(seen) == 12
    noted = json.loads((tmp_path / "exp" / "bad-step-2.json").read_text())
    assert noted["loss"] == "nan"
    assert len(noted["utterances"]) == 4


def test_three_steps_that_are_not_finite_end_the_run(train_dir, make_system, tmp_path, monkeypatch):
    forward = AamSoftmax.forward
    monkeypatch.setattr(AamSoftmax, "forward", lambda self, *a: tuple(v * float("nan") for v in forward(self, *a)))
    with pytest.raises(DataError, match="not finite in 3 steps in a row.*lower learning_rate"):
        run(train_dir, tmp_path / "exp", make_system())


def test_validation_keeps_the_best_and_gives_the_threshold(train_dir, make_system, tmp_path):
    ids = [line.split() for line in (train_dir / "utt2spk").read_text().splitlines()]
    pairs = [(a, b, "target" if s == t else "nontarget") for n, (a, s) in enumerate(ids) for b, t in ids[n + 1 :]]
    (tmp_path / "trials").write_text("".join(f"{a} {b} {label}\n" for a, b, label in pairs))
    exp_dir = tmp_path / "exp"
    report = run(train_dir, exp_dir, make_system(), valid_dir=str(train_dir), valid_trials=str(tmp_path / "trials"))
    assert 0 <= report["eer_percent"] <= 100
    info = model_file.read_info(exp_dir / "model.safetensors")
    assert info.threshold == pytest.approx(report["eer_threshold"], rel=1e-6)
    assert "24 target and 96 nontarget trials" in info.threshold_trials
    assert len(list((exp_dir / "best").iterdir())) == 1
    assert len(list((exp_dir / "checkpoints").iterdir())) == 2
    rows = (exp_dir / "train_log.tsv").read_text().splitlines()
    assert rows[0].split("\t")[0] == "step" and [r.split("\t")[0] for r in rows[1:]] == ["4", "6", "8", "12"]
    assert (exp_dir / "training_curve.png").read_bytes().startswith(b"\x89PNG")
    assert "accuracy" in (exp_dir / "train.log").read_text()


def test_averaged_weights_are_the_mean_of_the_last_steps(train_dir, make_system, tmp_path, monkeypatch):
    kept = []
    update = loop.update_average

    def watching(state):
        kept.append({n: p.detach().clone() for n, p in state.network.named_parameters()})
        update(state)

    monkeypatch.setattr(loop, "update_average", watching)
    run(train_dir, tmp_path / "exp", make_system())
    assert len(kept) == 6  # average_from = 0.5 of 12 steps
    mean = torch.stack([k["embedding.weight"] for k in kept]).mean(dim=0)
    network = model_file.load_model(tmp_path / "exp" / "model.safetensors").network
    torch.testing.assert_close(network.embedding.weight, mean, rtol=1e-5, atol=1e-6)


def test_wccn_is_folded_into_the_last_layer(train_dir, make_system, tmp_path, monkeypatch):
    monkeypatch.setattr(finish, "WCCN_SAMPLES", 64)
    run(train_dir, tmp_path / "plain", make_system())
    run(train_dir, tmp_path / "wccn", make_system(wccn=0.2))
    plain, normalised = (model_file.load_model(tmp_path / n / "model.safetensors").network for n in ("plain", "wccn"))
    torch.testing.assert_close(plain.trunk.stem.weight, normalised.trunk.stem.weight)
    x = torch.randn(1, 50, 24, generator=torch.Generator().manual_seed(1))
    a = normalised.embedding.weight @ torch.linalg.pinv(plain.embedding.weight)  # the map that was folded in
    torch.testing.assert_close(normalised(x), plain(x) @ a.T, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(a, a.T, rtol=1e-3, atol=1e-4)
    assert torch.linalg.eigvalsh(a).max() == pytest.approx(1.0, abs=1e-3)


def test_bad_recordings_are_listed_and_left_out_only_on_leave(train_dir, make_system, tmp_path):
    lines = (train_dir / "wav.scp").read_text().splitlines()
    cut = tmp_path / "cut.flac"  # its header is whole: this shows only when a chunk of it is read
    source = lines[0].split()[1]
    with open(source, "rb") as stream:
        cut.write_bytes(stream.read()[:3000])
    gone = lines[1].split()[0]
    rows = [f"{lines[0].split()[0]} {cut}", f"{gone} {tmp_path}/gone.flac", *lines[2:]]
    (train_dir / "wav.scp").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"exp.bad.tsv: . of 16 recordings can't be used.*train-model --max-bad ."):
        run(train_dir, tmp_path / "exp", make_system())
    assert (tmp_path / "exp.bad.tsv").read_text().startswith("id\tpath\treason\tdetail\n")
    report = run(train_dir, tmp_path / "exp", make_system(), allowed_bad=2)
    assert report["num_bad"] in (1, 2)
    assert (tmp_path / "exp" / "model.safetensors").is_file()
