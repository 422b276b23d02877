"""Which library runs a model, where and in which precision: by the machine, what is installed and what is asked for.

Measured on CPUs, per core, in seconds of audio a second: OpenVINO in bfloat16 10 times eager torch in float32,
torch in bfloat16 5.9, ONNX Runtime and OpenVINO in float32 1.6 and 1.5, folded torch in float32 1.4. That is a
ResNet34 with AMX. With AVX512-BF16 alone, seconds of processor time of ``extract-embeddings --nj 1`` for 100 recordings
of 3 s, start included (medians of 3; 3D-Speaker's CAM++ and the bundled ResNet34):

              ONNX Runtime float32   OpenVINO bfloat16   torch bfloat16
  ResNet34            15.2                  8.5               10.0
  CAM++                5.7                  5.8                8.8

So where nothing is said bfloat16 goes first wherever the processor multiplies it, by OpenVINO, then by torch; but
CAM++, whose convolutions over time are in float32 in any case, goes first by ONNX Runtime where there is no AMX.
"""

import functools
import importlib.util
import logging
import os
from collections.abc import Callable
from pathlib import Path

from speakerkit.errors import ConfigError
from speakerkit.inference import compiled_cache, export_cache
from speakerkit.inference.choice import Choice
from speakerkit.inference.extractor import Extractor
from speakerkit.inference.loading import start_extractor, try_out
from speakerkit.io import files
from speakerkit.models import device as devices
from speakerkit.models import onnx_file
from speakerkit.models.find import find_model
from speakerkit.models.model_header import read_info
from speakerkit.models.model_info import ModelInfo

log = logging.getLogger(__name__)

