"""A model run by torch: any device, batch norm folded, convolutions channels-last and in the chosen precision; on a
CPU one utterance at a time with fused operations."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from speakerkit.features.fbank import compute_fbank
from speakerkit.inference.choice import Choice
from speakerkit.inference.long_recordings import can_run_in_parts
from speakerkit.models import device as devices
from speakerkit.models import model_file
from speakerkit.models.folding import prepare_for_inference
from speakerkit.models.fused_convolutions import fuse_convolutions
from speakerkit.models.golden import prepare_features
from speakerkit.models.model_info import ModelInfo

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class TorchRunner:
    """A network in evaluation mode."""

    network: nn.Module  # for padded batches
    alone: nn.Module  # the same for one utterance
    info: ModelInfo
    device: torch.device
    precision: torch.dtype

    @property
    def in_parts(self) -> bool:
        """Whether long recordings can be run stretch by stretch."""
        return can_run_in_parts(self.info)

    @torch.inference_mode()
    def embed(self, samples: np.ndarray) -> np.ndarray:
        """(num_samples,) at the model's rate to (embedding_dim,) float32."""
        features = prepare_features(torch.from_numpy(samples).to(self.device), self.info.fbank, self.info.model)
        return self.alone(features.to(self.precision))[0].float().cpu().numpy()

    def front_end(self) -> Callable[[np.ndarray], np.ndarray]:
        """See ``Parts``; dither goes on from stretch to stretch, as in one piece."""
        config = self.info.fbank
        dither = torch.Generator(self.device).manual_seed(0) if config.dither > 0 else None
        framed = dataclasses.replace(config, snip_edges=True)  # the edges are the caller's

        def compute(samples: np.ndarray) -> np.ndarray:
            return compute_fbank(torch.from_numpy(samples).to(self.device), framed, generator=dither).cpu().numpy()

        return compute

    @torch.inference_mode()
    def frame_outputs(self, features: np.ndarray) -> np.ndarray:
        """See ``Parts``."""
        given = torch.from_numpy(features)[None].to(self.device, self.precision)
        return self.alone.frame_outputs(given)[0][0].float().cpu().numpy()

    @torch.inference_mode()
    def project(self, statistics: np.ndarray) -> np.ndarray:
        """See ``Parts``."""
        return self.network.project(torch.from_numpy(statistics)[None].to(self.device))[0].float().cpu().numpy()


def load_runner(choice: Choice) -> TorchRunner:
    """The network of a .safetensors file.

    Raises:
        DataError: it is damaged.
        ConfigError: a device that isn't there.
        MachineError: a device that fails, or has no memory for it.
    """
    loaded = model_file.load_model(choice.path, golden=False)
    where, precision = devices.choose_device(choice.device), PRECISIONS[choice.precision]
    if precision == torch.float32:
        devices.keep_float32_exact(where)
    with devices.faults_told(choice.device):
        network = prepare_for_inference(loaded.network, where, precision)
        alone = fuse_convolutions(network, choice.info.fbank.num_columns) if where.type == "cpu" else network
    return TorchRunner(network, alone, choice.info, where, precision)
