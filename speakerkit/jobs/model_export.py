"""A model file as ONNX, in float32 or quantised, with a manifest beside it."""

import importlib.util
import logging
import os
from collections import Counter
from collections.abc import Iterator

import numpy as np

from speakerkit import __version__
from speakerkit.errors import ConfigError, DataError
from speakerkit.io import audio, files
from speakerkit.io.files import Manifest
from speakerkit.jobs.utterances import audio_fingerprint, load_utterance, read_utterances
from speakerkit.models import find, model_info, onnx_file

log = logging.getLogger(__name__)


def export_model(
    model: str, output: str | os.PathLike, overwrite: bool, report: dict, calibration_list: str | None = None
) -> None:
    """Write the ONNX file of a model; a second run has nothing to do.

    Args:
        model: what ``find_model`` takes, but an ONNX file.
        output: the file to write.
        overwrite: replace what was made from something else.
        report: filled with what the file holds.
        calibration_list: a wav.scp; quantise to int8 by the ranges seen on its recordings.

    Raises:
        DataError: no such model, damaged, an ONNX file already, or a recording that can't be used.
        ConfigError: a package that exports isn't installed, or ``output`` is an input or another's.
    """
    source = find.find_model(model)
    if onnx_file.is_onnx_file(source):
        raise DataError(source, "is an ONNX file already; want a .safetensors model")
    files.refuse_input_as_output("", output, (source, calibration_list))
    _require("onnx", "export")
    inputs = {"model": files.sha256_file(source)}
    utterances = []
    if calibration_list is not None:
        _require("onnxruntime", "onnx")
        utterances = read_utterances(calibration_list)
        inputs |= {"calibration list": files.sha256_file(calibration_list),
                   "audio (paths, sizes, times)": audio_fingerprint(utterances)}
    precision = "float32" if calibration_list is None else "int8"
    manifest = Manifest("export-onnx", {"precision": precision}, inputs, __version__)
    files.check_writable(output)
    with files.output_lock(output):
        report.update(output=os.fspath(output))
        if not files.prepare_output(output, manifest, overwrite):
            report.update(files.read_manifest(output)["results"])
            log.info("%s: nothing to do, it is up to date", output)
            return
        info = _write(source, output, utterances)
        results = {"model": info.name, "precision": precision, "sample_rate": info.fbank.sample_rate,
                   "embedding_dim": info.embedding_dim, "bytes": os.path.getsize(output),
                   "num_calibration": len(utterances)}
        report.update(results)
        files.write_manifest(output, manifest, results)
    log.info("%s: %s in %s, input 'samples' at %d Hz in [-1, 1], output 'embedding' of %d values", output, info.name,
             precision, info.fbank.sample_rate, info.embedding_dim)


def _require(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{package} isn't installed; want it for this export: pip install 'speakerkit[{extra}]'")


def _write(source, output: str | os.PathLike, utterances: list) -> model_info.ModelInfo:
    from speakerkit.inference.onnx_export import to_onnx
    from speakerkit.models.model_file import load_model

    data, info = to_onnx(load_model(source))
    if utterances:
        from speakerkit.inference.quantise import quantise_int8

        data = quantise_int8(data, _samples(utterances, info.fbank.sample_rate))
    with files.open_output(output) as stream:
        stream.write(data)
    return info


def _samples(utterances: list, sample_rate: int) -> Iterator[np.ndarray]:
    from speakerkit.features.resample import resample

    for utterance in utterances:
        samples, rate = load_utterance(utterance, audio.AudioOptions(), Counter())
        yield resample(samples, rate, sample_rate)
