"""Training drawn to another model's embeddings, and the targets it is drawn to."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from speakerkit.config import AugmentationConfig, FbankConfig, ModelConfig
from speakerkit.errors import ConfigError, DataError
from speakerkit.features.fbank import compute_fbank
from speakerkit.io.audio import AudioOptions
from speakerkit.models import model_file
from speakerkit.training import teacher, train

VOICES = AugmentationConfig(speeds=(0.9, 1.0), vtln_warps=(1.0, 1.1))


@pytest.fixture
def run(train_dir, tmp_path):
    """``run(name, system, ...)``: one run into tmp_path / name, its report."""

    def run(name, system, **options):
        chosen = train.TrainOptions(**({"device": "cpu", "precision": "float32", "nj": 1, "show": False} | options))
        report = {}
        train.train_model(train_dir, tmp_path / name, system, chosen, AudioOptions(), lambda total: 0, report)
        return report

    return run


@pytest.fixture
def teacher_path(run, make_system, tmp_path):
    """A tiny network of another front end, trained for a moment: 16 Mel bins of samples in [-1, 1], 12 values."""
    system = dataclasses.replace(
        make_system(num_steps=4),
        fbank=FbankConfig(num_mel_bins=16, waveform_scale=1.0, window_type="hamming"),
        model=ModelConfig(embedding_dim=12, base_channels=4, num_blocks=(1, 1, 1, 1)),
    )
    run("teacher", system)
    return str(tmp_path / "teacher" / "model.safetensors")


def with_teacher(system, weight=20.0, **loss):
    return dataclasses.replace(system, loss=dataclasses.replace(system.loss, teacher_weight=weight, **loss))


def test_targets_are_means_of_the_teachers_embeddings_in_each_voice(run, make_system, teacher_path, tmp_path):
    system = with_teacher(make_system(augmentation=VOICES, num_steps=2), teacher_recordings=99)
    run("exp", system, teacher=teacher_path)
    made = teacher.safetensors.torch.load_file(tmp_path / "exp" / "teacher_targets.safetensors")["targets"]
    speakers = (tmp_path / "exp" / "speakers").read_text().split()
    assert len(speakers) == len(made) == 4 * 2 * 2
    assert {s.rpartition("-")[0] for s in speakers} == {"", "sp0.9", "vtln1.1", "vtln1.1-sp0.9"}
    # The plain way for one speaker through a shorter tract: each recording by itself, then the mean.
    model = model_file.load_model(teacher_path)
    spk_id = next(s for s in speakers if s.startswith("vtln1.1-") and "sp" not in s)
    chunks, rows = _chunks(tmp_path / "train", system), []
    for item in np.flatnonzero(chunks.labels == chunks.speakers.index(spk_id)):
        recording = chunks.recordings[item % len(chunks.utt_ids)]
        samples = torch.from_numpy(recording.read(0, recording.num_samples)[: 8 * 16000])
        features = compute_fbank(samples, model.info.fbank, vtln_warp=1.1)
        rows.append(F.normalize(model.network((features - features.mean(0))[None]), dim=1)[0])
    expected = F.normalize(torch.stack(rows).mean(0), dim=0)
    torch.testing.assert_close(made[speakers.index(spk_id)], expected, rtol=1e-4, atol=1e-5)


def _chunks(train_dir, system):
    from speakerkit.io.bad_recordings import BadRecordings
    from speakerkit.training import setup

    return setup.make_chunks(train_dir, system, AudioOptions(), BadRecordings(""), False)


def test_the_network_is_drawn_to_the_teacher(run, make_system, teacher_path, tmp_path):
    run("with", with_teacher(make_system(num_steps=40, log_interval=10), 20.0), teacher=teacher_path)
    rows = [line.split("\t") for line in (tmp_path / "with" / "train_log.tsv").read_text().splitlines()]
    likeness = [float(r[rows[0].index("likeness")]) for r in rows[1:]]
    assert likeness[-1] > likeness[0] + 0.1  # from 0.1 to 0.5 and more on this seed
    assert "likeness" in (tmp_path / "with" / "train.log").read_text()
    info = model_file.read_info(tmp_path / "with" / "model.safetensors")
    assert info.training["teacher"]["sha256"] == model_file.sha256_of(teacher_path)


def test_workers_change_nothing(train_dir, make_system, teacher_path, tmp_path):
    chunks = _chunks(train_dir, make_system(augmentation=VOICES))
    loaded = teacher.Teacher(model_file.load_model(teacher_path), torch.device("cpu"), torch.float32)
    made = []
    for num_workers in (0, 2):
        (tmp_path / str(num_workers)).mkdir()
        made.append(teacher.teacher_targets(loaded, chunks, 2, tmp_path / str(num_workers), 1, num_workers, False))
    assert torch.equal(*made)


def test_a_killed_run_embeds_no_class_twice(run, make_system, teacher_path, tmp_path, monkeypatch):
    system = with_teacher(make_system(augmentation=VOICES, num_steps=2))
    run("straight", system, teacher=teacher_path)
    embed, calls = teacher.Teacher.embed, []

    def failing(self, *args):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return embed(self, *args)

    monkeypatch.setattr(teacher, "SAVE_EVERY", 2)
    monkeypatch.setattr(teacher.Teacher, "embed", failing)
    with pytest.raises(KeyboardInterrupt):
        run("killed", system, teacher=teacher_path)
    run("killed", system, teacher=teacher_path)
    assert len(calls) == 30 + 16 * 4 - 6 * 4  # six classes of four recordings were kept
    straight, killed = (model_file.read_info(tmp_path / n / "model.safetensors") for n in ("straight", "killed"))
    assert straight.weights_sha256 == killed.weights_sha256


def test_another_teacher_or_a_damaged_file_of_targets_is_not_taken(run, make_system, teacher_path, tmp_path, caplog):
    system = with_teacher(make_system(num_steps=2))
    run("exp", system, teacher=teacher_path)
    wanted = model_file.read_info(tmp_path / "exp" / "model.safetensors").weights_sha256
    for damage in (b"", b"no safetensors", None):
        path = tmp_path / "exp" / "teacher_targets.safetensors"
        path.write_bytes(path.read_bytes()[:-8] if damage is None else damage)
        for file in (tmp_path / "exp" / "model.safetensors", *(tmp_path / "exp" / "checkpoints").iterdir()):
            file.unlink()
        run("exp", system, teacher=teacher_path)
        assert model_file.read_info(tmp_path / "exp" / "model.safetensors").weights_sha256 == wanted
        assert "can't be read" in caplog.text
    with pytest.raises(ConfigError, match="teacher is '[0-9a-f]+' there, '[0-9a-f]+' here"):
        run("exp", system, teacher=str(tmp_path / "exp"))


def test_refusals(run, make_system, teacher_path, train_dir):
    with pytest.raises(ConfigError, match="--teacher and a .* teacher_weight above 0 go together"):
        run("exp", make_system(), teacher=teacher_path)
    with pytest.raises(ConfigError, match="go together"):
        run("exp", with_teacher(make_system()))
    with pytest.raises(DataError, match="no such model"):
        run("exp", with_teacher(make_system()), teacher="nowhere.safetensors")
    slow = with_teacher(make_system())
    slow = dataclasses.replace(slow, fbank=FbankConfig(num_mel_bins=24, sample_rate=8000))
    with pytest.raises(ConfigError, match="the teacher is for 16000 Hz, .* is 8000"):
        run("exp", slow, teacher=teacher_path)


def test_stored_features_are_refused(teacher_path, tmp_path):
    loaded = teacher.Teacher(model_file.load_model(teacher_path), torch.device("cpu"), torch.float32)
    with pytest.raises(ConfigError, match="--teacher needs recordings"):
        teacher.teacher_targets(loaded, object(), 4, tmp_path, 1, 0, False)


def test_targets_that_cancel_out_are_refused(run, make_system, teacher_path, monkeypatch):
    signs = iter([1, -1] * 1000)
    direction = np.eye(12, dtype=np.float32)[0]
    monkeypatch.setattr(teacher.Teacher, "embed", lambda self, samples, warp: next(signs) * direction)
    with pytest.raises(DataError, match="its embeddings of '.*' cancel out"):
        run("exp", with_teacher(make_system()), teacher=teacher_path)


def test_targets_of_another_length_keep_their_cosines():
    targets = F.normalize(torch.randn(5, 12, generator=torch.Generator().manual_seed(1)), dim=1)
    for dim in (12, 40, 5):  # 5 vectors lie in 5 dimensions
        fitted = teacher.fit_targets(targets, dim)
        assert fitted.shape == (5, dim)
        torch.testing.assert_close(fitted @ fitted.T, targets @ targets.T, rtol=1e-5, atol=1e-6)


def test_loss_by_hand():
    embedding = torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    loss, likeness = teacher.teacher_loss(embedding, targets)  # cosines 1 and 0
    assert loss.item() == likeness.item() == pytest.approx(0.5)


def test_a_run_from_before_teachers_goes_on(run, make_system, tmp_path):
    run("exp", make_system(num_steps=2))
    known = json.loads((tmp_path / "exp" / "run.json").read_text())
    for name in ("teacher", "init"):
        assert known.pop(name) == ""
    (tmp_path / "exp" / "run.json").write_text(json.dumps(known))
    run("exp", make_system(num_steps=2))  # nothing to do
