"""What a stopped run needs to go on exactly: one safetensors file a checkpoint, named by its step."""

import dataclasses
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from speakerkit.io import output

log = logging.getLogger(__name__)
FORMAT = 1


@dataclass
class TrainingState:
    """Everything that a step changes."""

    network: nn.Module
    loss: nn.Module
    optimiser: torch.optim.Optimizer
    average: dict[str, torch.Tensor] = dataclasses.field(
        default_factory=dict
    )  # running mean of the network's parameters
    num_averaged: int = 0
    step: int = 0  # steps done
    best_eer: float | None = None  # on the validation trials
    best_step: int | None = None
    bad: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # utterance -> path, reason, detail

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by name."""
        named = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        named |= {f"loss.{k}": v for k, v in self.loss.state_dict().items()}
        named |= {f"average.{k}": v for k, v in self.average.items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            named |= {f"optimiser.{number}.{k}": v for k, v in state.items() if isinstance(v, torch.Tensor)}
        return {name: tensor.detach().contiguous() for name, tensor in named.items()}

    def load(self, tensors: dict[str, torch.Tensor], facts: dict) -> None:
        """Take over what ``tensors`` and the checkpoint's facts hold."""

        def part(prefix):
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        self.loss.load_state_dict(part("loss."))
        self.average = part("average.")
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in part("optimiser.").items():
            number, key = name.split(".", 1)
            state.setdefault(int(number), {})[key] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
        for name in ("step", "num_averaged", "best_eer", "best_step", "bad"):
            setattr(self, name, facts[name])


def checkpoint_path(folder: Path, step: int) -> Path:
    """`checkpoints/step-000500.safetensors`."""
    return folder / f"step-{step:07d}.safetensors"


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of every checkpoint, newest first."""
    found = [
        (int(m[1]), p)
        for p in folder.glob("step-*.safetensors")
        if (m := re.fullmatch(r"step-(\d+)\.safetensors", p.name))
    ]
    return sorted(found, reverse=True)


def save_checkpoint(folder: Path, state: TrainingState, keep: int) -> Path:
    """Write the state whole or not at all, then remove all but the newest ``keep``.

    Raises:
        MachineError: the disk is full or the place unusable; older checkpoints stay.
    """
    facts = {
        "format": FORMAT,
        "step": state.step,
        "num_averaged": state.num_averaged,
        "best_eer": state.best_eer,
        "best_step": state.best_step,
        "bad": state.bad,
    }
    path = checkpoint_path(folder, state.step)
    data = safetensors.torch.save(state.tensors(), metadata={"speakerkit_training": json.dumps(facts)})
    with output.open_output(path) as stream:
        stream.write(data)
    for _, old in list_checkpoints(folder)[keep:]:
        old.unlink()
    return path


def load_newest(folder: Path, state: TrainingState) -> bool:
    """Load the newest checkpoint that can be read, saying what was skipped; False if there is none."""
    for step, path in list_checkpoints(folder):
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                facts = json.loads(file.metadata()["speakerkit_training"])
            if facts["format"] != FORMAT or facts["step"] != step:
                raise ValueError(f"is of format {facts['format']} and step {facts['step']}")
            state.load(safetensors.torch.load_file(path), facts)
            return True
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            log.warning("%s: skipped, can't be read: %s", path, error)
    return False
