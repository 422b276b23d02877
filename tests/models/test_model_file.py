"""Model files: what is written is what is read, and what was damaged is never taken for a model."""

import json
import os
import pickle
import random
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from speakerkit.config import FbankConfig
from speakerkit.errors import DataError
from speakerkit.models import find, model_file, model_info
from speakerkit.models.find import find_model
from speakerkit.models.golden import golden_embedding, golden_signal
from speakerkit.models.model_file import ModelInfo, load_model, read_info, save_model
from speakerkit.models.networks import make_network

FBANK = FbankConfig(num_mel_bins=24, dither=0.0, window_type="hamming")


@pytest.fixture
def network(make_small_network):
    return make_small_network("resnet34")


@pytest.fixture
def info(network) -> ModelInfo:
    from speakerkit.config import ModelConfig

    config = ModelConfig(base_channels=4, num_blocks=(1, 1, 1, 1), embedding_dim=16)
    return ModelInfo("small", config, FBANK, training_data="说话人, 3 h", domain="read speech", licence="CC BY 4.0",
                     threshold=0.3125, threshold_trials="100 of 20 speakers",
                     calibration={"scale": 7.5, "offset": -2.0}, training={"steps": 12},
                     results={"held out": {"eer_percent": 4.5}})


@pytest.fixture
def saved(tmp_path, network, info) -> Path:
    save_model(tmp_path / "small.safetensors", network, info)
    return tmp_path / "small.safetensors"


def split_file(path: Path) -> tuple[dict, bytes]:
    """Header and tensors of a safetensors file."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def join_file(path: Path, header: object, tensors: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)


def change_facts(path: Path, **changes) -> None:
    """Another metadata, with a right sum: what a hand or another program made."""
    header, tensors = split_file(path)
    facts = json.loads(header["__metadata__"]["speakerkit"]) | changes
    if "facts_sha256" not in changes:
        facts["facts_sha256"] = model_info.hash_facts(facts)
    header["__metadata__"]["speakerkit"] = json.dumps(facts)
    join_file(path, header, tensors)


# --- written and read ----------------------------------------------------------------------------------------------


def test_what_is_written_is_read(saved, network, info):
    loaded = load_model(saved)
    assert loaded.path == str(saved) and len(loaded.sha256) == 64
    assert not loaded.network.training and not any(p.requires_grad for p in loaded.network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor), name
    assert loaded.info == read_info(saved)
    for field in ("name", "model", "fbank", "training_data", "domain", "licence", "threshold", "threshold_trials",
                  "calibration", "training", "results"):
        assert getattr(loaded.info, field) == getattr(info, field)
    assert len(loaded.info.golden) == loaded.info.embedding_dim == 16


def test_the_same_weights_make_the_same_bytes(tmp_path, saved, network, info):
    save_model(tmp_path / "again.safetensors", network.to(memory_format=torch.channels_last), info)
    assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


def test_half_precision_halves_the_file_and_hardly_moves_the_embedding(tmp_path, saved, network, info):
    half = tmp_path / "half.safetensors"
    save_model(half, network, info, half=True)
    header, _ = split_file(half)
    kinds = {name: facts["dtype"] for name, facts in header.items() if name != "__metadata__"}
    assert kinds["trunk.stem.weight"] == kinds["embedding.weight"] == "F16"
    assert kinds["trunk.stem_norm.running_var"] == "F32"
    assert half.stat().st_size < 0.7 * saved.stat().st_size
    ours = torch.tensor(golden_embedding(load_model(half).network, FBANK, info.model))
    assert torch.cosine_similarity(ours, torch.tensor(load_model(saved).info.golden), dim=0) > 0.9999


def test_the_golden_signal_is_the_same_everywhere():
    """2 s of numbers between -1 and 1 that depend on no library's generator but numpy's PCG64."""
    signal = golden_signal(16000)
    assert signal.shape == (32000,) and signal.dtype == "float32"
    assert 0.1 < abs(signal).max() < 1.0
    assert [round(float(signal[n]), 6) for n in (1000, 20000)] == GOLDEN_SAMPLES


GOLDEN_SAMPLES = [0.002613, -0.013986]  # of this code in its first release, numpy 2.4


def test_other_metadata_keys_are_let_pass(saved):
    change_facts(saved, later="something")
    assert load_model(saved).info.name == "small"


# --- damaged -------------------------------------------------------------------------------------------------------


def test_cut_anywhere_it_is_refused(saved, tmp_path):
    data = saved.read_bytes()
    header_end = 8 + struct.unpack("<Q", data[:8])[0]
    places = [*range(64), *range(64, header_end, 97), *range(header_end - 3, header_end + 3),
              *range(header_end, len(data), 4999), len(data) - 1]
    cut = tmp_path / "cut.safetensors"
    for place in places:
        cut.write_bytes(data[:place])
        with pytest.raises(DataError, match=r"truncated|is no model file|damaged") as caught:
            load_model(cut, golden=False)
        assert str(caught.value).startswith(f"{cut}: ")
    cut.write_bytes(data + b"x")
    with pytest.raises(DataError, match="truncated or damaged"):
        load_model(cut, golden=False)


def test_a_flipped_bit_is_refused(saved, tmp_path):
    """Or it does no harm, as in the name of the metadata's own sum."""
    data, whole = saved.read_bytes(), load_model(saved)
    header_end = 8 + struct.unpack("<Q", data[:8])[0]
    draw = random.Random(1)
    places = [*range(8), *draw.sample(range(8, header_end), 150), *draw.sample(range(header_end, len(data)), 50)]
    flipped, refused = tmp_path / "flipped.safetensors", 0
    for place in places:
        flipped.write_bytes(data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1:])
        try:
            loaded = load_model(flipped, golden=False)
        except DataError:
            refused += 1
        else:
            assert loaded.info == whole.info, place
    assert refused >= len(places) - 2


