"""extract-embeddings as installed; what it does is tested in tests/jobs/test_extraction.py."""

import json

import kaldiio
import numpy as np
import pytest
import torch

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.io import files
from speakerkit.models import model_file, networks


@pytest.fixture
def model(tmp_path):
    """An experiment folder with a small, untrained model."""
    config = ModelConfig(base_channels=4, num_blocks=(1, 1, 1, 1), embedding_dim=16)
    network = networks.make_network(config, 80)
    networks.initialise(network, torch.Generator().manual_seed(1))
    (tmp_path / "exp").mkdir()
    model_file.save_model(tmp_path / "exp/model.safetensors", network.eval(), model_file.ModelInfo(
        "small", config, FbankConfig()))
    return tmp_path / "exp"


def test_from_wav_scp_to_embeddings(run_command, speech_wav_scp, tmp_path, model):
    """One run through the door: an experiment folder as the model, two workers, relative paths, --json, --quiet."""
    speech_wav_scp(tmp_path / "data", speakers=2, recordings=2)
    command = ["extract-embeddings", "--nj", 2, "--precision", "float32", "--json", "out.json"]
    ended = run_command(*command, "--quiet", "data/wav.scp", "out/emb.ark", cwd=tmp_path,
                        env={"SPEAKERKIT_MODEL": "exp", "LC_ALL": "C"})
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    embeddings = dict(kaldiio.load_ark(str(tmp_path / "out/emb.ark")))
    assert len(embeddings) == 4
    assert all(e.shape == (16,) and e.dtype == np.float32 for e in embeddings.values())
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["status"] == "ok" and report["num_utterances"] == 4
    assert report["sha256"] == files.sha256_file(model / "model.safetensors")
    manifest = files.read_manifest(tmp_path / "out/emb.ark")
    assert manifest["results"]["model_sha256"] == report["sha256"]
    ended = run_command(*command, "--model", model, "data/wav.scp", "out/emb.ark", cwd=tmp_path)
    assert ended.returncode == 0
    assert "extract-embeddings: out/emb.ark: nothing to do, it is up to date\n" in ended.stderr


def test_two_options_that_go_together(run_command, tmp_path):
    (tmp_path / "wav.scp").write_text("a a.wav\n")
    ended = run_command("extract-embeddings", "--average", tmp_path / "wav.scp", tmp_path / "emb.ark")
    assert ended.returncode == 2
    assert ended.stderr == "extract-embeddings: --average and --spk2utt go together\n"


def test_a_list_that_is_not_there(run_command, tmp_path):
    ended = run_command("extract-embeddings", tmp_path / "wav.scp", tmp_path / "emb.ark")
    assert ended.returncode == 1
    assert ended.stderr == f"extract-embeddings: {tmp_path}/wav.scp: no such file\n"
