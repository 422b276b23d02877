"""A model run by OpenVINO, one thread, without torch, in the precision that is asked for.

OpenVINO prepares every new shape anew. A network of plain convolutions still takes every utterance at its own length:
to prepare it (2 to 4 ms) costs less than padding and the masks that it needs. The others' lengths are padded up to a
grid; the mask in the graph keeps the embedding that of the unpadded utterance. Front end, pooling and embedding layer
stay float32: a filterbank in bfloat16 is unusable, and what is pooled costs nothing. Kaldi's filterbank is numpy's.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from speakerkit.errors import DataError
from speakerkit.features.fbank_numpy import compute_framed_fbank
from speakerkit.features.framing import BLOCK_FRAMES, cut_range, framed_samples
from speakerkit.features.graph_names import (
    CONVOLVED,
    EMBEDDING,
    FBANK,
    FEATURES,
    FRAME_OUTPUTS,
    FRAMED,
    NUM_FRAMES,
    STATISTICS,
)
from speakerkit.inference import compiled_cache, export_cache
from speakerkit.inference.batches import padded_length
from speakerkit.inference.choice import Choice
from speakerkit.inference.lean_openvino import import_openvino
from speakerkit.inference.long_recordings import can_run_in_parts, embed_long, fbank_blocks
from speakerkit.models.model_info import ModelInfo

log = logging.getLogger(__name__)
openvino = import_openvino()
FINE_GRID, MOST_FINE = 16, 512  # frames; longer ones lie on the grid of batches
PRECISION = "INFERENCE_PRECISION_HINT"
HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}  # of a quantised graph: what isn't quantised
# One thread, not tied to a core: every worker would be tied to the same one. Of what is prepared for a shape so much
# is kept that like layers share it, and little once another shape comes: who has many recordings brings them by length.
SETTINGS = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False, "CACHE_DIR": "",
            "CPU_RUNTIME_CACHE_CAPACITY": 24}


@dataclass(frozen=True)
class OpenvinoRunner:
    """The compiled parts of a graph."""

    info: ModelInfo
    network: openvino.CompiledModel  # to the frame-level outputs, what is convolved or the embedding itself
    fbank: openvino.CompiledModel | None = None  # SpeechBrain's; Kaldi's is faster by numpy
    head: openvino.CompiledModel | None = None  # from pooled statistics on, of a network that runs in parts
    rest: openvino.CompiledModel | None = None  # from what is convolved on, of others in bfloat16
    weights: tuple = ()  # what the parts point into, mapped from a file: to live longer than they do, so the last field

    @property
    def in_parts(self) -> bool:
        """Whether long recordings can be run stretch by stretch."""
        return self.head is not None

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """(num_samples,) at the model's rate to (embedding_dim,) float32."""
        if self.in_parts:
            return embed_long(self, self.info, lambda: [samples])
        features = cut_range(np.concatenate(list(fbank_blocks([samples], self.front_end(), self.info.fbank))),
                             self.info.fbank)
        if self.info.model.mean_norm:
            features = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
        outputs = self._run_network(features)
        return outputs[0] if self.rest is None else run(self.rest, outputs, np.array([len(features)]))[0]

    def front_end(self) -> Callable[[np.ndarray], np.ndarray]:
        """See ``Parts``; what is compiled has one shape, whatever the recording's length."""
        if self.fbank is None:
            return lambda samples: compute_framed_fbank(samples, self.info.fbank)
        whole = framed_samples(BLOCK_FRAMES, self.info.fbank)

        def compute(samples: np.ndarray) -> np.ndarray:
            frames = 1 + (len(samples) - self.info.fbank.frame_length) // self.info.fbank.frame_shift
            padded = np.zeros((1, whole), np.float32)
            padded[0, : len(samples)] = samples[:whole]
            return run(self.fbank, padded)[0, :frames]

        return compute

    def frame_outputs(self, features: np.ndarray) -> np.ndarray:
        """See ``Parts``."""
        return run(self.network, features[None], np.array([len(features)]))[0]

    def _run_network(self, features: np.ndarray) -> np.ndarray:
        """On the grid."""
        padded = np.zeros((1, grid_length(len(features)), features.shape[1]), np.float32)
        padded[0, : len(features)] = features
        return run(self.network, padded, np.array([len(features)]))

    def project(self, statistics: np.ndarray) -> np.ndarray:
        """See ``Parts``."""
        return run(self.head, statistics[None])[0]


