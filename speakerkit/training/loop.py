"""The training loop: steps, reports, checkpoints, and the final model."""

import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from speakerkit.config import SystemConfig
from speakerkit.errors import DataError, MachineError
from speakerkit.io import files
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.training import checkpoint, progress, schedules
from speakerkit.training.checkpoint import TrainingState
from speakerkit.training.chunks import TrainingBatches
from speakerkit.training.feeding import feed
from speakerkit.training.forward import Forward, make_forward
from speakerkit.training.ranks import PeerLost, Ranks
from speakerkit.training.teacher import teacher_loss
from speakerkit.training.validation import ValidationSet, validation_metrics

log = logging.getLogger(__name__)
MOST_BAD_STEPS = 3  # non-finite steps in a row
SAVE_TRIES = 3


@dataclass(frozen=True)
class Run:
    """One training run: what it is made of and where it goes."""

    system: SystemConfig
    num_steps: int
    batches: TrainingBatches
    folder: Path
    device: torch.device
    precision: torch.dtype  # of the network's forward and backward pass; weights stay float32
    num_workers: int  # processes that make batches; 0: this one
    num_utterances: int  # with those already left out
    allowed_bad: Callable[[int], int]  # from that number to how many may be unreadable
    rerun: str  # the command line, for the message that tells how to go on
    show: bool  # a progress bar
    validation: ValidationSet | None = None
    targets: torch.Tensor | None = None  # (num_classes, embedding_dim): what the teacher says of each class
    initial: dict = field(default_factory=dict)  # name, SHA-256 of the model that training began with
    teacher: dict = field(default_factory=dict)  # its name, SHA-256, training data, licence
    most_samples_per_s: float | None = None  # by one process, at the device's measured peak
    forward: Forward | None = None  # of the network in a step; None: as the state's network is written
    ranks: Ranks = field(default_factory=Ranks)  # this process among those that train together

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.folder / "checkpoints"

    def progress(self, step: int) -> float:
        """Share of training done before ``step``."""
        return step / self.num_steps


def read_batches(run: Run, first: int, last: int, whole: bool = False) -> Iterator[tuple]:
    """``feeding.feed`` of steps first..last - 1.

    Args:
        whole: all of each batch instead of this process's share.
    """
    places = range(run.system.training.batch_size) if whole else run.ranks.share(run.system.training.batch_size)
    return feed(run.batches.of_places(places), first, last, run.num_workers, run.device)


class _StopFlag:
    """SIGTERM and SIGUSR1 end the run after the step in hand, with a checkpoint."""

    def __init__(self):
        self.received: int | None = None

    @contextlib.contextmanager
    def watch(self):
        def note(signum, frame):
            self.received = signum

        try:
            old = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGUSR1)}
        except ValueError:  # not the main thread
            old = {}
        try:
            yield self
        finally:
            for signum, handler in old.items():
                signal.signal(signum, handler)


def train_step(
    state: TrainingState, run: Run, features: torch.Tensor, labels: torch.Tensor
) -> dict[str, float]:
    """Forward, backward, clip, update.

    Args:
        features: (share, chunk_frames, bins) of this process's share of the batch.
        labels: (share,) its classes.

    Returns:
        Of the whole batch: loss, accuracy without margin, gradient_norm before clipping, likeness (cosine) to the
        teacher. Where loss or norm isn't finite, nothing has changed: neither weights nor momentum
        nor batch norm statistics.
    """
    share, config = run.progress(state.step), run.system.training
    for group in state.optimiser.param_groups:
        group["lr"] = schedules.learning_rate((state.step + 1) / run.num_steps, config)
    buffers = [b for n, b in state.network.named_buffers()]
    kept = [b.clone() for b in buffers]
    frozen = run.initial and share < config.head_only
    set_trainable(state.network, trunk=not frozen)
    with torch.autocast(run.device.type, run.precision, enabled=run.precision != torch.float32):
        embedding, output = (run.forward or make_forward(state.network, False, run.device))(features)
    loss, accuracy = state.loss(output, labels, schedules.margin(share, run.system.loss))
    likeness = None
    if run.targets is not None:
        distance, likeness = teacher_loss(embedding, run.targets[labels])
        loss = loss + run.system.loss.teacher_weight * distance
    state.optimiser.zero_grad(set_to_none=True)
    weight = len(labels) / config.batch_size
    (loss if run.ranks.size == 1 else loss * weight).backward()
    parameters = [p for group in state.optimiser.param_groups for p in group["params"] if p.grad is not None]
    told = torch.stack([loss.detach(), accuracy] + ([] if likeness is None else [likeness]))
    if run.ranks.size > 1:
        means = [told, *moving_statistics(state.network)]
        torch._foreach_mul_(means, weight)
        run.ranks.sum_([*means, *(p.grad for p in parameters)])
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
    values = dict(zip(("loss", "accuracy", "likeness"), told.tolist(), strict=False)) | {"gradient_norm": norm.item()}
    if not _is_finite(values):
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)
        return values
    if config.gradient_clip > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, config.gradient_clip, norm)
    state.optimiser.step()
    if (state.step + 1) / run.num_steps > config.average_from:
        update_average(state)
    return values


