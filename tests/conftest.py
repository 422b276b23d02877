"""What every test may ask for: speech (real where there is some), the commands as installed, files of the peers."""

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"  # beside the checkout on some machines

# About 30 seconds of one core to train; 10 to 13 % EER on 7 unseen speakers of real read speech.
TINY_CONFIG = """\
[fbank]
num_mel_bins = 40

[model]
architecture = "resnet34"
embedding_dim = 64
base_channels = 16
num_blocks = [1, 1, 1, 1]

[loss]
scale = 20.0
margin = 0.0

[training]
num_steps = 120
batch_size = 24
chunk_frames = 100
learning_rate = 0.05
final_learning_rate = 1e-3
schedule = "cosine"
log_interval = 40
checkpoint_interval = 80

[augmentation]
speeds = [1.0]
"""


def real_speech_dir() -> Path | None:
    """A folder of real speech, one folder a speaker: $SPEAKERKIT_SPEECH_DIR, else beside the checkout."""
    named = os.environ.get("SPEAKERKIT_SPEECH_DIR")
    if named:
        if not Path(named).is_dir():
            raise pytest.UsageError(f"SPEAKERKIT_SPEECH_DIR is '{named}', which is not a folder")
        return Path(named).resolve()
    return SHARED_DATA / "speech" if (SHARED_DATA / "speech").is_dir() else None


def pytest_report_header(config: pytest.Config) -> str:
    speech = real_speech_dir()
    if speech is None:
        return "speech: SYNTHETIC talkers made for this run; SPEAKERKIT_SPEECH_DIR=DIR names a folder of real speech"
    return f"speech: real, {speech}"


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where exported models and compiled code are kept in this run: never the user's own caches."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("SPEAKERKIT_CACHE_DIR", str(folder))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))
        yield folder


@pytest.fixture(scope="session")
def speech_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one folder a speaker (at least 24 of at least 12 recordings); never written to."""
    speech = real_speech_dir()
    if speech is not None:
        return speech
    import synthesise_talkers  # local/

    speech = tmp_path_factory.mktemp("speech")
    synthesise_talkers.write_talkers(speech, num_talkers=24, num_recordings=12, seed=1)
    return speech


@pytest.fixture(scope="session")
def speech_files(speech_dir: Path) -> dict[str, list[Path]]:
    """Speaker -> recordings, both sorted; 16 kHz mono."""
    folders = sorted(folder for folder in speech_dir.iterdir() if folder.is_dir())
    return {folder.name: sorted(folder.glob("*.flac")) for folder in folders}


@pytest.fixture
def speech_wav_scp(speech_files: dict[str, list[Path]]) -> Callable[..., Path]:
    """``speech_wav_scp(folder, speakers=4, recordings=3)`` writes wav.scp and utt2spk there; returns wav.scp."""

    def write(folder: Path, speakers: int = 4, recordings: int = 3) -> Path:
        rows = [(f"{speaker}-{path.stem}", speaker, path)
                for speaker, paths in list(speech_files.items())[:speakers] for path in paths[:recordings]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "wav.scp").write_text("".join(f"{utt} {path}\n" for utt, _, path in rows), encoding="utf-8")
        (folder / "utt2spk").write_text("".join(f"{utt} {speaker}\n" for utt, speaker, _ in rows), encoding="utf-8")
        return folder / "wav.scp"

    return write


@pytest.fixture(scope="session")
def run_command() -> Callable[..., subprocess.CompletedProcess]:
    """``run_command("score-trials", trials, ark)`` runs a command as installed, in a process of its own.

    Output comes back as text in ``stdout`` and ``stderr``; the exit code is the test's to judge.
    Keywords go to ``subprocess.run``; ``env`` is added to the environment.
    """

    def run(name: str, *args: object, env: dict | None = None, **options) -> subprocess.CompletedProcess:
        command = [str(Path(sys.executable).parent / name), *map(str, args)]
        options = {"capture_output": True, "text": True, "encoding": "utf-8", "timeout": 600, **options}
        return subprocess.run(command, env={**os.environ, **(env or {})}, check=False, **options)

    return run


@pytest.fixture(scope="session")
def run_recipe(run_command) -> Callable[..., subprocess.CompletedProcess]:
    """``run_recipe("mini", "--stage", 4)`` runs a recipe as a user would, with the commands as installed."""

    def run(name: str, *options: object, **others) -> subprocess.CompletedProcess:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return run_command(ROOT / "recipes" / name / "run.sh", *options, env={"PATH": path}, timeout=900, **others)

    return run


@pytest.fixture
def tiny_config(tmp_path: Path) -> Path:
    """The configuration of a network that learns a little within seconds."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_CONFIG, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def conventions_dir() -> Path | None:
    """What the peers' metric scripts print on four score sets; None where the checkout stands alone."""
    folder = SHARED_DATA / "conventions"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def golden_dir() -> Path | None:
    """Embeddings of the original implementations; None where the checkout stands alone."""
    folder = SHARED_DATA / "golden"
    return folder if folder.is_dir() else None


