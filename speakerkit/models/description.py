"""What a model or a training configuration is: the facts that model-info shows."""

import os
from pathlib import Path

from speakerkit.config import FbankConfig, ModelConfig, as_dict, read_system
from speakerkit.errors import ConfigError
from speakerkit.io import files
from speakerkit.models import onnx_file
from speakerkit.models.find import find_model
from speakerkit.models.model_header import read_info
from speakerkit.models.model_info import ModelInfo


def describe(name: str | os.PathLike | None, facts: dict, num_classes: int | None = None) -> None:
    """Fill in the facts of a model, or of a training configuration (`*.toml`).

    Args:
        name: what ``find_model`` takes, or a path that ends in `.toml`.
        facts: filled in the order in which they are shown, as far as they could be read where it fails;
            what a model file doesn't say is None.
        num_classes: also count a classification layer of so many speakers.

    Raises:
        DataError: no such model, damaged, or its golden vector isn't met.
        ConfigError: a configuration that can't be.
    """
    if name is not None and Path(name).suffix == ".toml":
        _describe_config(name, facts, num_classes)
    else:
        _describe_model(find_model(name), facts, num_classes)


def _describe_config(path: str | os.PathLike, facts: dict, num_classes: int | None) -> None:
    system = read_system(path)
    facts.update(kind="training configuration", path=os.fspath(path), name=Path(path).stem)
    facts.update(_network_facts(system.model, system.fbank, num_classes))
    facts.update(sha256=files.sha256_file(path), licence=None, training_data=None)
    facts.update(_front_end_facts(system.model, system.fbank))
    facts["system"] = as_dict(system)


def _describe_model(path: Path, facts: dict, num_classes: int | None) -> None:
    info, graph = read_info(path), onnx_file.read_onnx(path)[2] if onnx_file.is_onnx_file(path) else None
    facts.update(kind="model" if graph is None else "ONNX model", path=os.fspath(path), name=info.name)
    if graph is None:
        facts.update(_network_facts(info.model, info.fbank, num_classes))
    else:  # its batch norm is folded; the sizes are those of the model that it was made from
        facts.update(architecture=info.model.architecture, embedding_dim=info.embedding_dim,
                     num_parameters=graph["num_parameters"], num_values=graph["num_values"])
        facts.update(_classifier_facts(info.model, graph["num_parameters"], num_classes), precision=graph["precision"])
    facts.update(sha256=files.sha256_file(path), weights_sha256=info.weights_sha256, licence=info.licence or None,
                 training_data=info.training_data or None, domain=info.domain or None, threshold=info.threshold,
                 threshold_trials=info.threshold_trials or None)
    facts.update(_front_end_facts(info.model, info.fbank))
    facts.update(calibration=info.calibration, training=info.training, results=info.results)
    if graph is None:
        facts["golden_cosine"] = _golden_cosine(path, info)


def _golden_cosine(path: Path, info: ModelInfo) -> float:
    from speakerkit.models import model_file

    loaded = model_file.load_model(path, golden=False)
    return model_file.check_golden(loaded.network, info, path, "float32")


def _network_facts(model: ModelConfig, fbank: FbankConfig, num_classes: int | None) -> dict:
    from speakerkit.models.networks import count_parameters, outline_network

    num_parameters, num_values = count_parameters(outline_network(model, fbank.num_columns))
    facts = {"architecture": model.architecture, "embedding_dim": model.embedding_dim,
             "num_parameters": num_parameters, "num_values": num_values}
    return facts | _classifier_facts(model, num_parameters, num_classes)


def _classifier_facts(model: ModelConfig, num_parameters: int, num_classes: int | None) -> dict:
    if num_classes is None:
        return {}
    if num_classes < 2:
        raise ConfigError(f"{num_classes} classes; want at least 2")
    # The margin softmax has one weight vector a class and no bias.
    return {"num_classes": num_classes,
            "num_parameters_with_classifier": num_parameters + num_classes * model.embedding_dim}


def _front_end_facts(model: ModelConfig, fbank: FbankConfig) -> dict:
    return {"sample_rate": fbank.sample_rate, "front_end": front_end_in_words(model, fbank),
            "mean_norm": model.mean_norm, "fbank": as_dict(fbank), "network": as_dict(model)}


def front_end_in_words(model: ModelConfig, fbank: FbankConfig) -> str:
    """One line: from samples to what the network sees."""
    kind = "log-mel" if fbank.use_log_fbank else "mel"
    kind = "SpeechBrain's decibel-mel" if fbank.filterbank == "speechbrain" else kind
    parts = [f"{fbank.num_mel_bins} {kind} bins from {fbank.low_freq:g} to {fbank.upper_freq:g} Hz",
             f"{fbank.window_type} windows of {fbank.frame_length_ms:g} ms every {fbank.frame_shift_ms:g} ms",
             f"samples times {fbank.waveform_scale:g}", f"dither {fbank.dither:g}"]
    if fbank.use_energy:
        parts.append("energy as a further column")
    parts.append("mean over time removed" if model.mean_norm else "mean over time kept")
    return ", ".join(parts)
