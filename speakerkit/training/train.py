"""A whole training run: set up or resume, train, write the model."""

import contextlib
import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import torch

from speakerkit import __version__
from speakerkit.config import SystemConfig, as_dict
from speakerkit.errors import ConfigError
from speakerkit.io import audio, files, locks
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.models import device as devices
from speakerkit.models import model_file
from speakerkit.models.networks import initialise, make_network
from speakerkit.training import checkpoint, loop, ranks, setup
from speakerkit.training.aam_softmax import AamSoftmax
from speakerkit.training.capacity import most_samples_per_s
from speakerkit.training.chunks import TrainingBatches, person_of
from speakerkit.training.feeding import check_features_on
from speakerkit.training.finish import finish_network
from speakerkit.training.followers import start_followers
from speakerkit.training.forward import make_forward
from speakerkit.training.identity import check_identity, read_identity, run_identity
from speakerkit.training.optimiser import make_optimiser
from speakerkit.training.progress import TrainingTable, draw_curve
from speakerkit.training.sampling import BatchSampler
from speakerkit.training.start import start_from_model, write_comparison, write_speakers
from speakerkit.training.teacher import prepare_targets
from speakerkit.training.validation import validation_metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainOptions:
    """What the command line adds to the configuration."""

    seed: int = 1
    device: str = "auto"
    precision: str = "auto"
    nj: int = 1  # cores to use
    num_processes: int | None = None  # that share each batch; None: choose, or as the run was begun
    valid_dir: str | None = None
    valid_trials: str | None = None
    init: str | None = None  # a model or experiment folder to begin with
    teacher: str | None = None  # a model whose embeddings the network is drawn to
    overwrite: bool = False
    show: bool = True
    rerun: str = "train-model"  # the command line, for the message that tells how to go on
    name: str = ""  # of the model
    training_data: str = ""  # words for its card
    domain: str = ""
    licence: str = ""
    random_channel: bool = False  # of recordings that have several, drawn for each chunk


def count_steps(system: SystemConfig, num_items: int) -> int:
    """Steps of the whole run: num_steps, or num_epochs passes over all items."""
    config = system.training
    return config.num_steps or max(1, round(config.num_epochs * num_items / config.batch_size))


def train_model(
    train_dir: str | os.PathLike,
    exp_dir: str | os.PathLike,
    system: SystemConfig,
    options: TrainOptions,
    audio_options: audio.AudioOptions,
    allowed_bad,
    report: dict,
) -> None:
    """Train, or go on with a started run, until ``exp_dir/model.safetensors`` is written.

    Args:
        train_dir: utt2spk and feats.scp or wav.scp.
        exp_dir: checkpoints, log, curve and the model.
        allowed_bad: from the number of utterances to the number that may be unreadable.
        report: filled with what is known, for --json.

    Raises:
        ConfigError: the folder holds a run with another configuration, data or seed.
        DataError: what ``setup.make_chunks`` refuses; training that diverges.
    """
    folder = Path(exp_dir)
    device_type = devices.choose_device(options.device).type
    with ranks.from_environment(device_type) as group:
        if group is not None and not group.is_first:
            _train_beside(group, train_dir, folder, system, options, audio_options)
            return
        files.check_writable(folder / "model.safetensors")
        with locks.output_lock(folder / "training"):
            handler = _open_log(folder)
            try:
                _train(train_dir, folder, system, options, audio_options, allowed_bad, report, group)
            finally:
                logging.getLogger("speakerkit").removeHandler(handler)
                handler.close()


def _open_log(folder: Path) -> logging.Handler:
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger("speakerkit").addHandler(handler)
    logging.getLogger("speakerkit").setLevel(logging.INFO)
    return handler


def _train_beside(group, train_dir, folder: Path, system: SystemConfig, options: TrainOptions, audio_options) -> None:
    """What a launcher's processes other than the first do: the same steps, and nothing is written."""
    logging.getLogger("speakerkit").setLevel(logging.ERROR)
    bad = BadRecordings(str(folder))
    chunks = setup.make_chunks(train_dir, system, audio_options, bad, False, options.random_channel)
    if group.tell() and _follow(group, folder, chunks, system, options):
        signal.raise_signal(signal.SIGTERM)


def _follow(group: ranks.Ranks, folder: Path, chunks, system: SystemConfig, options: TrainOptions) -> bool:
    """Train as one of several processes, not the first; whether a signal stopped it."""
    state, run = _start(folder, chunks, system, options, group)
    return loop.run_steps(state, run, None)


