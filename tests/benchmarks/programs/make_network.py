"""One ResNet34 with random weights under every name it needs; prints what it costs.

avg_model.pt (WeSpeaker's and 3D-Speaker's names), wespeaker.safetensors and 3dspeaker.safetensors (ours, with the
front end of each, imported from it), and with --graph features.onnx (features in, for sherpa-onnx).
usage: make_network.py wav.scp FOLDER [--graph]
"""

import json
import sys
from pathlib import Path

import soundfile
import torch

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.features.fbank import compute_fbank
from speakerkit.jobs.import_checkpoint import ImportOptions, import_checkpoint
from speakerkit.models.networks import initialise, make_network
from speakerkit.models.published import names

NUM_HEARD = 20  # recordings that batch norm takes its statistics from: without any, all embeddings are alike


def count_gflop(network: torch.nn.Module, features: torch.Tensor) -> float:
    """Of the convolutions and layers, multiply and add counted apart."""
    total = [0.0]

    def count(layer, inputs, output) -> None:
        total[0] += 2 * layer.weight[0].numel() * output.numel() / 1e9

    hooks = [layer.register_forward_hook(count) for layer in network.modules()
             if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    network(features)
    for hook in hooks:
        hook.remove()
    return total[0]


def export_features_in(path: Path, network: torch.nn.Module, dim: int) -> None:
    """Features in, embedding out, with the metadata that sherpa-onnx's script for WeSpeaker's models writes."""
    import onnx

    # The tracing exporter, as WeSpeaker's script has it: the newer one needs onnxscript.
    torch.onnx.export(network, (torch.zeros(1, 200, 80),), path, dynamo=False, input_names=["feats"],
                      output_names=["embs"], dynamic_axes={"feats": {1: "T"}})
    graph = onnx.load(path)
    facts = {"framework": "wespeaker", "language": "English", "url": "", "comment": "random weights",
             "sample_rate": 16000, "output_dim": dim, "normalize_samples": 0, "feature_normalize_type": "global-mean"}
    for key, value in facts.items():
        graph.metadata_props.add(key=key, value=str(value))
    onnx.save(graph, path)


@torch.no_grad()
def main(wav_scp: str, name: str, *options: str) -> None:
    folder, config = Path(name), ModelConfig()
    network = make_network(config, 80)
    initialise(network, torch.Generator().manual_seed(1))
    network.train()
    for line in Path(wav_scp).read_text(encoding="utf-8").splitlines()[:NUM_HEARD]:
        samples = torch.from_numpy(soundfile.read(line.split()[1], dtype="float32")[0])
        features = compute_fbank(samples, FbankConfig())
        network((features - features.mean(dim=0))[None])
    network.eval()
    scheme = names.resnet(config.num_blocks)
    state = {names.published_name(key, scheme): (value.transpose(2, 3) if value.dim() == 4 else value).contiguous()
             for key, value in network.state_dict().items()}
    torch.save(state, folder / "avg_model.pt")
    for source in ("wespeaker", "3dspeaker"):
        import_checkpoint(folder / "avg_model.pt", folder / f"{source}.safetensors",
                          ImportOptions(source=source, overwrite=True), {})
    if "--graph" in options:
        export_features_in(folder / "features.onnx", network, config.embedding_dim)
    print(json.dumps({"gflop_per_s": count_gflop(network, torch.zeros(1, 400, 80)) / 4.0}))


if __name__ == "__main__":
    main(*sys.argv[1:])
