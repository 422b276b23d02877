"""What OpenVINO compiled is taken up again: the same bytes, only where nothing has changed, never where damaged."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from speakerkit.inference import backends, compiled_cache, export_cache, onnx_export, openvino_runner
from speakerkit.inference.backends import load_extractor
from speakerkit.models import device, model_file


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SPEAKERKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(device, "cpu_flags", lambda: frozenset({"avx2", "fma"}))
    return tmp_path / "cache"


@pytest.fixture
def compilations(monkeypatch):
    """How often a graph is compiled: its parts are cut anew each time."""
    counted, cut_parts = [], openvino_runner._cut_parts
    monkeypatch.setattr(openvino_runner, "_cut_parts", lambda *args: counted.append(1) or cut_parts(*args))
    return counted


@pytest.mark.parametrize("kind", ["resnet34", "sibling", "no mean"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_second_time_gives_the_same_bytes_without_the_graph(cache, models, utterances, compilations, monkeypatch,
                                                                kind, precision):
    first = load_extractor(models[kind], "cpu", precision, "openvino")
    monkeypatch.setattr(export_cache, "exported", lambda *_: pytest.fail("the exported graph is read"))
    second = load_extractor(models[kind], "cpu", precision, "openvino")
    assert len(compilations) == 1 and second.info == first.info and second.golden_cosine == first.golden_cosine
    for samples in utterances[:3]:
        assert second.embed_samples(samples, 16000).tobytes() == first.embed_samples(samples, 16000).tobytes()


def test_an_onnx_model_too(cache, graphs, models, utterances, compilations):
    ours = [load_extractor(graphs["resnet34"], "cpu", "float32", "openvino") for _ in range(2)]
    assert len(compilations) == 1
    by_model = load_extractor(models["resnet34"], "cpu", "float32", "openvino")
    assert len(compilations) == 2  # another file is another model
    assert len({e.embed_samples(utterances[0], 16000).tobytes() for e in (*ours, by_model)}) == 1


@pytest.mark.parametrize("place", ["magic", "header", "weights"])
def test_a_damaged_one_is_made_again(cache, models, utterances, compilations, place):
    first = load_extractor(models["resnet34"], "cpu", "float32", "openvino")
    kept, = cache.glob("*.openvino")
    whole = bytearray(kept.read_bytes())
    whole[{"magic": 0, "header": 300, "weights": len(whole) - 2 * compiled_cache.PAGE}[place]] ^= 1
    kept.write_bytes(whole)
    again = load_extractor(models["resnet34"], "cpu", "float32", "openvino")
    assert len(compilations) == 2
    assert again.embed_samples(utterances[0], 16000).tobytes() == first.embed_samples(utterances[0], 16000).tobytes()
    load_extractor(models["resnet34"], "cpu", "float32", "openvino")
    assert len(compilations) == 2


@pytest.mark.parametrize("size", [0, 10, 100, 5000])
def test_a_cut_one_is_made_again(cache, models, compilations, size):
    load_extractor(models["resnet34"], "cpu", "float32", "openvino")
    kept, = cache.glob("*.openvino")
    kept.write_bytes(kept.read_bytes()[:size])
    load_extractor(models["resnet34"], "cpu", "float32", "openvino")
    assert len(compilations) == 2


def test_another_processor_openvino_or_setting_compiles_for_itself(cache, models, compilations, monkeypatch):
    def load():
        load_extractor(models["resnet34"], "cpu", "float32", "openvino")
        return len(compilations)

    assert (load(), load()) == (1, 1)
    monkeypatch.setattr(device, "cpu_flags", lambda: frozenset({"avx2"}))
    assert (load(), load()) == (2, 2)
    assert len(list(cache.glob("*.openvino"))) == 2  # machines that share a home don't take turns
    monkeypatch.setattr(openvino_runner, "SETTINGS", openvino_runner.SETTINGS | {"CPU_RUNTIME_CACHE_CAPACITY": 1})
    assert (load(), load()) == (3, 3)
    monkeypatch.setattr(openvino_runner.openvino, "get_version", lambda: "another")
    assert (load(), load()) == (4, 4)
    assert len(list(cache.glob("*.openvino"))) == 2
    monkeypatch.setattr(device, "cpu_flags", lambda: frozenset())  # nothing to tell processors by
    assert (load(), load()) == (5, 6)


def test_what_openvino_does_not_take_is_compiled(cache, models, compilations, monkeypatch):
    load_extractor(models["resnet34"], "cpu", "float32", "openvino")
    monkeypatch.setattr(compiled_cache, "map_parts", lambda *_: {"fbank": np.zeros(100, np.uint8)})
    load_extractor(models["resnet34"], "cpu", "float32", "openvino")
    assert len(compilations) == 2


def test_it_ends_well_in_any_order(cache, models):
    """A mapping that went before what points into it would end the process."""
    code = f"""