def _train(
    train_dir, folder: Path, system: SystemConfig, options: TrainOptions, audio_options, allowed_bad, report: dict,
    launched: ranks.Ranks | None,
) -> None:  # fmt: skip
    bad = BadRecordings(str(folder))
    if bool(options.teacher) != (system.loss.teacher_weight > 0):
        raise ConfigError("--teacher and a [loss] teacher_weight above 0 go together")
    chunks = setup.make_chunks(train_dir, system, audio_options, bad, options.show, options.random_channel)
    check_features_on(chunks, system.training.features_on)
    bad.judge(len(chunks.utt_ids) + len(bad.rows), allowed_bad, options.rerun)
    size = launched.size if launched else _count_processes(folder, system, options)
    ranks.check_share(size, system.training.batch_size)
    check_identity(folder, run_identity(chunks, system, options, audio_options, size), options.overwrite)
    report.update(
        num_speakers=len(chunks.speakers),
        num_utterances=len(chunks.utt_ids),
        num_bad=len(bad.rows),
        num_processes=size,
        output=str(folder),
    )
    is_done = (folder / "model.safetensors").is_file()
    if launched:
        launched.tell(not is_done)
    if is_done:
        log.info("%s: nothing to do, the model is there", folder / "model.safetensors")
        report.update(model_file.read_info(folder / "model.safetensors").training)
        return
    write_speakers(folder, chunks.speakers)
    table = TrainingTable(folder / "train_log.tsv")
    with contextlib.ExitStack() as stack:
        group = launched or stack.enter_context(start_followers(
            size, devices.choose_device(options.device).type, _follow, (folder, chunks, system, options)))
        state, run = _start(folder, chunks, system, options, group, allowed_bad, audio_options, len(bad.rows))
        state.bad = {utt_id: list(row) for utt_id, row in bad.rows.items()} | state.bad
        table.cut_after(state.step)
        stopped = loop.run_steps(state, run, table)
    if stopped:
        signal.raise_signal(signal.SIGTERM)
    if run.device.type == "cpu":
        torch.set_num_threads(options.nj)
    network = finish_network(state, run).float()
    seconds = table.seconds(system.training)
    report.update(num_steps=run.num_steps, seconds=round(seconds))
    _write_model(folder, network, chunks, system, options, run, state, seconds, report)
    if draw_curve(table, folder / "training_curve.png"):
        log.info("training curve: %s", folder / "training_curve.png")


