"""Whole-pipeline extraction of real recordings, ours in every way to run it beside the peers; and fbank alone."""

import itertools
import shutil
import sys
from pathlib import Path

import kaldiio
import numpy as np

from context import COMMANDS, Context, Section
from inputs import network_of, utterances_of
from peers import CHECKOUTS, write_3dspeaker_experiment, write_wespeaker_config
from processes import Contender, ProgramFailed, median, run_program
from speakerkit.inference.backends import is_installed
from speakerkit.models import device

PLAIN = "plain eager loop, float32"
WESPEAKER, WESPEAKER_CORES = "WeSpeaker extract.py", "WeSpeaker extract.py, torch on all cores"
THREE_D, THREE_D_RANKS = "3D-Speaker extract.py, 1 process", "3D-Speaker extract.py, a rank a core"
SHERPA, SPEECHBRAIN, RESEMBLYZER = "sherpa-onnx, the same network", "SpeechBrain, its ResNet", "Resemblyzer, its LSTM"


def bench_fbank(context: Context) -> Section:
    """80 mel bins, Hamming window, recordings in memory, one thread; seconds without the start of the process."""
    facts = utterances_of(context)
    wav_scp, peers = context.folder / "utterances" / "wav.scp", context.peers

    def contender(name: str, title: str, command: list) -> Contender:
        return Contender(title, [*command, name, wav_scp], warm_up=(), timed_inside=True)

    program = "fbank_loop.py"
    contenders = [contender("speakerkit", "speakerkit compute_fbank", context.program(program))]
    for name, package in (("torchaudio", "torchaudio"), ("kaldi-native-fbank", "kaldi-native-fbank"),
                          ("lhotse", "lhotse")):
        if peers.has(package):
            contenders.append(contender(name, f"{name} {peers.versions[package]}", context.peer_program(program)))
    results = context.run(contenders, at_least=3)
    rates = {name: f"{facts['audio_s'] / median(results, name):,.0f}" for name in results if results[name]["wall_s"]}
    base = next((c.name for c in contenders if c.name.startswith("torchaudio")), contenders[0].name)
    return Section("fbank, one thread", results, base, [facts["source"]], {"times real time": rates},
                   {"torchaudio": base} if base != contenders[0].name else {})


def ways_to_run(backends: tuple[str, ...]) -> list[tuple[str, str]]:
    """(backend, precision) of everything that is installed and asked for."""
    ways = [("torch", "float32"), ("onnx", "float32"), ("openvino", "float32")]
    if device.cpu_has_bfloat16():
        ways += [("torch", "bfloat16"), ("openvino", "bfloat16")]
    return [way for way in ways if way[0] in backends and is_installed(way[0])]


def bench_extraction(context: Context) -> Section:
    """wav.scp to ark and scp by whole processes; the same random weights in all that have the network."""
    data, models = context.folder / "utterances", context.folder / "models"
    facts = utterances_of(context)
    facts |= network_of(context)
    ours = [_our_contender(context, backend, precision) for backend, precision in ways_to_run(context.backends)]
    out = context.folder / "out-plain"
    plain = [context.program("plain_extraction.py", models / "wespeaker.safetensors", data / name, out / "emb.ark")
             for name in ("wav.scp", "few.scp")]
    contenders = [*ours, Contender(PLAIN, plain[0], lambda: _fresh(out), plain[1]), *_peer_contenders(context)]
    results = context.run(contenders)
    base = WESPEAKER if results.get(WESPEAKER, {}).get("wall_s") else PLAIN
    facts["default"] = f"speakerkit torch {'bfloat16' if device.cpu_has_bfloat16() else 'float32'}"
    columns = {
        "times real time": {name: f"{facts['audio_s'] / median(results, name):,.0f}" for name in results
                            if results[name]["wall_s"]},
        "cosine to ours, lowest (median)": _cosines(context, results),
    }
    notes = [facts["source"], f"ResNet34, {facts['gflop_per_s']:.2f} GFLOP per second of audio; random weights, "
             "batch norm statistics of these recordings: a cosine says how far a way moves an embedding, no more",
             f"the default install takes `{facts['default'].removeprefix('speakerkit ')}`"]
    return Section("extraction, wav.scp to ark", results, base, notes, columns, facts)


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _our_contender(context: Context, backend: str, precision: str) -> Contender:
    out, data = context.folder / f"out-{backend}-{precision}", context.folder / "utterances"
    command = [[COMMANDS / "extract-embeddings", "--quiet", "--device", "cpu", "--backend", backend, "--precision",
                precision, "--model", context.folder / "models" / "wespeaker.safetensors", data / name, out / "emb.ark"]
               for name in ("wav.scp", "few.scp")]
    return Contender(f"speakerkit {backend} {precision}", command[0], lambda: _fresh(out), command[1],
                     env={"SPEAKERKIT_CACHE_DIR": context.folder / "cache"})


