"""`make bench` at tiny sizes with peers that only pretend: that it runs, what it refuses. Its times are nobody's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parent / "benchmarks" / "run_benchmarks.py"
WORKLOADS = ("limits", "fbank", "extraction", "scoring", "score-norm", "training-step", "samples", "start-up")

# Each stands in for a script of the same name: it reads and writes the files that the real one does.
SCRIPTS = {
    "wespeaker/wespeaker/__init__.py": "",
    "wespeaker/wespeaker/bin/extract.py": """
import json, sys, kaldiio, numpy as np
config = json.load(open(sys.argv[sys.argv.index("--config") + 1]))
DEVICE = 'torch.device("cuda")'
assert "cpu" in DEVICE, "the device string was not changed"
with kaldiio.WriteHelper(f"ark:{config['embed_ark']}") as writer:
    for line in open(config["data_list"]):
        writer(json.loads(line)["key"], np.ones(256, np.float32))
""",
    "wespeaker/wespeaker/bin/score.py": """
import sys
if sys.argv[-1] != "--help":
    open(sys.argv[-1]).read()
""",
    "wespeaker/wespeaker/bin/compute_metrics.py": """
import sys
assert len(open(sys.argv[-1]).readline().split()) == 4
""",
    "wespeaker/wespeaker/bin/score_norm.py": """
import shutil, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
shutil.copy(options["--trial_score_file"], options["--score_norm_file"])
""",
    "3dspeaker/speakerlab/bin/extract.py": """
import os, sys
if sys.argv[-1] == "--help":
    sys.exit()
assert os.path.exists(os.path.join(sys.argv[2], "models", "CKPT-EPOCH-1-00", "embedding_model.ckpt"))
sys.exit("Error: this peer is broken")
""",
    "3dspeaker/speakerlab/bin/compute_score_metrics.py": "",
}


@pytest.fixture
def peer_dirs(tmp_path: Path) -> list[str]:
    """Options that name a checkout of each."""
    for name, text in SCRIPTS.items():
        path = tmp_path / "peers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [f"--peer-dir={name}={tmp_path / 'peers' / name}" for name in ("wespeaker", "3dspeaker")]


def run_benchmarks(tmp_path: Path, *options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, PROGRAM, "--work-dir", tmp_path / "work", "--output", tmp_path / "RESULTS.md", *options]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.timeout(600)
def test_every_workload_runs_and_stands_in_the_results(tmp_path, speech_dir, peer_dirs):
    result = run_benchmarks(tmp_path, "--quick", "--repeats", "1", "--speech-dir", speech_dir, "--backends", "onnx",
                            "--peer-python", sys.executable, *peer_dirs, "--note", "Tiny sizes.")
    assert result.returncode == 0, result.stderr
    measured = json.loads((tmp_path / "work" / "measured.json").read_text(encoding="utf-8"))
    assert list(measured["sections"]) == [name for name in WORKLOADS if name != "limits"]
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "Tiny sizes." in text
    assert text.count("\n## ") == 3 + len(measured["sections"])  # machine, limits, aims
    left_out = {name: row["left_out"] for section in measured["sections"].values()
                for name, row in section["results"].items() if "left_out" in row}
    assert left_out.pop("3D-Speaker extract.py, 1 process") == "exit status 1: Error: this peer is broken"
    # WeSpeaker's dataset and network aren't pretended
    assert {name.partition(",")[0] for name in left_out} <= {
        "3D-Speaker extract.py", "WeSpeaker", "WeSpeaker's network and loss", "lhotse"}, left_out
    extraction = measured["sections"]["extraction"]
    assert all(row["cpu_s"][0] > 0 and row["peak_mb"][0] > 10 for row in extraction["results"].values()
               if row["wall_s"])
    assert extraction["facts"]["gflop_per_s"] == pytest.approx(4.53, abs=0.01)  # as published for this network
    plain = extraction["columns"]["cosine to ours, lowest (median)"]["plain eager loop, float32"]
    assert float(plain.split()[0]) > 0.99999
    assert "WeSpeaker score.py + compute_metrics.py" in measured["sections"]["scoring"]["results"]
    assert "| AS-norm" not in text  # its aims are for cohorts of other sizes
    assert str(tmp_path) not in text.partition("## Machine")[0]

    result = run_benchmarks(tmp_path, "--quick", "--repeats", "1", "--only", "scoring", "--ways", "compute-metrics")
    assert result.returncode == 0, result.stderr
    again = json.loads((tmp_path / "work" / "measured.json").read_text(encoding="utf-8"))["sections"]
    assert list(again["scoring"]["results"]) == ["compute-metrics alone"]
    assert again["extraction"] == extraction  # as it was


@pytest.mark.parametrize("options, code, message", [
    (["--only", "speed"], 2, "there is no 'speed'; want limits, fbank"),
    (["--peer-dir", "kaldi=/tmp"], 1, "--peer-dir kaldi=/tmp: want wespeaker=DIR or 3dspeaker=DIR"),
    (["--peer-dir", "wespeaker=/nowhere"], 1, "/nowhere has no wespeaker/bin/extract.py"),
    (["--speech-dir", "/nowhere"], 2, "--speech-dir /nowhere: no such folder"),
    (["--repeats", "0"], 2, "want at least 1 for --repeats"),
])
def test_refusals(tmp_path, options, code, message):
    result = run_benchmarks(tmp_path, *options)
    assert (result.returncode, message in result.stderr) == (code, True), result.stderr
    assert not (tmp_path / "RESULTS.md").exists()


def test_too_few_recordings_are_refused(tmp_path):
    (tmp_path / "speech" / "s1").mkdir(parents=True)
    result = run_benchmarks(tmp_path, "--only", "fbank", "--speech-dir", tmp_path / "speech", "--utterances", "5")
    assert result.returncode == 1
    assert "has 0 recordings; want 5 of them" in result.stderr


@pytest.mark.parametrize("options, message", [
    (["--speech-dir", "{}", "--peer-python", "python", "ecapa"], "NAME is ecapa; want one of wespeaker-resnet18, "),
    (["--speech-dir", "{}", "--peer-python", "python"], "has 0 recordings; want 5"),
])
def test_what_measuring_equality_refuses(tmp_path, options, message):
    words = [str(tmp_path) if word == "{}" else word for word in options]
    done = subprocess.run([sys.executable, PROGRAM.with_name("measure_equality.py"), *words], capture_output=True,
                          text=True, check=False)
    assert (done.returncode, message in done.stderr, done.stdout) == (2, True, ""), done.stderr


def test_the_simulation_of_scale_runs_every_stage_on_stand_ins(tmp_path: Path) -> None:
    program = PROGRAM.with_name("simulate_scale.py")
    done = subprocess.run([sys.executable, program, "--sizes", "200", "--dim", "8", "--work-dir", tmp_path],
                          capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if "| 200 |" in line]
    assert [row.split("|")[1].strip().split(",")[0] for row in rows] == [
        "data preparation", "validate-data", "make-fbank", "extract-embeddings", "score-trials"]
    assert list(tmp_path.iterdir()) == []