def _count_processes(folder: Path, system: SystemConfig, options: TrainOptions) -> int:
    """As many as asked for; else as a started run has, whose weights would not go on exactly with another number."""
    if options.num_processes is not None:
        return options.num_processes
    path = folder / "run.json"
    if path.is_file() and not options.overwrite:
        return read_identity(path).get("num_processes", 1)
    if devices.choose_device(options.device).type != "cpu":
        return 1
    return max(1, min(options.nj, system.training.batch_size // ranks.GOOD_SHARE))


def _choose_device(options: TrainOptions, group: ranks.Ranks) -> torch.device:
    """Where this process trains, its threads and memory set up."""
    devices.keep_freed_memory()
    torch.set_num_threads(max(1, options.nj // group.size))
    device = devices.choose_device(options.device)
    if device.type == "cuda" and group.size > 1:
        device = devices.choose_device(f"cuda:{group.local_rank}")
        torch.cuda.set_device(device)
    return device


def _prepare_targets(
    chunks, system: SystemConfig, options: TrainOptions, group: ranks.Ranks, folder: Path, device, precision
):  # fmt: skip
    """The teacher's targets and what is known of it; the first process embeds, the others read what it has written."""
    if not options.teacher:
        return None, {}
    if not group.is_first:
        group.tell()
    prepared = prepare_targets(options.teacher, chunks, system, folder, device, precision, options)
    if group.is_first:
        group.tell()
    return prepared


def _start(
    folder: Path, chunks, system: SystemConfig, options: TrainOptions, group: ranks.Ranks,
    allowed_bad=None, audio_options=None, num_bad: int = 0,
):  # fmt: skip
    """The state to train from, new or resumed, and the run; the last arguments are the first process's."""
    device = _choose_device(options, group)
    precision = devices.choose_precision(options.precision, device)
    generator = torch.Generator().manual_seed(options.seed)
    network = make_network(system.model, system.fbank.num_columns)
    initialise(network, generator)
    network = devices.to_channels_last(network).to(device)
    with torch.no_grad():
        width = network.eval().classifier_input(torch.zeros(1, system.model.embedding_dim, device=device)).shape[1]
    loss = AamSoftmax(width, len(chunks.speakers), system.loss.scale, generator).to(device)
    initial, before = {}, None
    if options.init:
        initial, before = start_from_model(options.init, network, loss, chunks.speakers, system)
    targets, teacher = _prepare_targets(chunks, system, options, group, folder, device, precision)
    if targets is not None and width == targets.shape[1]:
        loss.start_from(targets)
    try:
        state = checkpoint.TrainingState(network, loss, make_optimiser([network, loss], system.training))
    except ValueError as error:
        raise ConfigError(f"[training] {error}") from None
    resumed = checkpoint.load_newest(folder / "checkpoints", state)
    sampler = BatchSampler(chunks.labels, system.training.batch_size, system.training.sampling, options.seed)
    validation = _validation(system, options, audio_options, before, initial) if group.is_first else None
    capacity = (most_samples_per_s(network, system.training.chunk_frames, system.fbank.num_columns, device, precision)
                if group.is_first else None)
    cores = max(1, options.nj // group.size)
    workers = cores if device.type == "cuda" else max(1, cores // 8)
    run = loop.Run(
        system,
        count_steps(system, len(chunks.labels)),
        TrainingBatches(chunks, sampler, system.model.mean_norm, as_samples=system.training.features_on == "device"),
        folder,
        device,
        precision,
        workers,
        len(chunks.utt_ids) + num_bad,
        allowed_bad,
        options.rerun,
        options.show,
        validation,
        targets,
        initial,
        teacher,
        capacity,
        make_forward(network, system.training.compile, device),
        group,
    )
    _say_start(chunks, state, run, resumed)
    return state, run


def _say_start(chunks, state, run: loop.Run, resumed: bool) -> None:
    training = run.system.training
    log.info(
        "%s %d utterances of %d speakers (%d classes): %d steps of %d chunks of %d frames, %s on %s%s",
        f"going on at step {state.step}:" if resumed else "training on",
        len(chunks.utt_ids),
        len({person_of(s) for s in chunks.speakers}),
        len(chunks.speakers),
        run.num_steps,
        training.batch_size,
        training.chunk_frames,
        devices.precision_name(run.precision),
        devices.describe_device(run.device),
        f", {run.ranks.size} processes" if run.ranks.size > 1 else "",
    )


def _validation(system: SystemConfig, options: TrainOptions, audio_options, before, initial: dict):
    """The held-out trials, if there are any; what the model that training begins with does on them, to ``initial``."""
    if not options.valid_trials:
        return None
    validation = setup.make_validation(options.valid_dir, options.valid_trials, system, audio_options, options.show)
    if before is not None:
        metrics = validation_metrics(before, validation, torch.float32)
        initial["before"] = {name: metrics[name] for name in ("eer_percent", "min_dcf")}
    return validation


def _write_model(
    folder: Path, network, chunks, system: SystemConfig, options: TrainOptions, run, state, seconds, report
) -> None:
    threshold, source, results = None, "", {}
    if run.validation is not None:
        after = validation_metrics(network, run.validation, torch.float32)
        trials, threshold = Path(run.validation.trials_path).name, after["eer_threshold"]
        source = (
            f"EER threshold on {trials}: {after['num_target']} target and "
            f"{after['num_nontarget']} nontarget trials, EER {after['eer_percent']:.3f} %"
        )
        results = {trials: {name: after[name] for name in ("eer_percent", "eer_threshold")}}
        report.update(results[trials])
        log.info("final model: %s", source)
        if run.initial:
            write_comparison(folder, trials, run.initial, after, report)
    training = {
        "num_speakers": len(chunks.speakers),
        "num_utterances": len(chunks.utt_ids),
        "num_steps": run.num_steps,
        "seconds": round(seconds),
        "seed": options.seed,
        "version": __version__,
        "precision": devices.precision_name(run.precision),
        "num_processes": run.ranks.size,
        "left_out": len(state.bad),
        **({"init": run.initial} if run.initial else {}),
        **({"teacher": run.teacher} if run.teacher else {}),
        "system": as_dict(system),
    }
    info = model_file.ModelInfo(
        name=options.name or folder.resolve().name,
        model=system.model,
        fbank=system.fbank,
        training_data=options.training_data or f"{len(chunks.utt_ids)} utterances of {len(chunks.speakers)} classes",
        domain=options.domain,
        licence=options.licence,
        threshold=None if threshold is None else float(f"{threshold:.9g}"),
        threshold_trials=source,
        training=training,
        results=results,
    )
    path = folder / "model.safetensors"
    model_file.save_model(path, network, info)
    digest = files.sha256_file(path)
    log.info("%s written, SHA-256 %s, %d s of training", path, digest, seconds)
    report.update(model=str(path), sha256=digest)
