"""Where in a folder the checkpoint lies, and which configuration lies beside a checkpoint.

Folders are those that hubs send and that trainers write: WeSpeaker's `models/avg_model.pt` beside `config.yaml`,
3D-Speaker's `models/CKPT-EPOCH-<n>-<nn>/embedding_model.ckpt`, SpeechBrain's `embedding_model.ckpt` beside
`hyperparams.yaml`, the reference's `sv.pth` beside `sv.yaml`, ModelScope's `configuration.json` that names a file.
"""

import os
import re
from pathlib import Path

from speakerkit.errors import ConfigError, DataError

CONFIGS = ("config.yaml", "hyperparams.yaml", "sv.yaml", "configuration.json")
# Of the first group that a folder has any of, the one is taken.
NAMES = (
    ("avg_model.pt", "models/avg_model.pt"),
    ("sv.pth", "sv.pb"),
    ("embedding_model.ckpt",),
    ("CKPT*/embedding_model.ckpt", "models/CKPT*/embedding_model.ckpt", "save/CKPT*/embedding_model.ckpt"),
    tuple(f"{folder}*{suffix}" for folder in ("", "models/")
          for suffix in (".pt", ".pth", ".pb", ".ckpt", ".bin", ".safetensors")),
)
# What trainers keep beside a network: heads, statistics, the state of a run.
NO_NETWORKS = re.compile(r"classifier|projection|norm|label|optimi[sz]er|sched|counter|dataloader|training_args|brain")
TRAINERS_FOLDERS = re.compile(r"models|save|CKPT.*|snapshots")
MOST_TOLD = 8


def find_checkpoint(folder: str | os.PathLike, named: str | None = None, epoch: int | None = None) -> str:
    """The checkpoint in a folder.

    Args:
        folder: what a hub sent or a trainer wrote.
        named: the file's name, where the folder's configuration tells it.
        epoch: of several that a trainer kept, the one that its configuration takes.

    Raises:
        ConfigError: there are several; one line names them.
        DataError: there is none.
    """
    folder = Path(folder)
    if named is not None:
        if os.path.basename(named) != named or not (folder / named).is_file():
            raise DataError(folder, f"its configuration names the checkpoint {named[:200]!r}, which isn't there")
        return str(folder / named)
    for patterns in NAMES:
        found = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
        if patterns is NAMES[-1]:
            found = [path for path in found if _may_be_a_network(path)]
        of_epoch = [path for path in found if re.match(rf"CKPT-EPOCH-{epoch}-", path.parent.name)]
        found = of_epoch or found
        if len(found) == 1:
            return str(found[0])
        if found:
            shown = ", ".join(str(path.relative_to(folder)) for path in found[:MOST_TOLD])
            more = f" and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
            raise ConfigError(f"{folder}: holds {len(found)} checkpoints: {shown}{more}; name one of them")
    raise DataError(folder, "holds no checkpoint; want a folder with e.g. avg_model.pt, embedding_model.ckpt or sv.pth")


def _may_be_a_network(path: Path) -> bool:
    """Neither what trainers keep beside one, nor a file that a command of ours made."""
    return not NO_NETWORKS.search(path.name.lower()) and not Path(f"{path}.manifest.json").exists()


def snapshot_of(folder: str | os.PathLike) -> str:
    """The folder itself, or the only snapshot in it where it is one of Hugging Face's cache."""
    snapshots = sorted(path for path in Path(folder).glob("snapshots/*") if path.is_dir())
    if len(snapshots) > 1:
        raise ConfigError(f"{folder}: holds {len(snapshots)} snapshots; name one of the folders under snapshots")
    return str(snapshots[0] if snapshots else folder)


def configs_beside(path: str | os.PathLike) -> list[str]:
    """Configurations beside a checkpoint, or beside the folders in which a trainer put it; the nearest first."""
    folder, found = Path(os.path.abspath(path)).parent, []
    while True:
        found += [str(folder / name) for name in CONFIGS if (folder / name).is_file()]
        if not TRAINERS_FOLDERS.fullmatch(folder.name):
            return found
        folder = folder.parent
