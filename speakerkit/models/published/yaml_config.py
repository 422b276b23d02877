"""A published model's YAML configuration: whose it is, and its front end. Nothing in it is run.

Tags such as SpeechBrain's `!new:` stay words; those that would make Python objects are refused.
"""

import os
import re
from collections.abc import Callable

from speakerkit.config import SPEECHBRAIN_FBANK, FbankConfig
from speakerkit.errors import ConfigError, DataError
from speakerkit.models.published.front_ends import FrontEnd

MOST_BYTES = 1 << 20
MOST_ALIASES = 100  # each may stand for much: a few lines of them would fill a memory
MOST_DEPTH = 50
TAG = "!"  # the key under which a mapping's own tag is kept


def read_published_config(path: str | os.PathLike) -> tuple[str, FrontEnd]:
    """Whose configuration it is, and the front end it names.

    Returns:
        source: reference, wespeaker, 3dspeaker or speechbrain.
        front_end: with what the file leaves open as that system's code has it.

    Raises:
        DataError: not YAML, of no system we know, or of a front end or network that we don't have.
        ConfigError: PyYAML isn't installed.
    """
    config = read_yaml(path)
    told = interpret(config, path)
    if told is None:
        raise DataError(path, f"is no configuration of {', '.join(dict.fromkeys(name for name, _, _ in SYSTEMS))} "
                              f"(its keys are {[*config][:5]})")
    return told


def interpret(config: dict, path: str | os.PathLike) -> tuple[str, FrontEnd] | None:
    """What ``read_published_config`` gives, of what ``read_yaml`` read; None where no system we know wrote it."""
    for source, belongs, front_end in SYSTEMS:
        if belongs(config):
            try:
                return source, front_end(config)
            except (ValueError, TypeError, AttributeError) as error:
                raise DataError(path, f"what isn't had here: {error}") from None
    return None


def named_checkpoint(config: dict) -> tuple[str | None, int | None]:
    """The checkpoint's file name and the last epoch's number, where a configuration tells them."""
    name, epoch = _get(config, "model", "pretrained_model"), config.get("num_epoch")
    return name if isinstance(name, str) else None, epoch if isinstance(epoch, int) else None


