"""Make the peers' environment: each package on its own, so that one that can't be installed costs only its rows.

usage: install_peers.py FOLDER     a fresh environment of this Python is made there
"""

import subprocess
import sys
import venv
from pathlib import Path

# The last torch that WeSpeaker's and 3D-Speaker's scripts run on: torchaudio 2.9 dropped sox effects.
FIRST = ("torch==2.8.* torchaudio==2.8.*", "torch torchaudio")
# What the peers' scripts import, then the peers; "--no-deps" where the requirements ask for what isn't used here.
REST = (
    "numpy scipy scikit-learn kaldiio soundfile fire tqdm pyyaml lmdb matplotlib tableprint",
    "kaldi-native-fbank",
    "lhotse",
    "sherpa-onnx",
    "speechbrain",
    "webrtcvad-wheels librosa",
    "--no-deps resemblyzer",
    "silero-vad s3prl openai-whisper peft accelerate umap-learn hdbscan",
    "--no-deps wespeaker-unofficial",
    "addict simplejson sortedcontainers",
    "--no-deps speakerlab",
)


def install(python: Path, words: str, constraints: Path | None) -> bool:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words.split()]
    if constraints is not None:
        command += ["--constraint", constraints]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or result.stderr.splitlines()
        print(f"peers: '{words}' doesn't install: {(errors or ['no message'])[-1]}", file=sys.stderr)
    return result.returncode == 0


def main(folder: str) -> int:
    target = Path(folder)
    print(f"making the peers' environment {target}: some GB the first time", file=sys.stderr)
    venv.create(target, clear=True, with_pip=True)
    python = target / "bin" / "python"
    install(python, "setuptools wheel", None)
    if not any(install(python, words, None) for words in FIRST):
        print("peers: without torch only those that don't need it are measured", file=sys.stderr)
    constraints = target / "constraints.txt"
    frozen = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    constraints.write_text("".join(f"{line}\n" for line in frozen.splitlines() if line.startswith("torch")))
    for words in REST:
        install(python, words, constraints)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