import gc, numpy as np
from speakerkit.inference.backends import load_extractor
for _ in range(3):
    extractor = load_extractor({str(models['resnet34'])!r}, "cpu", "float32", "openvino")
    parts = extractor.runner
    print(extractor.embed_samples(np.sin(np.arange(32000.0)).astype(np.float32), 16000).shape, len(parts.weights))
    del extractor, parts
    gc.collect()
kept = load_extractor({str(models['resnet34'])!r}, "cpu", "float32", "openvino")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert result.stdout.splitlines() == ["(16,) 0", "(16,) 2", "(16,) 2"], result.stderr


def test_a_model_that_draws_dither_says_what_its_graph_is(cache, tmp_path, models):
    """Its info is the exported graph's, which draws none; the second time too."""
    loaded = model_file.load_model(models["resnet34"])
    fbank = dataclasses.replace(loaded.info.fbank, dither=1.0)
    info = dataclasses.replace(loaded.info, fbank=fbank, golden=())
    model_file.save_model(tmp_path / "d.safetensors", loaded.network, info)
    choices = []
    for _ in range(2):
        choices.append(backends.choose_backend(tmp_path / "d.safetensors", "cpu", "float32", "openvino"))
        backends.start_extractor(choices[-1])
    assert [c.info.fbank.dither for c in choices] == [0.0, 0.0] and choices[0].info == choices[1].info
    assert choices[0].graph and not choices[1].graph


def test_onnx_export_is_needed_for_the_first_only(cache, models, monkeypatch):
    load_extractor(models["resnet34"], "cpu", "float32", "openvino")
    monkeypatch.setattr(onnx_export, "to_onnx", lambda *_: pytest.fail("exported again"))
    for path in cache.glob("*.onnx"):
        path.unlink()
    assert load_extractor(models["resnet34"], "cpu", "float32", "openvino").backend == "openvino"


def test_what_has_held_is_not_tried_again_before_workers_are_forked(cache, models, tmp_path):
    loaded = model_file.load_model(models["resnet34"])
    wrong = dataclasses.replace(loaded.info, golden=loaded.info.golden[::-1])
    (tmp_path / "wrong.onnx").write_bytes(onnx_export.to_onnx(dataclasses.replace(loaded, info=wrong))[0])
    code = f"""
import contextlib, sys
from importlib import metadata
from speakerkit.inference import backends, loading
from speakerkit.errors import DataError
tried, try_in_child = [], loading._try_in_child
loading._try_in_child = lambda choice: tried.append(choice) or try_in_child(choice)
def choose(path):
    loading._tried.clear()
    with contextlib.suppress(DataError):
        backends.choose_backend(path, "cpu", "auto", "openvino", forks=True)
    return len(tried)
good, bad = {str(models['resnet34'])!r}, {str(tmp_path / 'wrong.onnx')!r}
print(choose(good), choose(good))
metadata.version = lambda name: "0.1"
print(choose(good))
before = choose(bad)
print(choose(bad) > before, "openvino" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert result.stdout.splitlines() == ["1 1", "2", "True False"], result.stderr