def moving_statistics(network: torch.nn.Module) -> list[torch.Tensor]:
    """The running means and variances that a training step moves."""
    norms = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and m.training]
    return [s for m in norms for s in (m.running_mean, m.running_var) if s is not None]


def set_trainable(network: torch.nn.Module, trunk: bool) -> None:
    """Training mode; with ``trunk`` False the convolutional parts keep weights and batch norm statistics."""
    network.train()
    for name in network.convolutional:
        part = getattr(network, name)
        part.train(trunk)
        part.requires_grad_(trunk)


@torch.no_grad()
def update_average(state: TrainingState) -> None:
    """Take the weights of this step into their running mean."""
    state.num_averaged += 1
    for name, parameter in state.network.named_parameters():
        if name not in state.average:
            state.average[name] = parameter.detach().clone(memory_format=torch.contiguous_format)
        else:
            state.average[name].lerp_(parameter.detach(), 1.0 / state.num_averaged)


def _note_bad(state: TrainingState, run: Run, bad: list[tuple[str, str, str, str]]) -> None:
    """Take recordings that turned out unreadable into the list of bad ones; the first process refuses too many."""
    new = {utt_id: row for utt_id, *row in bad if utt_id not in state.bad}
    for utt_id, (path, reason, detail) in new.items():
        log.warning("'%s' is left out: %s: %s %s", utt_id, path, reason, detail)
    if new:
        state.bad |= new
    if new and run.ranks.is_first:
        rows = {utt_id: tuple(row) for utt_id, row in state.bad.items()}
        BadRecordings(os.fspath(run.folder), rows).judge(run.num_utterances, run.allowed_bad, run.rerun)


def _save(state: TrainingState, run: Run, final: bool = False) -> None:
    """A checkpoint; shared disks hiccup, so it is tried again, and a periodic one may fail."""
    for attempt in range(1, SAVE_TRIES + 1):
        try:
            checkpoint.save_checkpoint(run.checkpoints, state, run.system.training.keep_checkpoints)
            return
        except MachineError as error:
            log.warning("checkpoint of step %d, try %d of %d: %s", state.step, attempt, SAVE_TRIES, error)
            if attempt == SAVE_TRIES and final:
                raise
            time.sleep(attempt)


def _validate(state: TrainingState, run: Run, row: dict) -> None:
    eer = validation_metrics(state.network, run.validation, run.precision)["eer_percent"] / 100
    row["eer_percent"] = 100 * eer
    log.info("step %d: EER %.3f %% on %s", state.step, 100 * eer, run.validation.trials_path)
    if state.best_eer is None or eer < state.best_eer:
        state.best_eer, state.best_step = eer, state.step
        checkpoint.save_checkpoint(run.folder / "best", state, keep=1)


