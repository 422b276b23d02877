"""A model is exported once; what is kept is checked, and made again where it is damaged."""

import os

import pytest

from speakerkit.inference import export_cache
from speakerkit.inference.backends import load_extractor
from speakerkit.io import files
from speakerkit.models import onnx_file


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SPEAKERKIT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def export(models):
    path = models["resnet34"]
    return lambda: export_cache.exported(str(path), files.sha256_file(path))


def test_it_is_made_once(cache, export, monkeypatch):
    kept, info = export()
    assert [os.path.join(cache, name) for name in os.listdir(cache)] == [kept] and info.name == "resnet34"
    monkeypatch.setattr(export_cache, "_make", lambda path: pytest.fail("exported again"))
    assert export() == (kept, info)


def test_a_damaged_one_is_made_again(cache, export):
    kept, _ = export()
    with open(kept, "r+b") as stream:
        stream.seek(5000)
        stream.write(b"xxxx")
    assert export()[0] == kept
    assert onnx_file.read_onnx(kept)[1].name == "resnet34"


@pytest.mark.parametrize("place", ["file/cache", "a" * 300])  # no folder, and one that can't even be asked after
def test_where_nothing_can_be_kept_it_runs_from_memory(monkeypatch, tmp_path, models, utterances, place):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SPEAKERKIT_CACHE_DIR", str(tmp_path / place))
    for backend in ("onnx", "openvino"):
        extractor = load_extractor(models["resnet34"], "cpu", "float32", backend)
        assert isinstance(extractor.choice.graph, bytes)
        assert extractor.embed_samples(utterances[0], 16000).shape == (16,)


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("SPEAKERKIT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert export_cache.cache_folder() == tmp_path / "speakerkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(export_cache.cache_folder()) == "/home/somebody/.cache/speakerkit"
