"""A model as one ONNX file: samples in, embedding out, with all that a model file says of itself.

The front end (``features.fbank_graph``) stands before the network, and a mask of the valid steps at every
convolution and in the pooling keeps a padded utterance's embedding that of the utterance alone.
"""

import contextlib
import dataclasses
import importlib.util
import io
import logging
import warnings

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from speakerkit import __version__
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import ConfigError
from speakerkit.features import fbank_graph
from speakerkit.features.graph_builder import OPSET
from speakerkit.features.graph_names import EMBEDDING, FEATURES, NUM_FRAMES, SAMPLES
from speakerkit.inference import resnet_graph
from speakerkit.models import model_file, onnx_file
from speakerkit.models.folding import fold_batch_norm
from speakerkit.models.golden import golden_embedding
from speakerkit.models.model_info import METADATA_KEY, ModelInfo, facts_as_json
from speakerkit.models.resnet import count_parameters

log = logging.getLogger(__name__)

IR_VERSION = 10  # of the ONNX file format: what runtimes since 2024 read

INPUT_TEXT = (
    "samples: float32 (batch, num_samples) in [-1, 1] at {rate} Hz, one channel; shorter utterances of a batch are "
    "padded with NaN at their end. embedding: float32 (batch, {dim}), not length-normalised."
)


def to_onnx(loaded: model_file.SpeakerModel) -> tuple[bytes, ModelInfo]:
    """The ONNX file of a loaded model, in float32, and what it says of itself."""
    info = loaded.info
    if info.fbank.dither > 0:
        log.warning("%s: dither %g is left out: a graph draws none, so embeddings differ from those of the "
                    ".safetensors file by that much noise", loaded.path, info.fbank.dither)
        fbank = dataclasses.replace(info.fbank, dither=0.0)
        golden = golden_embedding(loaded.network, fbank, info.model)
        info = dataclasses.replace(info, fbank=fbank, golden=tuple(float(f"{v:.7g}") for v in golden))
    model = join_graphs(info.fbank, info.model, make_network_graph(loaded.network, info.fbank.num_columns))
    num_parameters, num_values = count_parameters(loaded.network)
    facts = {"precision": "float32", "source_sha256": loaded.sha256, "num_parameters": num_parameters,
             "num_values": num_values}
    return seal(model, info, facts), info


def seal(model: onnx.ModelProto, info: ModelInfo, facts: dict) -> bytes:
    """The bytes of an ONNX file with its metadata and its SHA-256."""
    text = INPUT_TEXT.format(rate=info.fbank.sample_rate, dim=info.embedding_dim)
    model.doc_string = f"Speaker embedding {info.name}. {text}"
    helper.set_model_props(model, {METADATA_KEY: facts_as_json(info, onnx=facts), onnx_file.DIGEST_KEY: onnx_file.ZEROS,
                                   "sample_rate": str(info.fbank.sample_rate), "input": text})
    return onnx_file.sign(model.SerializeToString(deterministic=True))


def make_network_graph(network: nn.Module, num_columns: int) -> onnx.ModelProto:
    """The network as a graph from features and lengths to the embedding, batch norm folded.

    The ResNets are written down by ``resnet_graph``, others are traced by torch.
    """
    network = fold_batch_norm(network).eval()
    if not resnet_graph.is_known(network):
        return trace_network(network, num_columns)
    nodes, constants = resnet_graph.make_resnet(network)
    graph = helper.make_graph(nodes, "network", [], [], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def trace_network(network: nn.Module, num_columns: int) -> onnx.ModelProto:
    """Any network by torch's exporter; takes a minute, and the package onnxscript.

    Raises:
        ConfigError: onnxscript isn't installed.
    """
    if importlib.util.find_spec("onnxscript") is None:
        raise ConfigError("onnxscript isn't installed; want it for ONNX export: pip install 'speakerkit[export]'")
    example = torch.zeros(2, 203, num_columns), torch.tensor([203, 150])
    shapes = {"features": {0: "batch", 1: "num_frames"}, "lengths": {0: "batch"}}
    with _quiet():
        program = torch.onnx.export(
            network, example, dynamo=True, opset_version=OPSET, input_names=[FEATURES, NUM_FRAMES],
            output_names=[EMBEDDING], dynamic_shapes=shapes, external_data=False, verbose=False,
        )
    return program.model_proto


@contextlib.contextmanager
def _quiet():
    """Without what torch's exporter says of its own progress and of packages that aren't needed here."""
    exporter = logging.getLogger("torch.onnx")
    before = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(before)


def join_graphs(fbank: FbankConfig, config: ModelConfig, network: onnx.ModelProto) -> onnx.ModelProto:
    """Front end and network as one graph with one input and one output."""
    nodes, constants = fbank_graph.make_front_end(fbank, config)
    graph = helper.make_graph(
        [*nodes, *network.graph.node], "speaker_embedding",
        [helper.make_tensor_value_info(SAMPLES, TensorProto.FLOAT, ["batch", "num_samples"])],
        [helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", config.embedding_dim])],
        [*constants, *network.graph.initializer],
    )
    model = helper.make_model(graph, opset_imports=network.opset_import, ir_version=network.ir_version,
                              producer_name="speakerkit", producer_version=__version__)
    onnx.checker.check_model(model)
    return model
