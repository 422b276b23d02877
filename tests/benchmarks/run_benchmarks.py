"""Speed beside the peers, on this machine: what `make bench` runs. Writes RESULTS.md whole.

Peers are the packages of the environment that --peer-python names (`make bench` makes .venv-peers), and the
checkouts that --peer-dir names, whose own scripts are run as they are. What isn't there is left out and said.
With --only, the other tables stay as they were measured before on the same machine. For idle machines.

example: make bench BENCH='--speech-dir DIR --peer-dir wespeaker=DIR --peer-dir 3dspeaker=DIR'
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from context import Context
from extraction import bench_extraction, bench_fbank
from inputs import QUICK, Sizes
from peers import find_peers
from processes import run_program
from scoring import bench_score_norm, bench_scoring
from speakerkit.inference.backends import BACKENDS
from speakerkit.io import files
from speakerkit.models import device
from start_up import bench_start_up
from table import render
from training import bench_samples, bench_training_step

ROOT = Path(__file__).resolve().parents[2]
WORKLOADS = {"fbank": bench_fbank, "extraction": bench_extraction, "scoring": bench_scoring,
             "score-norm": bench_score_norm, "training-step": bench_training_step, "samples": bench_samples,
             "start-up": bench_start_up}
OURS = ("torch", "numpy", "scipy", "polars", "soundfile", "soxr", "onnxruntime", "openvino")
# Programs start as they would for anyone: what a shell says of threads isn't the programs' default.
DROPPED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def describe_machine(cores: int) -> list[str]:
    """Processor, cores, memory and versions, a line each."""
    facts = {}
    for name in ("/proc/cpuinfo", "/proc/meminfo"):
        if Path(name).exists():
            lines = [line.partition(":") for line in Path(name).read_text().splitlines()]
            facts |= {key.strip(): value.strip() for key, _, value in reversed(lines)}
    wanted = ("amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")
    flags = [flag for flag in wanted if flag in device.cpu_flags()]
    memory = int(facts.get("MemTotal", "0 kB").split()[0]) / 2**20
    versions = [f"{name} {metadata.version(name)}" for name in OURS if _is_there(name)]
    return [f"{facts.get('model name', platform.processor())}, {cores} cores of {platform.machine()}, {memory:.0f} GiB",
            f"instructions: {', '.join(flags) or 'none of those that matter'}",
            f"{platform.platform()}, Python {platform.python_version()}", f"ours: {', '.join(versions)}"]


def _is_there(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def current_commit() -> str:
    """The short name of the checkout's commit, with '+' where files differ from it."""
    def git(*options: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *options], capture_output=True, text=True, check=False).stdout.strip()

    name = git("rev-parse", "--short", "HEAD")
    return f"{name}{'+' * bool(git('status', '--porcelain', '--untracked-files=no'))}" if name else "unknown"


def command_line(argv: list[str]) -> str:
    """The command that made a table, without where things lie on this machine and without the note above it."""
    def shown(word: str) -> str:
        name, equals, value = word.rpartition("=")
        return f"{name}{equals}DIR" if "/" in value else word

    words = [word for before, word in zip(["", *argv], argv, strict=False) if "--note" not in (before, word)]
    return shlex.join(["run_benchmarks.py", *map(shown, words)])


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=rest, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"of {','.join(['limits', *WORKLOADS])}, joined by commas (default: all)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way (default: 3)")
    parser.add_argument("--speech-dir", type=Path, help="real recordings, DIR/SPEAKER/UTT.flac or .wav, 16 kHz")
    parser.add_argument("--utterances", type=int, help=f"how many of them (default: {Sizes.utterances})")
    parser.add_argument("--backends", default=",".join(BACKENDS), help="ours to run (default: all that are installed)")
    parser.add_argument("--ways", default="", help="only ways whose names hold one of these words, joined by commas")
    parser.add_argument("--peer-python", type=Path, help="the interpreter of the peers' environment")
    parser.add_argument("--peer-dir", action="append", default=[], metavar="NAME=DIR",
                        help="a checkout: wespeaker=DIR or 3dspeaker=DIR")
    parser.add_argument("--floor-dir", type=Path, help="where floor_score.py and floor_metrics.py are")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "exp" / "bench", help="(default: exp/bench)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("RESULTS.md"),
                        help="(default: RESULTS.md beside this program)")
    parser.add_argument("--note", default="", help="a sentence for the top of RESULTS.md")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that everything runs, measures nothing")
    args = parser.parse_args(argv)
    chosen = args.only.split(",") if args.only else ["limits", *WORKLOADS]
    if unknown := [name for name in chosen if name not in {"limits", *WORKLOADS}]:
        parser.error(f"--only {args.only}: there is no '{unknown[0]}'; want {', '.join(['limits', *WORKLOADS])}")
    if args.repeats < 1 or (args.utterances is not None and args.utterances < 4):
        parser.error("want at least 1 for --repeats and 4 for --utterances")
    if args.speech_dir and not args.speech_dir.is_dir():
        parser.error(f"--speech-dir {args.speech_dir}: no such folder")
    args.only = chosen
    return args


def main(argv: list[str] | None = None) -> None:
    args, cores = parse_arguments(argv), len(os.sched_getaffinity(0))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in DROPPED:
        os.environ.pop(name, None)
    sizes = QUICK if args.quick else Sizes()
    if args.utterances:
        sizes = dataclasses.replace(sizes, utterances=args.utterances)
    folder = args.work_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    peers = find_peers(args.peer_python.absolute() if args.peer_python else None, args.peer_dir)
    context = Context(folder, sizes, peers, args.repeats, args.speech_dir and args.speech_dir.resolve(),
                      args.floor_dir and args.floor_dir.resolve(), tuple(args.backends.split(",")), cores, args.quick,
                      tuple(filter(None, args.ways.split(","))))
    machine, record = describe_machine(cores), folder / "measured.json"
    measured = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    if measured.get("machine") != machine:
        measured = {"machine": machine, "sections": {}}
    measured["peers"] = peers.describe()
    command = command_line(sys.argv[1:] if argv is None else argv)
    for name in args.only:
        print(name, file=sys.stderr, flush=True)
        if name == "limits":
            quick = ["--quick"] * args.quick
            measured["limits"] = run_program(context.program("measure_limits.py", folder, *quick)).told
        else:
            measured["sections"][name] = dataclasses.asdict(WORKLOADS[name](context)) | {
                "when": datetime.date.today().isoformat(), "commit": current_commit(), "command": command}
        measured["sections"] = {key: measured["sections"][key] for key in WORKLOADS if key in measured["sections"]}
        files.write_text(record, json.dumps(measured))  # in this order, which is that of the tables
        files.write_text(args.output, render(measured, args.note))
    print(args.output)


if __name__ == "__main__":
    main()