def _textgrid(tiers: dict[str, list[tuple[float, float, str]]], end_s: float) -> str:
    """A TextGrid of spoken intervals only, as AliMeeting's are."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end_s:g}",
             "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"',
                  "        xmin = 0", f"        xmax = {end_s:g}", f"        intervals: size = {len(intervals)}"]
        for index, (start_s, stop_s, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{index}]:", f"            xmin = {start_s:g}",
                      f"            xmax = {stop_s:g}", f'            text = "{text}"']
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def lay_out_meeting() -> Callable[..., None]:
    """``lay_out_meeting(corpus_dir, "Train", "R0001_M0001", {"F_SPK0001": [(0.5, 4.2)], ...})`` lays out a session
    as AliMeeting lies on disk: 8 channels of an array, a headset a speaker, their TextGrids.

    Keywords: ``duration_s``; ``voices``, speaker -> samples that are spoken one turn after the other (silence
    without); ``rate``; ``tier_names``, speaker -> far tier's name. A turn may have a text as its third.
    """
    import numpy as np
    import soundfile

    def lay_out(corpus_dir: Path, subset: str, session_id: str, turns: dict[str, list[tuple]], duration_s: float = 20.0,
                voices: dict | None = None, rate: int = 4000, tier_names: dict | None = None) -> None:
        base = corpus_dir if subset == "Train" else corpus_dir / f"{subset}_Ali"
        far, near = base / f"{subset}_Ali_far", base / f"{subset}_Ali_near"
        for folder in (far, near):
            for name in ("audio_dir", "textgrid_dir"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        mixed = np.zeros((round(duration_s * rate), 8), np.float32)
        intervals = {spk: [(*turn, "\u597d")[:3] for turn in mine] for spk, mine in turns.items()}
        for number, (speaker, mine) in enumerate(intervals.items()):
            track, spoken = np.zeros(len(mixed), np.float32), 0
            for start_s, stop_s, _ in mine if voices else ():
                first, count = round(start_s * rate), round((stop_s - start_s) * rate)
                place = track[first : first + count]
                place[:] = voices[speaker][spoken : spoken + len(place)]
                spoken += count
            stem = f"{session_id}_{speaker}"
            soundfile.write(near / "audio_dir" / f"{stem}.wav", track, rate, subtype="PCM_16")
            (near / "textgrid_dir" / f"{stem}.TextGrid").write_text(_textgrid({speaker: mine}, duration_s))
            for channel in range(8):  # an array about which the speakers sit: other delays and levels
                delay = 1 + (3 * number + channel) % 8
                mixed[delay:, channel] += (0.3 + 0.05 * channel) * track[:-delay]
        noise = np.random.default_rng(len(session_id)).standard_normal(mixed.shape).astype(np.float32)
        soundfile.write(far / "audio_dir" / f"{session_id}_MS001.wav", mixed + 0.002 * noise, rate, subtype="PCM_16")
        names = {speaker: f"{session_id}_{speaker}" for speaker in turns} | (tier_names or {})
        tiers = {names[speaker]: mine for speaker, mine in intervals.items()}
        (far / "textgrid_dir" / f"{session_id}.TextGrid").write_text(_textgrid(tiers, duration_s))

    return lay_out


@pytest.fixture(scope="session")
def original_weights() -> Callable[[str], dict]:
    """``original_weights("3dspeaker_campplus")``: a state dictionary by the rule of tests/golden/README.md."""
    import numpy as np
    import torch

    def draw(name: str) -> dict[str, torch.Tensor]:
        weights = {}
        shapes = json.loads((ROOT / "tests" / "golden" / f"{name}.keys.json").read_text(encoding="utf-8"))
        for key, shape in shapes.items():
            generator = np.random.default_rng(zlib.crc32(key.encode()))
            if key.endswith("num_batches_tracked"):
                continue
            if key.endswith("running_var"):
                weight = generator.uniform(0.5, 1.5, shape)
            elif key.endswith("running_mean"):
                weight = 0.1 * generator.standard_normal(shape)
            elif key.endswith("bias"):
                weight = 0.05 * generator.standard_normal(shape)
            elif len(shape) == 1:
                weight = generator.uniform(0.8, 1.2, shape)
            else:
                weight = generator.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
            weights[key] = torch.from_numpy(np.asarray(weight).astype(np.float32))
        return weights

    return draw


@pytest.fixture(scope="session")
def draw_network() -> Callable:
    """``draw_network(config, bins, seed=1)``: evaluation mode, drawn weights, batch norm that does something."""
    import torch
    from torch import nn

    from speakerkit.models.networks import initialise, make_network

    def draw(config, bins: int, seed: int = 1) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        network = make_network(config, bins)
        initialise(network, generator)
        for module in network.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                if module.affine:
                    nn.init.uniform_(module.weight, 0.8, 1.2, generator=generator)
                    nn.init.normal_(module.bias, 0, 0.05, generator=generator)
        return network.eval().requires_grad_(False)

    return draw
