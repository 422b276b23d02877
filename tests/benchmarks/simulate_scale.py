"""Time and memory an utterance, from a thousand to a million: what all commands do besides arithmetic.

A corpus laid out as CN-Celeb is, of hard links to forty recordings of a third of a second and a silent one in
a thousand, goes through data preparation, validate-data, make-fbank, extract-embeddings and score-trials, each in
a process of its own as a user runs them. Two things are stand-ins: an utterance's features are one frame, its
embedding is drawn from its samples without a network. Files are read, checked, hashed and joined as always.
usage: simulate_scale.py [--sizes 1000,10000,100000,1000000] [--speech-dir DIR] [--work-dir DIR] [--dim 64]
"""

import argparse
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "local"))

UTTERANCES_A_SPEAKER = 50
TRIALS_AN_UTTERANCE = 10
SILENT_EVERY = 1000
NUM_FILES, SECONDS, RATE = 40, 0.32, 16000


# --- what is measured, each in a process of its own ----------------------------------------------------------------


def prepare(folder: Path) -> int:
    import prepare_cnceleb

    return prepare_cnceleb.main([*map(str, (folder / "corpus", folder / "train", folder / "eval")), "--quiet"])


def validate(folder: Path) -> int:
    from speakerkit.cli import validate_data

    return validate_data.main([str(folder / "train"), "--quiet"])


def make_features(folder: Path) -> int:
    from speakerkit.cli import make_fbank
    from speakerkit.jobs import feature_parts

    def one_frame(utterance, samples, rate, options) -> dict[str, np.ndarray]:
        return {utterance.utt_id: samples[:80].reshape(1, 80)}

    put_in_place(feature_parts, "compute_features", one_frame)
    return make_fbank.main([str(folder / "train"), "--output-dir", str(folder / "features"), "--nj", "1",
                            "--max-bad", "1%", "--quiet"])


def extract(folder: Path, dim: int) -> int:
    from speakerkit.cli import extract_embeddings
    from speakerkit.inference import backends, loading

    info = SimpleNamespace(name="stand-in", fbank=SimpleNamespace(sample_rate=RATE))
    choice = SimpleNamespace(path="stand-in", sha256="0" * 64, precision="float32", backend="stand-in", device="cpu",
                             info=info)
    extractor = SimpleNamespace(runner=SimpleNamespace(in_parts=False),
                                embed_samples=lambda samples, rate: np.resize(samples, dim).astype(np.float32))
    put_in_place(backends, "choose_backend", lambda *options, **more: choice)
    put_in_place(loading, "start_extractor", lambda choice: extractor)
    return extract_embeddings.main([str(folder / "train" / "wav.scp"), str(folder / "emb.ark"), "--nj", "1",
                                    "--max-bad", "1%", "--quiet"])


def put_in_place(module: ModuleType, name: str, stand_in: Callable) -> None:
    """Instead of a function that must be there: a name that moved would leave the real one at work, unnoticed."""
    if not callable(getattr(module, name, None)):
        sys.exit(f"{module.__name__} has no function {name} to stand in for")
    setattr(module, name, stand_in)


def score(folder: Path) -> int:
    from speakerkit.cli import score_trials

    return score_trials.main([str(folder / "trials"), str(folder / "emb.ark"), "--output", str(folder / "scores"),
                              "--quiet"])


STAGES: dict[str, tuple[str, Callable]] = {
    "prepare": ("data preparation", prepare),
    "validate": ("validate-data", validate),
    "features": ("make-fbank", make_features),
    "extract": ("extract-embeddings", extract),
    "score": (f"score-trials, {TRIALS_AN_UTTERANCE} an utterance", score),
}


def run_stage(name: str, folder: Path, dim: int) -> None:
    """In the child: what it took as JSON, on the last line of standard output."""
    work = STAGES[name][1]
    began = time.perf_counter()
    code = work(folder, dim) if work is extract else work(folder)
    if code:
        sys.exit(f"{name} ended with {code}")
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"wall_s": time.perf_counter() - began, "cpu_s": used.ru_utime + used.ru_stime,
                      "peak_mb": peak_mb()}))


