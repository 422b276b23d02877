"""Seconds of a training step, all cores: ours as train-model does it, or the plain eager loop.

usage: training_step.py plain|KIND BATCH FRAMES CLASSES STEPS [WESPEAKER_CHECKOUT]

KIND is ours-float32, ours-bfloat16, or compiled-float32, compiled-bfloat16 as with [training] compile = true.
``plain`` is contiguous float32 with SGD as the field's trainers have it; with WeSpeaker's checkout its own
ResNet34 and arc_margin projection, else our network in its usual layout. All run on the same torch.
"""

import json
import statistics
import sys
import time
import types
from pathlib import Path

import torch


def batch_of(batch: int, frames: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(batch, frames, 80, generator=generator)
    return features, torch.randint(classes, (batch,), generator=generator)


def our_step(precision: torch.dtype, features: torch.Tensor, labels: torch.Tensor, classes: int,
             is_compiled: bool = False):
    """train_step of the training loop on a state and run as train.py makes them."""
    from speakerkit.config import SystemConfig
    from speakerkit.models import device
    from speakerkit.models.networks import initialise, make_network
    from speakerkit.training import loop
    from speakerkit.training.aam_softmax import AamSoftmax
    from speakerkit.training.checkpoint import TrainingState
    from speakerkit.training.forward import make_forward
    from speakerkit.training.optimiser import make_optimiser

    device.keep_freed_memory()
    system = SystemConfig()
    generator = torch.Generator().manual_seed(1)
    network = make_network(system.model, 80)
    initialise(network, generator)
    network = device.to_channels_last(network)
    loss = AamSoftmax(system.model.embedding_dim, classes, system.loss.scale, generator)
    state = TrainingState(network, loss, make_optimiser([network, loss], system.training))
    cpu = torch.device("cpu")
    forward = make_forward(network, is_compiled, cpu)
    run = loop.Run(system, 1000, None, Path(), cpu, precision, 0, 0, lambda _: 0, "", False, forward=forward)

    def step() -> None:
        loop.train_step(state, run, features, labels)
        if is_compiled and forward.fault:
            sys.exit(f"training_step.py: can't be compiled here: {forward.fault}")

    return step


def plain_network(classes: int, checkout: str | None):
    """The modules that learn, and the loss of (features, labels)."""
    if checkout is None:
        from speakerkit.config import ModelConfig
        from speakerkit.models.networks import make_network
        from speakerkit.training.aam_softmax import AamSoftmax

        network, margin = make_network(ModelConfig(), 80), AamSoftmax(256, classes, 32.0, torch.Generator())
        return [network, margin], lambda features, labels: margin(network(features), labels, 0.2)[0]
    package = types.ModuleType("wespeaker")  # its __init__ would import what training doesn't need
    package.__path__ = [str(Path(checkout) / "wespeaker")]
    sys.modules["wespeaker"] = package
    sys.path.insert(0, checkout)
    from wespeaker.models.projections import get_projection
    from wespeaker.models.resnet import ResNet34

    network, margin = ResNet34(80, 256), get_projection({"project_type": "arc_margin", "embed_dim": 256,
                                                         "num_class": classes, "scale": 32.0, "easy_margin": False})

    def loss(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        outputs = margin(network(features)[-1], labels)
        return torch.nn.functional.cross_entropy(outputs[0] if isinstance(outputs, tuple) else outputs, labels)

    return [network, margin], loss


def plain_step(features: torch.Tensor, labels: torch.Tensor, classes: int, checkout: str | None):
    torch.manual_seed(1)
    modules, loss_of = plain_network(classes, checkout)
    optimiser = torch.optim.SGD([p for module in modules for p in module.train().parameters()], lr=0.01, momentum=0.9,
                                nesterov=True, weight_decay=1e-4)

    def step() -> None:
        loss = loss_of(features, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()

    return step


def main(kind: str, batch: str, frames: str, classes: str, steps: str, checkout: str | None = None) -> None:
    features, labels = batch_of(int(batch), int(frames), int(classes))
    if kind == "plain":
        step = plain_step(features, labels, int(classes), checkout)
    else:
        whose, precision = kind.split("-")
        step = our_step(getattr(torch, precision), features, labels, int(classes), whose == "compiled")
    taken = []
    for _ in range(int(steps) + 1):
        began = time.perf_counter()
        step()
        taken.append(time.perf_counter() - began)
    print(json.dumps({"seconds": statistics.median(taken[1:]), "first_step_s": taken[0]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
