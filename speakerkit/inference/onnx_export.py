"""A model as one ONNX file: samples in, embedding out, with all that a model file says of itself.

The front end (``features.fbank_graph``) stands before the network, and a mask of the valid steps at every
convolution and in the pooling keeps a padded utterance's embedding that of the utterance alone.
"""

import dataclasses
import logging

import onnx
from onnx import TensorProto, helper
from torch import nn

from speakerkit import __version__
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.features import fbank_graph
from speakerkit.features.graph_builder import OPSET, GraphBuilder
from speakerkit.features.graph_names import EMBEDDING, SAMPLES
from speakerkit.inference import resnet_graph, tdnn_graph
from speakerkit.models import model_file, onnx_file
from speakerkit.models.campplus import CamPlusPlus
from speakerkit.models.ecapa import Ecapa
from speakerkit.models.eres2net import ERes2Net, Res2Net
from speakerkit.models.folding import fold_batch_norm
from speakerkit.models.golden import golden_embedding
from speakerkit.models.model_info import METADATA_KEY, ModelInfo, facts_as_json
from speakerkit.models.networks import count_parameters
from speakerkit.models.resnet import ReferenceResNet34, ResNet
from speakerkit.models.resnet_speechbrain import SpeechBrainResNet
from speakerkit.models.simam import SimamResNet

log = logging.getLogger(__name__)

IR_VERSION = 10  # of the ONNX file format: what runtimes since 2024 read

GRAPHS = {
    ResNet: resnet_graph.add_resnet,
    ReferenceResNet34: resnet_graph.add_resnet,
    SpeechBrainResNet: resnet_graph.add_speechbrain_resnet,
    SimamResNet: resnet_graph.add_simam_resnet,
    ERes2Net: resnet_graph.add_eres2net,
    Res2Net: resnet_graph.add_res2net,
    Ecapa: tdnn_graph.add_ecapa,
    CamPlusPlus: tdnn_graph.add_campplus,
}
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
    model = join_graphs(info.fbank, info.model, make_network_graph(loaded.network))
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
    data = onnx_file.sign(model.SerializeToString(deterministic=True))
    onnx_file.check_graph(data, info.name)
    return data


def make_network_graph(network: nn.Module) -> onnx.ModelProto:
    """The network as a graph from features and lengths to the embedding, batch norm folded."""
    network = fold_batch_norm(network).eval()
    builder = GraphBuilder("network")
    GRAPHS[type(network)](builder, network)
    graph = helper.make_graph(builder.nodes, "network", [], [], builder.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


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
