"""Training that begins with a model: what is kept, what is drawn anew, what stays as it is at first."""

import dataclasses
import re

import pytest
import torch

from speakerkit.config import ModelConfig
from speakerkit.errors import ConfigError, DataError
from speakerkit.io.audio import AudioOptions
from speakerkit.models import model_file
from speakerkit.training import checkpoint, loop, train


@pytest.fixture
def run(train_dir, tmp_path):
    """``run(name, system, ...)``: one run into tmp_path / name, the names of its classes."""

    def run(name, system, **options):
        chosen = train.TrainOptions(**({"device": "cpu", "precision": "float32", "nj": 1, "show": False} | options))
        train.train_model(train_dir, tmp_path / name, system, chosen, AudioOptions(), lambda total: 0, {})
        return (tmp_path / name / "speakers").read_text().split()

    return run


@pytest.fixture
def begin(monkeypatch):
    """The network's and the classifier's weights as the first step found them."""
    seen, step = {}, loop.train_step

    def watching(state, *rest):
        if state.step == 0:
            seen["network"] = {n: t.detach().clone() for n, t in state.network.state_dict().items()}
            seen["rows"] = state.loss.weight.detach().clone()
        return step(state, *rest)

    monkeypatch.setattr(loop, "train_step", watching)
    return seen


def last(tmp_path, name):
    return model_file.load_model(tmp_path / name / "model.safetensors").network.state_dict()


def final_rows(tmp_path, name):
    path = checkpoint.list_checkpoints(tmp_path / name / "checkpoints")[0][1]
    return checkpoint.safetensors.torch.load_file(path)["loss.weight"]


def test_a_model_file_gives_its_network(run, make_system, tmp_path, begin):
    run("first", make_system())
    wanted = last(tmp_path, "first")
    run("second", make_system(num_steps=2), init=str(tmp_path / "first" / "model.safetensors"))
    for name, tensor in wanted.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(begin["network"][name], tensor, rtol=0, atol=0)
    info = model_file.read_info(tmp_path / "second" / "model.safetensors")
    assert info.training["init"] == {
        "name": "first",
        "sha256": model_file.sha256_of(tmp_path / "first" / "model.safetensors"),
        "num_shared_speakers": 0,
    }


def test_an_experiment_gives_the_rows_of_speakers_it_knows(run, make_system, train_dir, tmp_path, begin):
    known = run("first", make_system())
    rows = final_rows(tmp_path, "first")
    spk_id = known[0]
    for name in ("utt2spk", "wav.scp"):
        text = re.sub(rf"(?m)^{spk_id}-", "zz-new-", (train_dir / name).read_text())
        (train_dir / name).write_text(re.sub(rf"(?m) {spk_id}$", " zz-new", text))
    now = run("second", make_system(num_steps=2), init=str(tmp_path / "first"))
    shared = set(known) & set(now)
    assert len(shared) == len(now) - 2  # at two speeds
    for row, speaker in enumerate(now):
        if speaker in shared:
            torch.testing.assert_close(begin["rows"][row], rows[known.index(speaker)], rtol=0, atol=0)
    info = model_file.read_info(tmp_path / "second" / "model.safetensors")
    assert info.training["init"]["num_shared_speakers"] == len(shared)


def test_another_embedding_layer_is_drawn_anew(run, make_system, tmp_path, begin, caplog):
    run("first", make_system())
    system = make_system(num_steps=2)
    wider = dataclasses.replace(system, model=dataclasses.replace(system.model, embedding_dim=20))
    run("second", wider, init=str(tmp_path / "first"))
    wanted = last(tmp_path, "first")
    torch.testing.assert_close(begin["network"]["trunk.stem.weight"], wanted["trunk.stem.weight"], rtol=0, atol=0)
    assert begin["network"]["embedding.weight"].shape[0] == 20
    assert "drawn anew: embedding;" in caplog.text


