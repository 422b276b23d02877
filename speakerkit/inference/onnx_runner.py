"""A model run by ONNX Runtime, one thread, without torch."""

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from speakerkit.errors import DataError
from speakerkit.features.graph_names import (
    EMBEDDING,
    FBANK,
    FEATURES,
    FRAME_OUTPUTS,
    FRAMED,
    NUM_FRAMES,
    SAMPLES,
    STATISTICS,
)
from speakerkit.inference.choice import Choice
from speakerkit.inference.long_recordings import can_run_in_parts
from speakerkit.models.model_info import ModelInfo

ERRORS_ONLY = 3  # onnxruntime's log severity
REFUSALS = (state.Fail, state.InvalidGraph, state.InvalidArgument, state.InvalidProtobuf, state.NotImplemented,
            state.RuntimeException, RuntimeError)


@dataclass(frozen=True)
class OnnxRunner:
    """The whole graph, and its parts once a long recording comes."""

    session: onnxruntime.InferenceSession
    graph: str | bytes
    info: ModelInfo
    parts: dict = field(default_factory=dict)

    @functools.cached_property
    def in_parts(self) -> bool:
        """Whether long recordings can be run stretch by stretch: the package onnx cuts the graph where it may be."""
        if not can_run_in_parts(self.info) or importlib.util.find_spec("onnx") is None:
            return False
        return FRAME_OUTPUTS.encode() in self._graph_bytes()  # an ERes2Net's file of before has no such tensor

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """(num_samples,) at the model's rate to (embedding_dim,) float32."""
        return self.session.run([EMBEDDING], {SAMPLES: samples[None]})[0][0]

    def front_end(self) -> Callable[[np.ndarray], np.ndarray]:
        """See ``Parts``."""
        part = self._part(FRAMED, FBANK)
        return lambda samples: part.run([FBANK], {FRAMED: samples[None]})[0][0]

    def frame_outputs(self, features: np.ndarray) -> np.ndarray:
        """See ``Parts``."""
        given = {FEATURES: features[None], NUM_FRAMES: np.array([len(features)])}
        return self._part(FEATURES, NUM_FRAMES, FRAME_OUTPUTS).run([FRAME_OUTPUTS], given)[0][0]

    def project(self, statistics: np.ndarray) -> np.ndarray:
        """See ``Parts``."""
        return self._part(STATISTICS, EMBEDDING).run([EMBEDDING], {STATISTICS: statistics[None]})[0][0]

    def _part(self, *names: str) -> onnxruntime.InferenceSession:
        """A session of the graph between tensors: inputs, then one output; made when it is first asked for."""
        if names not in self.parts:
            from speakerkit.inference.graph_parts import cut_graph

            self.parts[names] = make_session(cut_graph(self._graph_bytes(), list(names[:-1]), [names[-1]]))
        return self.parts[names]

    def _graph_bytes(self) -> bytes:
        return Path(self.graph).read_bytes() if isinstance(self.graph, str) else self.graph


def make_session(graph: str | bytes) -> onnxruntime.InferenceSession:
    """A session of one thread: it starts none of its own, so worker processes may be forked from here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it keeps a plan, and memory to fit, for every length that ever came
    options.log_severity_level = ERRORS_ONLY
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def load_runner(choice: Choice) -> OnnxRunner:
    """The graph of a model.

    Raises:
        DataError: ONNX Runtime refuses it.
    """
    try:
        return OnnxRunner(make_session(choice.graph), choice.graph, choice.info)
    except REFUSALS as error:
        raise DataError(choice.path, f"ONNX Runtime refuses it: {error}") from None