def peak_mb() -> float:
    """Of this program alone: getrusage's peak begins with that of the process which started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text()).group(1)) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- the corpus and the table --------------------------------------------------------------------------------------


def write_recordings(folder: Path, speech_dir: str | None) -> list[Path]:
    """Forty short recordings and, last, a silent one."""
    folder.mkdir(parents=True)
    sources = sorted(Path(speech_dir).glob("*/*.flac")) if speech_dir else []
    rng, length, paths = np.random.default_rng(1), int(SECONDS * RATE), []
    for number in range(NUM_FILES):
        samples = 0.1 * rng.standard_normal(length)
        if sources:
            samples = np.resize(soundfile.read(sources[number % len(sources)], frames=3 * length)[0][-length:], length)
        paths.append(folder / f"{number:02d}.flac")
        soundfile.write(paths[-1], samples, RATE, subtype="PCM_16")
    paths.append(folder / "silent.flac")
    soundfile.write(paths[-1], np.zeros(length), RATE, subtype="PCM_16")
    return paths


def lay_out(folder: Path, recordings: list[Path], size: int) -> None:
    """`size` hard links as CN-Celeb's recordings lie on disk, and a small evaluation set."""
    import prepare_mini

    *spoken, silent = recordings

    def take(first: int) -> list[Path]:
        return [silent if number % SILENT_EVERY == SILENT_EVERY - 1 else spoken[number % NUM_FILES]
                for number in range(first, first + UTTERANCES_A_SPEAKER)]

    speakers = [take(first) for first in range(0, size - 2 * UTTERANCES_A_SPEAKER, UTTERANCES_A_SPEAKER)]
    small = [spoken[:UTTERANCES_A_SPEAKER // 2]] * 2
    prepare_mini.lay_out_cnceleb(folder / "corpus", [take(0), take(0)], speakers, small)


def write_trials(folder: Path) -> None:
    """Random pairs of what was embedded, with labels; as many targets as chance gives, and a few more."""
    import polars as pl

    ids = pl.Series([line.split(" ", 1)[0] for line in (folder / "emb.scp").read_text().splitlines()])
    speakers = np.array([name.split("-")[0] for name in ids])
    rng = np.random.default_rng(2)
    with open(folder / "trials", "wb") as stream:
        for _ in range(TRIALS_AN_UTTERANCE):
            enrol = np.arange(len(ids))
            test = rng.integers(0, len(ids), len(ids))
            test[::10] = np.minimum(enrol[::10] + 1, len(ids) - 1)  # mostly of one speaker
            labels = pl.Series(["nontarget", "target"]).gather((speakers[enrol] == speakers[test]).astype(np.int64))
            pl.DataFrame([ids.gather(enrol), ids.gather(test).alias("test"), labels.alias("label")]).write_csv(
                stream, include_header=False, separator=" ", quote_style="never")


def simulate(size: int, recordings: list[Path], folder: Path, dim: int) -> dict[str, dict]:
    """What each stage took with `size` utterances."""
    folder.mkdir()
    lay_out(folder, recordings, size)
    taken = {}
    for name in STAGES:
        if name == "score":
            write_trials(folder)
        command = [sys.executable, __file__, "--stage", name, "--work-dir", str(folder), "--dim", str(dim)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            sys.exit(f"{result.stderr[-2000:]}\n{size} utterances: {name} failed")
        taken[name] = json.loads(result.stdout.splitlines()[-1])
        print(f"{size:,} utterances, {name}: {json.dumps(taken[name])}", file=sys.stderr, flush=True)
    shutil.rmtree(folder)
    return taken


def table(results: dict[int, dict[str, dict]]) -> Iterable[str]:
    """Markdown: microseconds of processor and wall time an utterance, peak memory, bytes an utterance beyond the least.

    Bytes are the growth of the peak from the size before, for an utterance more.
    """
    yield "| stage | utterances | processor | wall | peak memory | an utterance more |"
    yield "|---|---|---|---|---|---|"
    for name, (title, _) in STAGES.items():
        before = None
        for size, stages in results.items():
            taken = stages[name]
            grown = "" if before is None else \
                f"{1024 * (taken['peak_mb'] - before[1]) / (size - before[0]):.2f} kB"
            yield (f"| {title} | {size:,} | {1e6 * taken['cpu_s'] / size:,.0f} us | "
                   f"{1e6 * taken['wall_s'] / size:,.0f} us | {taken['peak_mb']:,.0f} MB | {grown} |")
            before = size, taken["peak_mb"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000,1000000", help="utterances, ascending")
    parser.add_argument("--speech-dir", help="real recordings, one folder a speaker (default: noise)")
    parser.add_argument("--work-dir", type=Path, help="where the corpus lies meanwhile (default: a temporary folder)")
    parser.add_argument("--dim", type=int, default=64, help="values of an embedding (default: %(default)s)")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        run_stage(args.stage, args.work_dir, args.dim)
        return
    with tempfile.TemporaryDirectory(prefix="simulate-scale-", dir=args.work_dir) as folder:
        recordings = write_recordings(Path(folder) / "recordings", args.speech_dir)
        results = {}
        for size in map(int, args.sizes.split(",")):
            results[size] = simulate(size, recordings, Path(folder) / f"{size}", args.dim)
            print(f"{size:,} utterances: {sum(taken['wall_s'] for taken in results[size].values()):.1f} s", flush=True)
    print(f"\nSimulated: {NUM_FILES} files by hard links, {SECONDS} s each, features of one frame and embeddings of "
          f"{args.dim} values without a network; one process.\n")
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