def test_the_trunk_stays_while_the_head_warms_up(run, make_system, tmp_path, monkeypatch):
    run("first", make_system())
    trunks, step = [], loop.train_step

    def watching(state, *rest):
        trunks.append({n: t.clone() for n, t in state.network.trunk.state_dict().items()})
        heads.append(state.network.embedding.weight.detach().clone())
        return step(state, *rest)

    heads = []
    monkeypatch.setattr(loop, "train_step", watching)
    run("second", make_system(head_only=0.5), init=str(tmp_path / "first"))
    same = [all(torch.equal(t[n], trunks[0][n]) for n in t) for t in trunks]
    assert same == [True] * 7 + [False] * 5  # as the sixth of twelve steps left it; batch norm statistics too
    assert not torch.equal(heads[0], heads[1])


def test_head_only_means_nothing_without_a_model(run, make_system, tmp_path):
    run("plain", make_system())
    run("asked", make_system(head_only=0.5))
    plain, asked = last(tmp_path, "plain"), last(tmp_path, "asked")
    assert all(torch.equal(plain[n], asked[n]) for n in plain)


def test_stopped_while_the_head_warms_up_it_goes_on_exactly(run, make_system, tmp_path, monkeypatch):
    run("first", make_system())
    system, init, step = make_system(head_only=0.5), str(tmp_path / "first"), loop.train_step
    run("straight", system, init=init)

    def stopping(state, *rest):
        if state.step == 5:
            raise KeyboardInterrupt
        return step(state, *rest)

    monkeypatch.setattr(loop, "train_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        run("stopped", system, init=init)
    monkeypatch.setattr(loop, "train_step", step)
    run("stopped", system, init=init)
    straight, stopped = last(tmp_path, "straight"), last(tmp_path, "stopped")
    assert all(torch.equal(straight[n], stopped[n]) for n in straight)


def test_refusals(run, make_system, tmp_path):
    run("first", make_system())
    system = make_system(num_steps=2)
    other = dataclasses.replace(system, model=ModelConfig(embedding_dim=16, base_channels=8, num_blocks=(1, 1, 1, 1)))
    with pytest.raises(ConfigError, match=r"its network or features are others: \[model\] base_channels 4 \(here: 8\)"):
        run("second", other, init=str(tmp_path / "first"))
    other = dataclasses.replace(system, fbank=dataclasses.replace(system.fbank, window_type="hamming"))
    with pytest.raises(ConfigError, match=r"\[fbank\] window_type 'povey' \(here: 'hamming'\)"):
        run("third", other, init=str(tmp_path / "first"))
    with pytest.raises(DataError, match="no such model"):
        run("fourth", system, init=str(tmp_path / "nowhere"))


def test_a_table_says_what_training_brought(run, make_system, train_dir, tmp_path):
    ids = [line.split() for line in (train_dir / "utt2spk").read_text().splitlines()]
    (tmp_path / "trials").write_text("".join(
        f"{a} {b} {'target' if s == t else 'nontarget'}\n" for n, (a, s) in enumerate(ids) for b, t in ids[n + 1 :]))
    valid = {"valid_dir": str(train_dir), "valid_trials": str(tmp_path / "trials")}
    run("first", make_system(), **valid)
    first = model_file.read_info(tmp_path / "first" / "model.safetensors").results["trials"]["eer_percent"]
    run("second", make_system(num_steps=2), init=str(tmp_path / "first"), **valid)
    second = model_file.read_info(tmp_path / "second" / "model.safetensors")
    table = (tmp_path / "second" / "before_after.md").read_text()
    assert "24 target and 96 nontarget trials" in table
    assert f"| before: first | {first:.3f} |" in table
    assert f"| after | {second.results['trials']['eer_percent']:.3f} |" in table
    assert second.training["init"]["before"]["eer_percent"] == pytest.approx(first)
    assert not (tmp_path / "first" / "before_after.md").exists()
