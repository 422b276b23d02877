"""How long a command takes that does little."""

from context import Context, Section
from extraction import ways_to_run
from inputs import network_of, scp_rows, utterances_of
from processes import Contender


def bench_start_up(context: Context) -> Section:
    """``--help``, and two recordings verified, by processes of their own."""
    data, models, peers = context.folder / "utterances", context.folder / "models", context.peers
    utterances_of(context)
    network_of(context)
    two = [path for _, path in scp_rows(data / "wav.scp")[:2]]
    contenders = [Contender(f"{name} --help", context.ours(name, "--help"))
                  for name in ("score-trials", "extract-embeddings", "train-model")]
    contenders += [
        Contender(f"verify-speakers, 2 recordings, {backend} {precision}", context.ours(
            "verify-speakers", "--quiet", "--model", models / "wespeaker.safetensors", "--backend", backend,
            "--precision", precision, *two), env={"SPEAKERKIT_CACHE_DIR": context.folder / "cache"})
        for backend, precision in ways_to_run(context.backends)]
    if peers.python and "wespeaker" in peers.checkouts:
        path = {"PYTHONPATH": peers.checkouts["wespeaker"]}
        script = peers.checkouts["wespeaker"] / "wespeaker" / "bin" / "score.py"
        contenders += [Contender("WeSpeaker, its package", [peers.python, "-c", "import wespeaker"], env=path),
                       Contender("WeSpeaker bin/score.py --help", [peers.python, script, "--help"])]
    if peers.python and "3dspeaker" in peers.checkouts:
        path = {"PYTHONPATH": peers.checkouts["3dspeaker"]}
        script = peers.checkouts["3dspeaker"] / "speakerlab" / "bin" / "extract.py"
        contenders.append(Contender("3D-Speaker bin/extract.py --help", [peers.python, script, "--help"], env=path))
    if peers.has("torch"):
        contenders.append(Contender("import torch", [peers.python, "-c", "import torch"]))
    results = context.run(contenders, at_least=3)
    return Section("start-up", results, contenders[0].name, ["CPU s is what counts; files are in memory already"])