def grid_length(frames: int) -> int:
    """The length that ``frames`` are padded to: a frame of padding costs 0.4 ms, a further shape 16 ms."""
    return -(-frames // FINE_GRID) * FINE_GRID if frames <= MOST_FINE else padded_length(frames)


def run(compiled: openvino.CompiledModel, *inputs: np.ndarray) -> np.ndarray:
    """The one output, as an array of its own."""
    request = compiled.create_infer_request()
    request.infer(list(inputs), share_inputs=True)
    return request.get_output_tensor(0).data.copy()


def load_runner(choice: Choice) -> OpenvinoRunner:
    """The graph of a model, compiled part by part, or as it was compiled before.

    Raises:
        DataError: OpenVINO refuses it.
    """
    core, hints = openvino.Core(), _hints(choice)
    kept = compiled_cache.map_parts(choice, _made_by(choice))
    try:
        if kept is not None:
            weights = {name: openvino.Tensor(data, shared_memory=True) for name, data in kept.items()}
            compiled = {name: core.import_model(tensor, "CPU", SETTINGS | {PRECISION: hints[name]})
                        for name, tensor in weights.items()}
            return OpenvinoRunner(choice.info, **compiled, weights=(kept, weights))
    except RuntimeError as error:
        log.warning("%s: what was compiled before isn't taken: %s", choice.path, " ".join(str(error).split()))
    try:
        graph = choice.graph or export_cache.exported(choice.path, choice.sha256)[0]
        compiled = {name: core.compile_model(part, "CPU", SETTINGS | {PRECISION: hints[name]})
                    for name, part in _cut_parts(core.read_model(graph), choice)}
    except RuntimeError as error:
        raise DataError(choice.path, f"OpenVINO refuses it: {' '.join(str(error).split())}") from None
    return OpenvinoRunner(choice.info, **compiled)


def keep_compiled(choice: Choice, runner: OpenvinoRunner) -> None:
    """Keep what was compiled for the next time; for a runner that gives the model's golden vector."""
    if not runner.weights:
        compiled = {name: part for name in _hints(choice) if (part := getattr(runner, name)) is not None}
        data = {name: part.export_model().getvalue() for name, part in compiled.items()}
        compiled_cache.keep_parts(choice, _made_by(choice), data)


def _made_by(choice: Choice) -> dict:
    return {"openvino": openvino.get_version(), "settings": SETTINGS, "hints": _hints(choice)}


def _hints(choice: Choice) -> dict[str, str]:
    """The precision of each part: only what is convolved is computed in another than float32."""
    return {name: HINTS[choice.precision] if name == "network" else "f32"
            for name in ("fbank", "network", "head", "rest")}


def _cut_parts(graph: openvino.Model, choice: Choice) -> Iterator[tuple[str, openvino.Model]]:
    """The parts of a model's graph by their names in ``OpenvinoRunner``."""
    fbank = choice.info.fbank
    in_parts = can_run_in_parts(choice.info) and shape_of(graph, FRAME_OUTPUTS) is not None  # not in older files
    convolved = None if in_parts or choice.precision != "bfloat16" else shape_of(graph, CONVOLVED)
    last = FRAME_OUTPUTS if in_parts else EMBEDDING if convolved is None else CONVOLVED
    if fbank.filterbank != "kaldi":
        yield "fbank", cut(graph.clone(), FBANK, {FRAMED: [1, framed_samples(BLOCK_FRAMES, fbank)]})
    network = cut(graph.clone(), last, {FEATURES: [1, -1, fbank.num_columns], NUM_FRAMES: [1]})
    yield "network", without_masks(network) if in_parts else network
    if in_parts:
        yield "head", cut(graph.clone(), EMBEDDING, {STATISTICS: [1, -1]})
    if convolved:
        yield "rest", cut(graph.clone(), EMBEDDING, {CONVOLVED: convolved, NUM_FRAMES: [1]})


def shape_of(model: openvino.Model, tensor: str) -> list[int] | None:
    """A tensor's shape for one utterance, -1 where it isn't fixed; None: no such tensor in the graph."""
    for op in model.get_ops():
        for port in op.outputs():
            if tensor in port.get_names():
                axes = list(port.get_partial_shape())[1:]
                return [1, *(-1 if axis.is_dynamic else axis.get_length() for axis in axes)]
    return None


def without_masks(model: openvino.Model) -> openvino.Model:
    """The same for utterances that aren't padded: what is multiplied by a mask, all ones then, is taken as it is."""
    for op in model.get_ops():
        if op.get_type_name() != "Multiply":
            continue
        for mask, other in (op.inputs(), reversed(op.inputs())):
            made_by = mask.get_source_output().get_node()
            if made_by.get_type_name() == "Convert" and made_by.get_input_element_type(0) == openvino.Type.boolean:
                for target in op.output(0).get_target_inputs():
                    target.replace_source_output(other.get_source_output())
    return model


def cut(model: openvino.Model, output: str, inputs: dict[str, list[int]]) -> openvino.Model:
    """The part of a graph that lies between some of its tensors."""
    made = {name: port for op in model.get_ops() for port in op.outputs() for name in port.get_names()}
    parameters = []
    for name, shape in inputs.items():
        port = made[name]
        parameter = openvino.op.Parameter(port.get_element_type(), openvino.PartialShape(shape))
        for target in port.get_target_inputs():
            target.replace_source_output(parameter.output(0))
        parameters.append(parameter)
    return openvino.Model([made[output]], parameters)
