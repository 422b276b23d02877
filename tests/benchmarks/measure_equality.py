"""How far imported models' embeddings are from their authors' own: full-size networks with drawn weights.

`programs/peer_checkpoints.py` makes each by its authors' code; here it is imported, exported, run by torch and by ONNX
Runtime on real speech, both in float32. An error is the largest over the recordings of max|a - b| / max|b|. What the
authors' float32 network is from itself in float64, on its own features, is the floor of any comparison.
Minutes a network; nothing here is a test.
usage: measure_equality.py --speech-dir DIR --peer-python FILE [--peer-dir DIR] [--weights WEIGHTS] [NAME ...]
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import kaldiio
import numpy as np
from programs.peer_checkpoints import NETWORKS

PROGRAM = Path(__file__).resolve().parent / "programs" / "peer_checkpoints.py"
COMMANDS = Path(sys.executable).parent
NUM_TOLD, NUM_HEARD = 5, 100
COLUMNS = ("network", "torch to theirs", "ONNX to theirs", "theirs to their float64", "torch to it", "ONNX to it")


def run(*words: object) -> None:
    """A command that must succeed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{words[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")


def write_list(path: Path, recordings: list[Path], count: int) -> Path:
    """A wav.scp of as many recordings, evenly spread."""
    chosen = recordings[:: max(len(recordings) // count, 1)][:count]
    path.write_text("".join(f"{p.parent.name}-{p.stem} {p}\n" for p in chosen), encoding="utf-8")
    return path


def embed(model: Path, wav_scp: Path, *options: str) -> dict[str, np.ndarray]:
    """utt_id -> embedding by extract-embeddings."""
    ark = model.parent / "emb.ark"
    run(COMMANDS / "extract-embeddings", "--quiet", "--overwrite", "--device", "cpu", *options, "--model", model,
        wav_scp, ark)
    return {key: np.ravel(value) for key, value in kaldiio.load_ark(str(ark))}


def distance(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """The largest max|a - b| / max|b|."""
    return max(float(np.abs(found[key] - row).max() / np.abs(row).max()) for key, row in wanted.items())


def compare(name: str, folder: Path, wav_scp: Path) -> str:
    """A row of the table: a checkpoint that lies there, imported, exported, run."""
    stored = np.load(folder / "theirs.npz")
    theirs, exact = ({key.split("/", 1)[1]: stored[key] for key in stored.files if key.startswith(precision)}
                     for precision in ("float32", "float64"))
    given = folder / "embedding_model.ckpt" if (folder / "hyperparams.yaml").is_file() else folder
    model, graph = folder / "ours.safetensors", folder / "ours.onnx"
    run(COMMANDS / "import-model", "--overwrite", given, model)
    run(COMMANDS / "export-onnx", "--overwrite", model, graph)
    ours = embed(model, wav_scp, "--backend", "torch", "--precision", "float32")
    of_graph = embed(graph, wav_scp, "--backend", "onnx")
    errors = (distance(ours, theirs), distance(of_graph, theirs), distance(theirs, exact), distance(ours, exact),
              distance(of_graph, exact))
    return f"| {name} | " + " | ".join(f"{error:.1e}" for error in errors) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--speech-dir", type=Path, required=True, help="a folder of each speaker's .flac or .wav files")
    parser.add_argument("--peer-python", type=Path, required=True, help="of install_peers.py's environment")
    parser.add_argument("--peer-dir", type=Path, action="append", default=[], help="checkouts of WeSpeaker, 3D-Speaker")
    parser.add_argument("--weights", choices=("initial", "golden", "heard"), default="initial")
    parser.add_argument("names", nargs="*", default=list(NETWORKS), metavar="NAME")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in NETWORKS]:
        parser.error(f"NAME is {unknown[0]}; want one of {', '.join(NETWORKS)}")
    recordings = sorted(path.resolve() for ending in ("flac", "wav") for path in args.speech_dir.rglob(f"*.{ending}"))
    if len(recordings) < NUM_TOLD:
        parser.error(f"--speech-dir {args.speech_dir} has {len(recordings)} recordings; want {NUM_TOLD}")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    with tempfile.TemporaryDirectory() as place:
        told = write_list(Path(place) / "wav.scp", recordings, NUM_TOLD)
        heard = write_list(Path(place) / "heard.scp", recordings, NUM_HEARD)
        for name in args.names:
            folder = Path(place) / name
            run(args.peer_python, PROGRAM, name, args.weights, folder, told, heard, *args.peer_dir)
            print(compare(name, folder, told), flush=True)


if __name__ == "__main__":
    main()
