"""What the workloads work on: utterances, one network under every peer's names, trials, noises and rooms."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from peers import PROGRAMS
from processes import run_program
from speakerkit.io.ark import ArkWriter

RATE = 16000  # Hz
DIM = 256
LOCAL = Path(__file__).resolve().parents[2] / "local"


@dataclass(frozen=True)
class Sizes:
    """How much work is done; the defaults are those of the published tables."""

    utterances: int = 500
    enrolments: int = 196  # as many enrolments and test utterances as CN-Celeb's evaluation has
    tests: int = 17777
    cohorts: tuple[int, ...] = (3000, 20000)
    share_every: int = 10  # the slow ways to score get the trials of one enrolment in so many
    batch: int = 64
    classes: int = 8379
    steps: int = 3
    samples: int = 1024


QUICK = Sizes(utterances=6, enrolments=8, tests=60, cohorts=(40,), share_every=2, batch=4, classes=10, steps=1,
              samples=8)


def scp_rows(path: Path) -> list[list[str]]:
    """The words of each line."""
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]


def made_once(folder: Path, make, *options) -> dict:
    """What ``make(folder, *options)`` says of what it writes; it is called only where other options made the folder."""
    note, made_with = folder / "made.json", json.loads(json.dumps(options, default=str))
    if note.exists() and (known := json.loads(note.read_text(encoding="utf-8")))["options"] == made_with:
        return known["facts"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    facts = make(folder, *options) or {}
    note.write_text(json.dumps({"options": made_with, "facts": facts}), encoding="utf-8")
    return facts


def utterances_of(context) -> dict:
    """The folder ``utterances`` of this run, and facts on it."""
    return made_once(context.folder / "utterances", write_utterances, context.speech_dir, context.sizes.utterances)


def network_of(context) -> dict:
    """The folder ``models`` of this run, and facts on it."""
    return made_once(context.folder / "models", write_network, context.folder / "utterances" / "wav.scp",
                     context.peers.has("sherpa-onnx"))


def write_utterances(folder: Path, speech_dir: Path | None, count: int) -> dict:
    """``count`` recordings as 16-bit WAV, spread over all speakers: wav.scp, utt2spk, and WeSpeaker's raw.list.

    Returns:
        seconds of audio, and words on where it is from.
    """
    source = f"real speech, {count} utterances"
    if speech_dir is None:
        source = f"ARTIFICIAL talkers, {count} utterances (--speech-dir names real ones)"
        speech_dir = folder / "talkers"
        if not speech_dir.exists():
            sys.path.insert(0, str(LOCAL))
            import synthesise_talkers

            synthesise_talkers.write_talkers(speech_dir, num_talkers=min(50, count), num_recordings=-(-count // 50),
                                             seed=1)
    paths = sorted(path for kind in ("flac", "wav") for path in speech_dir.glob(f"*/*.{kind}"))
    if len(paths) < count:
        raise SystemExit(f"run_benchmarks.py: {speech_dir} has {len(paths)} recordings; want {count} of them as "
                         "DIR/SPEAKER/UTT.flac or .wav, or fewer --utterances")
    scp, speakers, raw, seconds = [], [], [], 0.0
    for path in [paths[number * len(paths) // count] for number in range(count)]:
        samples, rate = soundfile.read(path, dtype="int16")
        if rate != RATE or samples.ndim != 1:
            raise SystemExit(f"run_benchmarks.py: {path}: {rate} Hz; the peers want 16000 Hz, one channel")
        speaker, utt_id = path.parent.name, f"{path.parent.name}-{path.stem}"
        target = folder / f"{utt_id}.wav"
        soundfile.write(target, samples, rate, subtype="PCM_16")
        scp.append(f"{utt_id} {target}\n")
        speakers.append(f"{utt_id} {speaker}\n")
        raw.append(json.dumps({"key": utt_id, "wav": str(target), "spk": speaker}) + "\n")
        seconds += len(samples) / rate
    for name, lines in (("wav.scp", scp), ("utt2spk", speakers), ("raw.list", raw), ("few.scp", scp[:3]),
                        ("few.list", raw[:3])):
        (folder / name).write_text("".join(lines), encoding="utf-8")
    return {"audio_s": seconds, "source": f"{source}, {seconds:.0f} s in all"}


def write_network(folder: Path, wav_scp: Path, has_graph: bool) -> dict:
    """One network with random weights under every name it needs, as programs/make_network.py says.

    Returns:
        gflop_per_s: what it costs per second of audio.
    """
    graph = ["--graph"] * has_graph
    return run_program([sys.executable, PROGRAMS / "make_network.py", wav_scp, folder, *graph]).told


def write_scoring(folder: Path, enrolments: int, tests: int, cohort_sizes: tuple[int, ...], share_every: int) -> None:
    """Embeddings with speakers in them (EER near 4 %), every enrolment against every test, and cohorts."""
    draw = np.random.default_rng(1)
    speakers = [f"id{800 + n:05d}" for n in range(enrolments)]
    centres, shift = 0.35 * draw.standard_normal((enrolments, DIM)), 0.3 * draw.standard_normal(DIM)
    owners = draw.integers(enrolments, size=tests)
    enrolled = {f"{speaker}-enroll": centres[n] + 0.33 * draw.standard_normal(DIM) + shift
                  for n, speaker in enumerate(speakers)}
    tested = {f"{speakers[owner]}-speech-{n % 30:02d}-{n:05d}": centres[owner] + draw.standard_normal(DIM) + shift
             for n, owner in enumerate(owners)}
    _write_vectors(folder, "enrol", enrolled)
    _write_vectors(folder, "test", tested)
    _write_vectors(folder, "all", enrolled | tested)
    for size in cohort_sizes:
        rows = 0.69 * draw.standard_normal((size, DIM)) + shift
        _write_vectors(folder, f"cohort{size}", {f"cohort-{n:06d}": row for n, row in enumerate(rows)})
    with (folder / "trials").open("w", encoding="utf-8") as out, (folder / "part").open("w", encoding="utf-8") as part:
        for number, enrol_id in enumerate(enrolled):
            lines = "".join(f"{enrol_id} {test_id} {'target' if owner == number else 'nontarget'}\n"
                            for test_id, owner in zip(tested, owners, strict=True))
            out.write(lines)
            if number % share_every == 0:
                part.write(lines)


def _write_vectors(folder: Path, name: str, vectors: dict[str, np.ndarray]) -> None:
    (folder / name).mkdir(exist_ok=True)  # 3D-Speaker's script reads every ark of a folder
    with ArkWriter(folder / name / "x.ark", folder / name / "x.scp") as writer:
        for key, vector in vectors.items():
            writer.write(key, vector.astype(np.float32))


def write_disturbances(folder: Path, count: int = 60) -> None:
    """Noises of 10 s and room responses as 16-bit WAV, with their wav.scp."""
    from speakerkit.features import augment

    draw = np.random.default_rng(1)
    for kind in ("noise", "response"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        lines = []
        for number in range(count):
            if kind == "noise":
                samples = 0.1 * augment.coloured_noise(10 * RATE, draw.uniform(0, 2), draw)
            else:
                samples = 0.5 * augment.synthetic_room_response(RATE, draw.uniform(0.15, 0.7), draw.uniform(-2, 12),
                                                                draw)
            path = folder / kind / f"{kind}-{number:03d}.wav"
            soundfile.write(path, samples, RATE, subtype="PCM_16")
            lines.append(f"{kind}-{number:03d} {path}\n")
        (folder / f"{kind}.scp").write_text("".join(lines), encoding="utf-8")