BACKENDS = ("torch", "onnx", "openvino")
PACKAGES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
TITLES = {"torch": "torch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
MOSTLY_FLOAT32 = ("campplus",)  # what is computed in bfloat16 of it is less than half
GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, either under WSL


def load_extractor(
    model: str | os.PathLike | None, device: str = "auto", precision: str = "auto", backend: str = "auto"
) -> Extractor:
    """Load a model for extraction; its weights' SHA-256 and golden vector are checked.

    Args:
        model: what ``models.find.find_model`` takes.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, float32, bfloat16 or int8 (an ONNX model that is quantised).
        backend: auto, torch, onnx or openvino.

    Raises:
        DataError: no such model, or one that is damaged.
        ConfigError: a device that isn't there, a library that isn't installed or can't do it.
    """
    return start_extractor(choose_backend(model, device, precision, backend))


def choose_backend(
    model: str | os.PathLike | None,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    few: bool = False,
    forks: bool = False,
) -> Choice:
    """Decide, and say once what ``auto`` was taken for. Torch isn't imported unless it is chosen or a GPU asked about.

    What is left open is never taken in a precision or by a library that misses the model's golden vector: some
    networks are too deep for bfloat16.

    Args:
        model, device, precision, backend: as ``load_extractor`` takes them.
        few: only some recordings will follow, so what starts fast is better than what runs fast.
        forks: this process will fork workers, so no library whose threads a fork would lose is started in it.

    Raises:
        DataError: no such model, or one that is damaged.
        ConfigError: what is asked for isn't installed, can't be done or doesn't fit together.
    """
    path = os.fspath(find_model(model))
    is_graph = onnx_file.is_onnx_file(path)
    if is_graph:
        _, info, facts = onnx_file.read_onnx(path)
    else:
        info, facts = read_info(path), {"precision": "float32"}
    where = _choose_device(device, is_graph, backend)
    possible = [name for name in BACKENDS if _is_possible(name, where, is_graph, info, name == backend)]
    kinds = [(name, kind) for name in possible for kind in _precisions(name, facts["precision"])]
    wanted = [pair for pair in kinds if backend in ("auto", pair[0]) and precision in ("auto", pair[1])]
    if not wanted:
        raise ConfigError(_why_not(path, info, backend, precision, where, is_graph, facts["precision"]))
    sha256 = files.sha256_file(path)

    def choose(name: str, kind: str) -> Choice:
        graph, said = (path, info) if is_graph else ("", info)
        kept = compiled_cache.read_info(sha256, kind) if name == "openvino" and not is_graph else None
        if kept is not None:
            said = kept  # the graph isn't needed any more
        elif name != "torch" and not is_graph:
            graph, said = export_cache.exported(path, sha256)
        return Choice(path, sha256, said, name, kind, where, graph)

    ranked = sorted(wanted, key=lambda pair: _rank(*pair, where, few, info.model.architecture))
    if "auto" not in (precision, backend):
        return choose(*ranked[0])
    choice = _first_that_holds([functools.partial(choose, *pair) for pair in ranked], forks)
    left_open = " ".join(f"--{option} auto" for option, value in (("precision", precision), ("backend", backend))
                         if value == "auto")
    log.info("%s by %s on %s (%s)", choice.precision, TITLES[choice.backend], _describe_place(where), left_open)
    return choice


def _first_that_holds(choices: list[Callable[[], Choice]], forks: bool) -> Choice:
    """The first choice that gives the model's golden vector.

    Raises:
        GoldenError: none does.
    """
    errors = []
    for make in choices:
        choice = make()
        error = try_out(choice, forks)
        if error is None:
            for failed, why in errors:
                log.warning("%s by %s isn't taken: %s", failed.precision, TITLES[failed.backend], why)
            return choice
        errors.append((choice, error))
    raise errors[-1][1]


def _choose_device(device: str, is_graph: bool, backend: str) -> str:
    """cpu, or a GPU that torch is then asked for."""
    on_cpu_only = is_graph or backend in ("onnx", "openvino")
    if device.startswith("cuda"):
        if on_cpu_only:
            what = "an ONNX model" if is_graph else f"--backend {backend}"
            raise ConfigError(f"--device {device}: {what} runs on the CPU; a GPU takes a .safetensors model and torch")
        return str(devices.choose_device(device))
    if device == "cpu" or on_cpu_only or not any(Path(name).exists() for name in GPU_FILES):
        return "cpu"
    return str(devices.choose_device("auto"))


def is_installed(backend: str) -> bool:
    """Whether the library is there; it isn't imported."""
    return importlib.util.find_spec(PACKAGES[backend]) is not None


def _is_possible(backend: str, where: str, is_graph: bool, info: ModelInfo, is_asked_for: bool) -> bool:
    if backend == "torch":
        return not is_graph
    return where == "cpu" and is_installed(backend) and (is_graph or export_cache.can_export(info, is_asked_for))


def _precisions(backend: str, stored: str) -> tuple[str, ...]:
    if stored == "int8":
        return ("int8",)
    return ("float32",) if backend == "onnx" else ("bfloat16", "float32")


def _rank(backend: str, precision: str, where: str, few: bool, architecture: str) -> int:
    """The place in the order of preference, lower first; the module says what it follows."""
    if where != "cpu":
        return ("bfloat16", "float32").index(precision) ^ (not devices.has_fast_bfloat16(devices.choose_device(where)))
    fast = devices.cpu_has_bfloat16()
    order = ["onnx float32", "openvino float32", "torch float32"]
    if few:
        order[2:2] = ["openvino bfloat16"] * fast + ["torch bfloat16"] * fast
    elif fast and architecture in MOSTLY_FLOAT32 and "amx_bf16" not in devices.cpu_flags():
        order[1:1] = ["openvino bfloat16", "torch bfloat16"]
    elif fast:
        order = ["openvino bfloat16", "torch bfloat16", *order]
    order += ["openvino int8", "onnx int8", "openvino bfloat16", "torch bfloat16"]
    return order.index(f"{backend} {precision}")


def _describe_place(where: str) -> str:
    if where != "cpu":
        return devices.describe_device(devices.choose_device(where))
    return devices.describe_cpu()


def _why_not(
    path: str, info: ModelInfo, backend: str, precision: str, where: str, is_graph: bool, stored: str
) -> str:
    """One line on why no library does what is asked for."""
    if is_graph and backend == "torch":
        return f"--backend torch: {path} is an ONNX model; want --backend onnx or openvino, or its .safetensors file"
    if stored == "int8" and precision not in ("auto", "int8"):
        return f"--precision {precision}: {path} is quantised to int8; want --precision auto, or the unquantised model"
    if precision == "int8" and stored != "int8":
        return f"--precision int8: {path} isn't quantised; make one with export-onnx --quantise int8"
    for name in BACKENDS if backend == "auto" else (backend,):
        if name != "torch" and not is_installed(name):
            return f"{PACKAGES[name]} isn't installed; want it to run {path}: pip install 'speakerkit[{name}]'"
    if backend == "onnx" and precision == "bfloat16":
        return "--precision bfloat16: ONNX Runtime has no bfloat16 convolutions; want float32, or --backend openvino"
    if not is_graph and backend != "torch":
        return f"--backend {backend}: onnx isn't installed; want it to export {path}: pip install 'speakerkit[export]'"
    return f"--backend {backend} --precision {precision}: nothing here runs {path} so on {where}"