def read_yaml(path: str | os.PathLike) -> dict:
    """A mapping from YAML, its tags as words.

    Raises:
        DataError: can't be read, not YAML, not a mapping, or too large, deep or knotted to be a model's.
        ConfigError: PyYAML isn't installed.
    """
    try:
        import yaml
    except ImportError:
        raise ConfigError(f"{os.fspath(path)}: a published model's configuration needs PyYAML: "
                          "pip install 'speakerkit[import]'") from None
    try:
        with open(path, "rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError(path, f"can't be read: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise DataError(path, f"has more than {MOST_BYTES:,} bytes; want a model's configuration")
    try:
        _check_shape(data, path)
        config = yaml.load(data, Loader=_inert_loader())  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        text = getattr(error, "problem", None) or str(error)
        raise DataError(path, f"is no plain YAML: {' '.join(text.split())[:200]}", place and place.line + 1) from None
    if not isinstance(config, dict):
        raise DataError(path, f"is a {type(config).__name__}; want keys with values")
    return config


def _check_shape(data: bytes, path: str | os.PathLike) -> None:
    """Refuse what would take a reader of all of it too much memory or time."""
    import yaml

    aliases = depth = 0
    for event in yaml.parse(data, Loader=yaml.SafeLoader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise DataError(path, f"nests deeper than {MOST_DEPTH}", event.start_mark.line + 1)
    if aliases > MOST_ALIASES:
        raise DataError(path, f"holds {aliases} aliases; want at most {MOST_ALIASES}")


def _inert_loader():
    import yaml

    class InertLoader(yaml.SafeLoader):
        """Tags of HyperPyYAML as words: `!new:x {a: 1}` is {"!": "new:x", "a": 1}, `!ref <a>` the text `<a>`."""

    def as_words(loader, suffix, node):
        if isinstance(node, yaml.MappingNode):
            return {TAG: suffix} | loader.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return node.value if suffix == "ref" else {TAG: suffix}

    InertLoader.add_multi_constructor("!", as_words)
    return InertLoader


def _get(config: dict, *keys: str, default=None):
    """A value inside nested mappings; `<name>` is the top-level value of that name."""
    value = config
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, str) and (found := re.fullmatch(r"<(\w+)>", value)) is not None:
        value = config.get(found[1])
    return default if value is None else value


def _only(config: dict, *keys: str, value, default=None) -> None:
    found = _get(config, *keys, default=value if default is None else default)
    if found != value:
        raise ValueError(f"{'.'.join(keys)} is {found!r}; want {value!r}")


def _kaldi(config: dict, where: tuple[str, ...], words: dict[str, str], **fixed) -> FbankConfig:
    """A filterbank from the options that ``words`` names at ``where``, ours -> theirs."""
    options = {}
    for ours, theirs in words.items():
        value = _get(config, *where, theirs)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                raise ValueError(f"{theirs} is {value!r}")
            options[ours] = float(value) if ours.endswith("_ms") else value
    return FbankConfig(**(fixed | options))


def _wespeaker(config: dict) -> FrontEnd:
    _only(config, "dataset_args", "frontend", value="fbank")
    _only(config, "dataset_args", "cmvn_args", "norm_var", value=False)
    pooling = _get(config, "model_args", "pooling_func", default="")
    if pooling not in WESPEAKER_POOLING:
        raise ValueError(f"model_args.pooling_func is {pooling!r}; want one of {', '.join([*WESPEAKER_POOLING][1:])}")
    words = {"num_mel_bins": "num_mel_bins", "frame_length_ms": "frame_length", "frame_shift_ms": "frame_shift"}
    fixed = {"window_type": "hamming", "sample_rate": _get(config, "dataset_args", "resample_rate", default=16000)}
    fbank = _kaldi(config, ("dataset_args", "fbank_args"), words, **fixed)
    mean = _get(config, "dataset_args", "cmvn_args", "norm_mean", default=True)
    return FrontEnd(fbank, mean_norm=bool(_get(config, "dataset_args", "cmvn", default=True) and mean),
                    pooling=WESPEAKER_POOLING[pooling])


def _3dspeaker(config: dict) -> FrontEnd:
    _only(config, "embedding_model", "args", "pooling_func", value="TSTP")
    _only(config, "embedding_model", "args", "dilations", value=[1, 2, 3, 4, 1])
    words = {"num_mel_bins": "n_mels", "sample_rate": "sample_rate"}
    fbank = _kaldi(config, ("feature_extractor", "args"), words, waveform_scale=1.0)
    # The class removes no mean unless told; the recipes tell it.
    return FrontEnd(fbank, mean_norm=bool(_get(config, "feature_extractor", "args", "mean_nor", default=False)))


def _modelscope(config: dict) -> FrontEnd:
    """3D-Speaker's models as ModelScope's own library runs them."""
    words = {"num_mel_bins": "fbank_dim", "sample_rate": "sample_rate"}
    return FrontEnd(_kaldi(config, ("model", "model_config"), words, waveform_scale=1.0))


def _speechbrain(config: dict) -> FrontEnd:
    _only(config, "mean_var_norm", "norm_type", value="sentence")
    _only(config, "mean_var_norm", "std_norm", value=False)
    for name, value in SPEECHBRAIN_FEATURES.items():
        _only(config, "compute_features", name, value=value)
    _only(config, "embedding_model", "dilations", value=[1, 2, 3, 4, 1])
    _only(config, "embedding_model", "strides", value=[1, 2, 2, 2])
    bins = _get(config, "compute_features", "n_mels", default=_get(config, "n_mels", default=80))
    rate = _get(config, "sample_rate", default=16000)
    return FrontEnd(FbankConfig(filterbank="speechbrain", sample_rate=rate, num_mel_bins=bins, low_freq=0.0,
                                high_freq=8000.0, waveform_scale=1.0, **SPEECHBRAIN_FBANK))


def _reference(config: dict) -> FrontEnd:
    for name in ("lfr_m", "lfr_n"):
        _only(config, "frontend_conf", name, value=1)
    _only(config, "encoder_conf", "use_head_maxpool", value=False)
    words = {"sample_rate": "fs", "window_type": "window", "num_mel_bins": "n_mels", "frame_length_ms": "frame_length",
             "frame_shift_ms": "frame_shift", "dither": "dither"}
    return FrontEnd(_kaldi(config, ("frontend_conf",), words, window_type="hamming", dither=1.0), mean_norm=False)


def _names(config: dict, *keys: str) -> str:
    return str(_get(config, *keys, default=""))


WESPEAKER_POOLING = {"": "", "TSTP": "statistics", "ASTP": "attention", "TAP": "mean", "TSDP": "deviation"}
SPEECHBRAIN_FEATURES = {"deltas": False, "context": False, "n_fft": 400, "win_length": 25, "hop_length": 10, "f_min": 0,
                        "f_max": 8000}  # as its Fbank has them, which is the filterbank that we have
MODELSCOPE_TYPES = ("cam++-sv", "ecapa-tdnn-sv", "eres2net-sv", "eres2net-aug-sv", "eres2netv2-sv", "resnet-sv",
                    "res2net-sv")
# source, whether a configuration is that system's, its front end
SYSTEMS: tuple[tuple[str, Callable[[dict], bool], Callable[[dict], FrontEnd]], ...] = (
    ("wespeaker", lambda config: "model_args" in config and "model" in config, _wespeaker),
    ("3dspeaker", lambda config: _names(config, "embedding_model", "obj").startswith("speakerlab."), _3dspeaker),
    ("3dspeaker", lambda config: _names(config, "model", "type") in MODELSCOPE_TYPES, _modelscope),
    ("speechbrain", lambda config: "speechbrain." in _names(config, "embedding_model", TAG), _speechbrain),
    ("reference", lambda config: "frontend_conf" in config and "encoder" in config, _reference),
)