def test_an_empty_file_a_folder_and_none(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(DataError, match="is no model file"):
        load_model(tmp_path / "empty")
    with pytest.raises(DataError, match="can't be read: Is a directory"):
        load_model(tmp_path)
    with pytest.raises(DataError, match="no such model file"):
        load_model(tmp_path / "gone")


def test_a_pickle_is_never_run(tmp_path):
    class Touch:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/marker",)

    torch.save({"weight": Touch()}, tmp_path / "archive.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Touch()))
    for name in ("archive.pt", "plain.pkl"):
        with pytest.raises(DataError, match="is no model file"):
            load_model(tmp_path / name)
    assert not (tmp_path / "marker").exists()


def test_a_page_of_html(tmp_path):
    (tmp_path / "model.safetensors").write_text("<!DOCTYPE html><title>Not found</title>")
    with pytest.raises(DataError, match=r"is no model file \(it starts with b'<!DOCTYP'\)"):
        load_model(tmp_path / "model.safetensors")


def test_a_huge_header_is_not_read(tmp_path):
    (tmp_path / "model").write_bytes(struct.pack("<Q", 1 << 60) + b"{" * 100)
    with pytest.raises(DataError, match="is no model file"):
        load_model(tmp_path / "model")


def test_safetensors_of_others(tmp_path, network):
    safetensors.torch.save_file(dict(network.state_dict()), tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"has no speakerkit metadata.*import-model"):
        load_model(tmp_path / "other.safetensors")


@pytest.mark.parametrize("header, message", [
    (b"{not json", "the header is no JSON"),
    (b"{" * 5000, "the header is no JSON"),
    ({"__metadata__": {"speakerkit": "{not json"}}, "the header is no JSON"),
    ({"__metadata__": {"speakerkit": "[1, 2]"}}, "its metadata is no JSON object"),
    ({"__metadata__": {"speakerkit": 5}}, "has no speakerkit metadata"),
    ({"__metadata__": []}, "has no speakerkit metadata"),
])
def test_headers_that_are_none(tmp_path, header, message):
    join_file(tmp_path / "model", header, b"")
    with pytest.raises(DataError, match=message):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("changes, message", [
    ({"format": 2}, "is of format 2; this speakerkit reads format 1"),
    ({"format": None}, "is of format None"),
    ({"threshold": 0.4125, "facts_sha256": "0" * 64}, "its metadata doesn't have the SHA-256 it names"),
    ({"threshold": "high"}, "'threshold' is 'high'"),
    ({"name": 5}, "'name' is 5"),
    ({"results": []}, r"'results' is \[\]"),
    ({"golden": ["x"] * 16}, "incomplete: could not convert"),
    ({"golden": [0.5] * 15 + [-0.5]}, "gives another embedding for its golden signal: cosine"),
    ({"golden": [0.5] * 3}, "gives another embedding for its golden signal: cosine 0.0"),
    ({"model": {"embedding_dim": 16, "architecture": "resnet99"}}, "architecture is 'resnet99'"),
    ({"model": {"embedding_dims": 16}}, "did you mean 'embedding_dim'"),
    ({"model": {"base_channels": 8, "num_blocks": [1, 1, 1, 1], "embedding_dim": 16}}, "has shape .*; want"),
    ({"model": {"base_channels": 4, "num_blocks": [2, 1, 1, 1], "embedding_dim": 16}}, "missing .*don't fit|don't fit"),
    ({"fbank": {"num_mel_bins": -1}}, "num_mel_bins -1 is outside"),
    ({"weights_sha256": "0" * 64}, "its weights don't have the SHA-256 it names"),
])
def test_metadata_that_does_not_fit(saved, changes, message):
    change_facts(saved, **changes)
    with pytest.raises(DataError, match=message):
        load_model(saved)


def test_other_front_ends_are_told_by_the_golden_vector(saved):
    """A model with another window, or with 16-bit scale lost, would answer, and wrongly."""
    for change in ({"window_type": "rectangular"}, {"low_freq": 300.0}):
        header, tensors = split_file(saved)
        facts = json.loads(header["__metadata__"]["speakerkit"])
        change_facts(saved, fbank=facts["fbank"] | change)
        with pytest.raises(DataError, match="gives another embedding"):
            load_model(saved)
        join_file(saved, header, tensors)


def test_a_small_file_that_names_a_huge_network(saved, monkeypatch):
    """Its weights would take 10 TB: refused by names and shapes, before any memory is taken."""
    facts = json.loads(split_file(saved)[0]["__metadata__"]["speakerkit"])
    change_facts(saved, model=facts["model"] | {"base_channels": 4096, "num_blocks": [64, 64, 64, 64]})
    monkeypatch.setattr(model_file, "make_network", None)
    with pytest.raises(DataError, match="the weights don't fit the architecture: "):
        load_model(saved)
    change_facts(saved, model=facts["model"] | {"base_channels": 4096})
    with pytest.raises(DataError, match=r"has shape \[[\d, ]+\]; want \["):
        load_model(saved)


def test_weights_that_give_zeros(tmp_path, network, info):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    with pytest.raises(DataError, match="is not written: with these weights every value of an embedding is zero"):
        save_model(tmp_path / "zero.safetensors", network, info)
    assert not (tmp_path / "zero.safetensors").exists()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite(tmp_path, saved, network, info, value):
    network.embedding.weight[3, 5] = value
    with pytest.raises(DataError, match="'embedding.weight' holds values that aren't finite"):
        save_model(tmp_path / "nan.safetensors", network, info)
    assert not (tmp_path / "nan.safetensors").exists()
    header, _ = split_file(saved)
    tensors = model_file.model_tensors(network)
    facts = json.loads(header["__metadata__"]["speakerkit"]) | {"weights_sha256": model_file.hash_weights(tensors)}
    facts["facts_sha256"] = model_info.hash_facts(facts)
    saved.write_bytes(safetensors.torch.save(tensors, metadata={"speakerkit": json.dumps(facts)}))
    with pytest.raises(DataError, match="'embedding.weight' holds values that aren't finite"):
        load_model(saved)


def test_a_full_disk_leaves_the_old_file(saved, network, info, monkeypatch):
    from speakerkit.errors import MachineError

    before = saved.read_bytes()
    monkeypatch.setenv("SPEAKERKIT_FAULT", "fsync:1:enospc")
    monkeypatch.setattr("speakerkit.io.output._fault_counts", {})
    with pytest.raises(MachineError, match="no space left on device"):
        save_model(saved, make_network(info.model, 24).eval(), info)
    assert saved.read_bytes() == before


# --- found by name -------------------------------------------------------------------------------------------------


def test_find_model(saved, tmp_path, monkeypatch):
    monkeypatch.delenv("SPEAKERKIT_MODEL", raising=False)
    assert find_model(saved) == saved
    (tmp_path / "exp").mkdir()
    with pytest.raises(DataError, match="exp: is a folder without model.safetensors: training hasn't finished there"):
        find_model(tmp_path / "exp")
    (tmp_path / "exp/model.safetensors").write_bytes(saved.read_bytes())
    assert find_model(tmp_path / "exp") == tmp_path / "exp/model.safetensors"
    with pytest.raises(DataError, match=r"gone: no such model \(--model\); want a .safetensors file"):
        find_model("gone")
    monkeypatch.setenv("SPEAKERKIT_MODEL", str(saved))
    assert find_model(None) == saved
    monkeypatch.setenv("SPEAKERKIT_MODEL", "gone")
    with pytest.raises(DataError, match=r"gone: no such model \(\$SPEAKERKIT_MODEL\)"):
        find_model(None)


def test_names_that_are_no_model(tmp_path, monkeypatch):
    monkeypatch.delenv("SPEAKERKIT_MODEL", raising=False)
    with pytest.raises(DataError, match="--model: is empty; want a model file"):  # an unset variable in a script
        find_model("")
    with pytest.raises(DataError, match="can't be read: file name too long"):
        find_model("a/" * 5000)
    monkeypatch.setenv("SPEAKERKIT_MODEL", "")
    assert find_model(None) == find._bundled_files()[0]


def test_find_a_bundled_model(saved, tmp_path, monkeypatch):
    package = tmp_path / "speakerkit"
    (package / "models").mkdir(parents=True)
    (package / "pretrained").mkdir()
    monkeypatch.setattr(find, "__file__", str(package / "models/find.py"))
    monkeypatch.delenv("SPEAKERKIT_MODEL", raising=False)
    with pytest.raises(DataError, match="no model is bundled with this installation; name one"):
        find_model(None)
    bundled = package / "pretrained/talker.safetensors"
    bundled.write_bytes(saved.read_bytes())
    assert find_model(None) == find_model("talker") == bundled
    with pytest.raises(DataError, match="one of talker, or a published one"):
        find_model("walker")
