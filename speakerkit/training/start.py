"""Training that begins with a model: its trunk is kept, what does not fit drawn anew, known speakers keep rows."""

import logging
from pathlib import Path

import safetensors
import torch
from torch import nn

from speakerkit.config import SystemConfig, as_dict
from speakerkit.errors import ConfigError, DataError
from speakerkit.io import files
from speakerkit.models import find, model_file
from speakerkit.training import checkpoint
from speakerkit.training.aam_softmax import AamSoftmax

log = logging.getLogger(__name__)
SPEAKERS = "speakers"  # in an experiment folder: the classes, one a line, in the order of the classifier's rows
HEAD_OPTIONS = ("embedding_dim", "two_embedding_layers")  # of [model]: they change layers after the trunk


def start_from_model(
    name: str, network: nn.Module, loss: AamSoftmax, speakers: list[str], system: SystemConfig
) -> tuple[dict[str, object], nn.Module]:
    """Put a model's weights into the network, and the classifier rows of speakers it knows into the loss.

    Args:
        name: what ``find.find_model`` takes; an experiment folder also gives its classifier.
        network: drawn anew; the model's tensors replace what they fit.
        loss: the classifier, drawn anew.
        speakers: class names of the new training set, in order.
        system: the new run's options.

    Returns:
        For the model file: name and sha256 of the model, num_shared_speakers. The model's network as it was.

    Raises:
        ConfigError: another architecture, trunk or front end.
        DataError: no such model, or a damaged one.
    """
    path = find.find_model(name)
    model = model_file.load_model(path)
    _check_same(model.info, system, name)
    kept = _copy_fitting(model.network.state_dict(), network)
    drawn = sorted({n.split(".")[0] for n, _ in network.named_parameters()} - {n.split(".")[0] for n in kept})
    num_shared = _copy_rows(Path(name), loss, speakers) if Path(name).is_dir() else 0
    log.info(
        "begun with %s (%s): %d tensors kept, drawn anew: %s; classifier rows of %d of %d speakers kept",
        model.info.name, path, len(kept), ", ".join(drawn) or "none", num_shared, len(speakers),
    )  # fmt: skip
    return {"name": model.info.name, "sha256": model.sha256, "num_shared_speakers": num_shared}, model.network


def _check_same(info, system: SystemConfig, name: str) -> None:
    theirs, ours = as_dict(info.model), as_dict(system.model)
    differ = [f"[model] {k} {theirs[k]!r} (here: {v!r})"
              for k, v in ours.items() if k not in HEAD_OPTIONS and theirs.get(k) != v]
    theirs, ours = as_dict(info.fbank), as_dict(system.fbank)
    differ += [f"[fbank] {k} {theirs.get(k)!r} (here: {v!r})"
               for k, v in ours.items() if k != "dither" and theirs.get(k) != v]
    if differ:
        raise ConfigError(f"--init {name}: its network or features are others: {', '.join(differ[:5])}")


@torch.no_grad()
def _copy_fitting(tensors: dict[str, torch.Tensor], network: nn.Module) -> list[str]:
    """Names of the tensors that were copied: all of the trunk, and of the head those of the same shape."""
    wanted = network.state_dict()
    fitting = [n for n, t in tensors.items() if n in wanted and wanted[n].shape == t.shape]
    for name in fitting:
        wanted[name].copy_(tensors[name])
    return fitting


@torch.no_grad()
def _copy_rows(folder: Path, loss: AamSoftmax, speakers: list[str]) -> int:
    """Copy the classifier rows of an experiment folder's speakers that are in the new set; how many these are."""
    found = checkpoint.list_checkpoints(folder / "checkpoints")
    names = folder / SPEAKERS
    if not found or not names.is_file():
        log.info("%s has no checkpoint and list of speakers: the whole classifier is drawn anew", folder)
        return 0
    known = {spk_id: row for row, spk_id in enumerate(names.read_text(encoding="utf-8").split())}
    try:
        with safetensors.safe_open(found[0][1], framework="pt") as file:
            rows = file.get_tensor("loss.weight")
    except (safetensors.SafetensorError, OSError) as error:
        raise DataError(found[0][1], f"can't be read: {error}") from None
    if rows.shape != (len(known), loss.weight.shape[1]):
        log.info("%s: its classifier has shape %s, which fits no %d speakers", folder, tuple(rows.shape), len(known))
        return 0
    shared = [(row, known[spk_id]) for row, spk_id in enumerate(speakers) if spk_id in known]
    for row, old in shared:
        loss.weight[row] = rows[old].to(loss.weight)
    return len(shared)


def write_speakers(folder: Path, speakers: list[str]) -> None:
    """Keep the order of the classes beside the checkpoints, so that another run can begin with their rows."""
    files.write_text(folder / SPEAKERS, "".join(f"{spk_id}\n" for spk_id in speakers))


def write_comparison(folder: Path, trials: str, initial: dict, after: dict, report: dict) -> None:
    """What training has brought on held-out trials, to ``folder/before_after.md``, the log and --json.

    Args:
        trials: the list's name.
        initial: name of the model it began with and, as ``before``, its metrics on the list.
        after: the finished model's metrics on the same list.
    """
    lines = [f"{trials}: {after['num_target']:,} target and {after['num_nontarget']:,} nontarget trials", "",
             "| | EER % | minDCF (0.01, 1, 1) |", "|---|---|---|"]
    lines += [f"| {name} | {metrics['eer_percent']:.3f} | {metrics['min_dcf']:.4f} |"
              for name, metrics in ((f"before: {initial['name']}", initial["before"]), ("after", after))]
    files.write_text(folder / "before_after.md", "\n".join(lines) + "\n")
    log.info("before and after, on %s", "\n".join(lines))
    before = initial["before"]
    report.update({f"{name}_before": before[name] for name in ("eer_percent", "min_dcf")}, min_dcf=after["min_dcf"])