def _peer_contenders(context: Context) -> list[Contender]:
    peers, data, model = context.peers, context.folder / "utterances", context.folder / "models" / "avg_model.pt"
    contenders = []
    if "wespeaker" in peers.checkouts and peers.python:
        out = context.folder / "out-wespeaker"
        configs = [write_wespeaker_config(context.folder, data / name, model, out / "emb.ark")
                   for name in ("raw.list", "few.list")]
        for name, threads in ((WESPEAKER, []), (WESPEAKER_CORES, ["--threads", context.cores])):
            full, few = [context.peer_program("run_peer_script.py", peers.checkouts["wespeaker"],
                                              "wespeaker.bin.extract", *threads, "--", "--config", config)
                         for config in configs]
            contenders.append(Contender(name, full, lambda out=out: _fresh(out), few))
    if peers.python and ("3dspeaker" in peers.checkouts or peers.has("speakerlab")):
        contenders += _three_d_contenders(context, model)
    libraries = ((SHERPA, "sherpa-onnx", context.folder / "models" / "features.onnx"),
                 (SPEECHBRAIN, "speechbrain", ""), (RESEMBLYZER, "resemblyzer", ""))
    for title, library, graph in libraries:
        if peers.has(library):
            out = context.folder / f"out-{library}"
            full, few = [context.peer_program("peer_extraction.py", library, data / name, out / "emb.ark", graph)
                         for name in ("wav.scp", "few.scp")]
            contenders.append(Contender(title, full, lambda out=out: _fresh(out), few))
    return contenders


def _three_d_contenders(context: Context, model: Path) -> list[Contender]:
    """One process with all threads, and a rank a core as its recipes start it."""
    peers, data, found = context.peers, context.folder / "utterances", []
    checkout = peers.checkouts.get("3dspeaker")
    script = [checkout / CHECKOUTS["3dspeaker"]] if checkout else ["-m", "speakerlab.bin.extract"]
    path = {"PYTHONPATH": checkout} if checkout else {}
    for name, ranks in ((THREE_D, 1), (THREE_D_RANKS, context.cores)):
        experiment = context.folder / f"out-3dspeaker-{ranks}"
        start = [] if ranks == 1 else ["-m", "torch.distributed.run", f"--nproc_per_node={ranks}"]
        full, few = [[peers.python, *start, *script, "--exp_dir", experiment, "--data", data / scp]
                     for scp in ("wav.scp", "few.scp")]

        def prepare(experiment=experiment) -> None:
            _fresh(experiment)
            write_3dspeaker_experiment(experiment, model)

        found.append(Contender(name, full, prepare, few,
                               env=path | ({"LOCAL_RANK": 0, "WORLD_SIZE": 1} if ranks == 1 else {})))
    return found


def _read_embeddings(folder: Path) -> dict[str, np.ndarray]:
    arks = sorted(itertools.chain(folder.glob("emb.ark"), folder.glob("embeddings/*.ark")))
    return {key: np.ravel(value) for path in arks for key, value in kaldiio.load_ark(str(path))}


def _cosines(context: Context, results: dict) -> dict[str, str]:
    """Each way's embeddings against our float32 ones with the same front end."""
    exact = next((f"out-{b}-{p}" for b, p in ways_to_run(context.backends) if p == "float32"), "none")
    ours = {"wespeaker": _read_embeddings(context.folder / exact), "3dspeaker": {}}
    if results.get(THREE_D, {}).get("wall_s"):
        out = context.folder / "out-as-3dspeaker"
        _fresh(out)
        try:
            run_program([COMMANDS / "extract-embeddings", "--quiet", "--device", "cpu", "--backend", "torch",
                         "--precision", "float32", "--model", context.folder / "models" / "3dspeaker.safetensors",
                         context.folder / "utterances" / "wav.scp", out / "emb.ark"])
            ours["3dspeaker"] = _read_embeddings(out)
        except ProgramFailed as error:
            print(f"  no cosines to 3D-Speaker's embeddings: {error}", file=sys.stderr)
    folders = {f"speakerkit {b} {p}": (f"out-{b}-{p}", "wespeaker") for b, p in ways_to_run(context.backends)}
    folders |= {PLAIN: ("out-plain", "wespeaker"), WESPEAKER: ("out-wespeaker", "wespeaker"),
                THREE_D: ("out-3dspeaker-1", "3dspeaker"), SHERPA: ("out-sherpa-onnx", "wespeaker")}
    found = {}
    for name, (folder, front_end) in folders.items():
        if results.get(name, {}).get("wall_s") and ours[front_end]:
            found[name] = _compare(_read_embeddings(context.folder / folder), ours[front_end])
    return found


def _compare(theirs: dict[str, np.ndarray], ours: dict[str, np.ndarray]) -> str:
    if theirs.keys() != ours.keys():
        return f"{len(theirs.keys() & ours.keys())} of {len(ours)} embeddings"
    cosines = [np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in
               ((theirs[key], ours[key]) for key in ours)]
    return f"{min(cosines):.6f} ({np.median(cosines):.6f})"
