"""What a resumed run must share with its beginning: run.json, and what is refused where it differs."""

import json
from pathlib import Path

from speakerkit import __version__
from speakerkit.config import SystemConfig, as_dict, parse_system
from speakerkit.errors import ConfigError
from speakerkit.features import resample_together
from speakerkit.features.dither import DRAWN_AS
from speakerkit.io import audio, files
from speakerkit.models import find, model_file
from speakerkit.training import setup
from speakerkit.training.chunks import WaveChunks


def run_identity(
    chunks, system: SystemConfig, options, audio_options: audio.AudioOptions, size: int
) -> dict:
    """What a resumed run must share with its beginning; how dither is drawn and speeds are made, only where training
    does it."""
    made = {}
    if isinstance(chunks, WaveChunks) and system.fbank.dither > 0:
        made["dither_drawn_as"] = DRAWN_AS
    if isinstance(chunks, WaveChunks) and chunks.changes_speed:
        made["speeds_made_by"] = resample_together.MADE_BY
    return made | {
        "channel": "random" if options.random_channel else audio_options.channel,
        "system": as_dict(system),
        "seed": options.seed,
        "num_processes": size,
        "version": __version__,
        "speakers": setup.hash_lines(chunks.speakers),
        "utterances": setup.hash_lines(chunks.utt_ids),
        "init": model_file.sha256_of(find.find_model(options.init)) if options.init else "",
        "teacher": model_file.sha256_of(find.find_model(options.teacher)) if options.teacher else "",
    }


def check_identity(folder: Path, identity: dict, overwrite: bool) -> None:
    path = folder / "run.json"
    if path.is_file():
        differ = _differences(read_identity(path), identity)
        if not differ:
            return
        if not overwrite:
            raise ConfigError(
                f"{folder} holds a run with other options: {'; '.join(differ[:5])}; "
                "--overwrite starts anew, another EXP_DIR keeps both"
            )
        old = [folder / "model.safetensors", folder / "train_log.tsv"]
        for file in [*old, *folder.glob("checkpoints/*"), *folder.glob("best/*")]:
            file.unlink(missing_ok=True)
    files.write_json(path, identity)


def read_identity(path: Path) -> dict:
    """What a run was begun with; options that didn't exist then have their defaults."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        defaults = {"init": "", "teacher": "", "num_processes": 1, "dither_drawn_as": "exact normals",
                    "speeds_made_by": "soxr"}
        return defaults | known | {"system": as_dict(parse_system(known["system"], path))}
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError):
        return {}


def _differences(known: dict, wanted: dict, prefix: str = "") -> list[str]:
    found = []
    for name, value in wanted.items():
        old = known.get(name)
        if isinstance(value, dict):
            found += _differences(old if isinstance(old, dict) else {}, value, f"{prefix}{name}.")
        elif old != value and name != "version":
            found.append(f"{prefix}{name} is {old!r} there, {value!r} here")
    return found