def run_steps(state: TrainingState, run: Run, table: progress.TrainingTable | None) -> bool:
    """Train from ``state.step`` to the end.

    Args:
        table: where the first process notes how it goes; None in the others.

    Returns:
        Whether a signal stopped it before.

    Raises:
        DataError: too many bad recordings, or steps that stay non-finite.
        MachineError: a data worker or another training process died.
    """
    meter, bad_steps = progress.Meter(), 0
    began, first = time.monotonic(), state.step
    stop, stopped = _StopFlag(), False
    bar = tqdm(total=run.num_steps, initial=first, desc="train", unit="step", dynamic_ncols=True, smoothing=0.02,
               disable=None if run.show and run.ranks.is_first else True)  # fmt: skip
    with stop.watch(), _lost_worker_told(stop), bar:
        batches = read_batches(run, first, run.num_steps)
        while state.step < run.num_steps and not stopped:
            asked = time.monotonic()
            features, labels, bad = next(batches)
            waited = time.monotonic() - asked
            stopped, some_bad = run.ranks.any_of(bool(stop.received), bool(bad))
            if some_bad:
                _note_bad(state, run, run.ranks.gather(bad))
            values = train_step(state, run, features, labels)
            bad_steps = 0 if _is_finite(values) else bad_steps + 1
            if bad_steps:
                _note_bad_step(state, run, values["loss"], values["gradient_norm"], bad_steps)
            else:
                meter.add(values, waited)
            state.step += 1
            stopped = stopped or run.ranks.size == 1 and bool(stop.received)
            bar.update()
            if table is not None:
                eta = (time.monotonic() - began) / (state.step - first) * (run.num_steps - state.step)
                _report(state, run, table, meter, eta, bar)
                _keep(state, run, stopped)
            if stopped:
                log.warning("stopped by signal %d at step %d of %d; the same command goes on from there",
                            stop.received or signal.SIGTERM, state.step, run.num_steps)
    return stopped or bool(stop.received)


def _is_finite(values: dict[str, float]) -> bool:
    return math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])


def _report(state: TrainingState, run: Run, table: progress.TrainingTable, meter: progress.Meter, eta: float, bar):
    """What is due after a step: a line in the log, the held-out trials, a row in the table."""
    config, last = run.system.training, state.step == run.num_steps
    row = _row(state, run, meter)
    is_logged = state.step % config.log_interval == 0 or last
    if is_logged:
        log.info("%s", progress.describe(row, eta))
        bar.set_postfix_str(f"loss {row['loss']:.3f} acc {100 * row['accuracy']:.1f} %")
        meter.reset()
    if run.validation and (state.step % config.valid_interval == 0 or last):
        _validate(state, run, row)
    if is_logged or "eer_percent" in row:
        table.add(row)


def _keep(state: TrainingState, run: Run, stopped: bool) -> None:
    """A checkpoint, where one is due."""
    last = state.step == run.num_steps
    if state.step % run.system.training.checkpoint_interval == 0 or last or stopped:
        _save(state, run, final=last or stopped)


@contextlib.contextmanager
def _lost_worker_told(stop: _StopFlag):
    """torch's word for a data worker that died, as a MachineError; a stop that took others first is a stop."""
    try:
        yield
    except (RuntimeError, PeerLost) as error:
        is_worker = "exited unexpectedly" in str(error) or "killed by signal" in str(error)
        if not (is_worker or isinstance(error, PeerLost)):
            raise
        if not stop.received:
            if isinstance(error, PeerLost):
                raise
            raise MachineError(f"a data worker died, probably for want of memory: {error}") from None
        log.warning("stopped by signal %d with its data workers; the same command goes on from the last checkpoint",
                    stop.received)


def _note_bad_step(state: TrainingState, run: Run, loss: float, norm: float, count: int) -> None:
    items = [run.batches.chunks.name(int(i)) for i in run.batches.sampler.items(state.step)]
    facts = {"step": state.step, "loss": str(loss), "gradient_norm": str(norm), "utterances": items}  # JSON has no nan
    if run.ranks.is_first:
        files.write_json(run.folder / f"bad-step-{state.step}.json", facts)
    log.warning(
        "step %d left out: loss %s, gradient norm %s; its utterances are in bad-step-%d.json",
        state.step,
        loss,
        norm,
        state.step,
    )
    if count >= MOST_BAD_STEPS:
        raise DataError(
            run.folder,
            f"loss or gradient not finite in {count} steps in a row, at step {state.step}; "
            "lower learning_rate, or look at the recordings in bad-step-*.json",
        )


def _row(state: TrainingState, run: Run, meter: progress.Meter) -> dict:
    config, done = run.system.training, state.step
    row = {
        "step": done,
        "epoch": done * config.batch_size / len(run.batches.chunks.labels),
        "learning_rate": schedules.learning_rate(done / run.num_steps, config),
        "margin": schedules.margin(run.progress(done - 1), run.system.loss),
    } | meter.report(config.batch_size)
    if run.most_samples_per_s:
        row["of_peak"] = row["samples_per_s"] / (run.ranks.size * run.most_samples_per_s)
    return row
