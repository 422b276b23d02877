"""A training step, and the samples that a worker makes for it."""

from context import Context, Section
from inputs import made_once, utterances_of, write_disturbances
from processes import Contender, median
from speakerkit.models import device

FRAMES = 200
SAME_WORK, OUR_RECIPE = "speakerkit, WeSpeaker's augmentation", "speakerkit, conf/resnet34.toml's"
WESPEAKER = "WeSpeaker"
CONFIG = """[fbank]
window_type = "hamming"
dither = 1.0
[training]
batch_size = {batch}
chunk_frames = 200
[augmentation]
speeds = [0.9, 1.0, 1.1]
{augmentation}
noise_scp = "{folder}/noise.scp"
response_scp = "{folder}/response.scp"
"""


def bench_training_step(context: Context) -> Section:
    """Forward, backward and update of a ResNet34 with a margin softmax, all cores, data ready in memory."""
    sizes, checkout = context.sizes, context.peers.checkouts.get("wespeaker")
    numbers = [sizes.batch, 20 if context.quick else FRAMES, sizes.classes, sizes.steps]
    plain = "WeSpeaker's network and loss, eager float32" if checkout else "plain eager loop, float32"
    contenders = [Contender(plain, context.program("training_step.py", "plain", *numbers, *[checkout] * bool(checkout)),
                            warm_up=(), timed_inside=True)]
    precisions = ("float32", "bfloat16")[: 1 + device.cpu_has_bfloat16()]
    ways = [(f"speakerkit, {precision}", f"ours-{precision}") for precision in precisions]
    ways.append((f"speakerkit, {precisions[-1]}, compiled", f"compiled-{precisions[-1]}"))  # left out without compiler
    for name, kind in ways:
        contenders.append(Contender(name, context.program("training_step.py", kind, *numbers), warm_up=(),
                                    timed_inside=True))
    results = context.run(contenders)
    rates = {name: f"{sizes.batch / median(results, name):.1f}" for name in results if results[name]["wall_s"]}
    notes = [f"batch {sizes.batch} x {numbers[1]} frames, {sizes.classes:,} classes; seconds of a step (median of "
             f"{sizes.steps} after the first), the same torch for all"]
    return Section("training step", results, plain, notes, {"samples/s": rates}, {"plain": plain})


def bench_samples(context: Context) -> Section:
    """Samples of 2 s by one process: read, speed 0.9/1.0/1.1, noise or room with probability 0.6, fbank."""
    data, folder, sizes = context.folder / "utterances", context.folder / "disturbances", context.sizes
    facts = utterances_of(context)
    made_once(folder, write_disturbances, 4 if context.quick else 60)
    same = "noise = 0.3\nsnr_db = [0.0, 15.0]\nreverberation = 0.3"
    recipe = "noise = 0.5\nbabble = 0.3\nsnr_db = [5.0, 25.0]\nreverberation = 0.4\nband_limit = 0.2"
    contenders = []
    for name, augmentation in ((SAME_WORK, same), (OUR_RECIPE, recipe)):
        path = context.folder / f"samples{len(contenders)}.toml"
        path.write_text(CONFIG.format(batch=sizes.batch, augmentation=augmentation, folder=folder), encoding="utf-8")
        contenders.append(Contender(name, context.program("our_samples.py", data, path, sizes.samples), warm_up=(),
                                    timed_inside=True))
    checkout = context.peers.checkouts.get("wespeaker")
    if checkout and context.peers.python:
        command = context.peer_program("wespeaker_samples.py", checkout, data / "raw.list", folder / "noise.scp",
                                       folder / "response.scp", context.folder, sizes.samples, sizes.batch)
        contenders.append(Contender(WESPEAKER, command, warm_up=(), timed_inside=True))
    results = context.run(contenders)
    rates = {name: f"{sizes.samples / median(results, name):.0f}" for name in results if results[name]["wall_s"]}
    notes = [f"{facts['source']}; seconds for {sizes.samples} samples of {FRAMES} frames; noises of 10 s and rooms are "
             "made ones, 16-bit WAV (LMDB for WeSpeaker)"]
    if results.get(WESPEAKER, {}).get("told", {}).get("speed_perturbation") is False:
        notes.append("WeSpeaker ran WITHOUT speed perturbation: its torchaudio finds no libsox here")
    base = WESPEAKER if results.get(WESPEAKER, {}).get("wall_s") else OUR_RECIPE
    return Section("training samples, one worker", results, base, notes, {"samples/s": rates})
