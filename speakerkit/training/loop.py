"""The training loop: steps, reports, checkpoints, and the final model."""

import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Callable
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
from speakerkit.training.chunks import TrainingBatches, start_worker
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

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.folder / "checkpoints"

    def progress(self, step: int) -> float:
        """Share of training done before ``step``."""
        return step / self.num_steps


def batch_loader(run: Run, first: int, last: int) -> torch.utils.data.DataLoader:
    """Batches of steps first..last - 1, in order, made ahead by worker processes."""
    return torch.utils.data.DataLoader(
        run.batches,
        batch_size=None,
        sampler=range(first, last),
        num_workers=run.num_workers,
        worker_init_fn=start_worker,
        pin_memory=run.device.type == "cuda",
        **({"prefetch_factor": 4} if run.num_workers else {}),
    )


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

    Returns:
        loss, accuracy without margin, gradient_norm before clipping, likeness (cosine) to the
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
        embedding = state.network(features)
        output = state.network.classifier_input(embedding)
    loss, accuracy = state.loss(output, labels, schedules.margin(share, run.system.loss))
    likeness = None
    if run.targets is not None:
        distance, likeness = teacher_loss(embedding, run.targets[labels])
        loss = loss + run.system.loss.teacher_weight * distance
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for group in state.optimiser.param_groups for p in group["params"]]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    values = {"loss": loss.item(), "accuracy": accuracy.item(), "gradient_norm": norm.item()}
    if likeness is not None:
        values["likeness"] = likeness.item()
    if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)
        return values
    if config.gradient_clip > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, config.gradient_clip, norm)
    state.optimiser.step()
    if (state.step + 1) / run.num_steps > config.average_from:
        update_average(state)
    return values


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
    """Take recordings that turned out unreadable into the list of bad ones, and refuse more than are allowed."""
    new = {utt_id: row for utt_id, *row in bad if utt_id not in state.bad}
    for utt_id, (path, reason, detail) in new.items():
        log.warning("'%s' is left out: %s: %s %s", utt_id, path, reason, detail)
    if new:
        state.bad |= new
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


def run_steps(state: TrainingState, run: Run, table: progress.TrainingTable) -> None:
    """Train from ``state.step`` to the end.

    Raises:
        DataError: too many bad recordings, or steps that stay non-finite.
        MachineError: a data worker died.
    """
    config, meter, bad_steps = run.system.training, progress.Meter(), 0
    began, first = time.monotonic(), state.step
    stop = _StopFlag()
    with (
        stop.watch(),
        _lost_worker_told(stop),
        tqdm(
            total=run.num_steps,
            initial=first,
            desc="train",
            unit="step",
            dynamic_ncols=True,
            smoothing=0.02,
            disable=None if run.show else True,
        ) as bar,
    ):
        loader = iter(batch_loader(run, first, run.num_steps))
        while state.step < run.num_steps:
            asked = time.monotonic()
            features, labels, bad = next(loader)
            features = features.to(run.device, non_blocking=True)
            labels, waited = labels.to(run.device, non_blocking=True), time.monotonic() - asked
            _note_bad(state, run, bad)
            values = train_step(state, run, features, labels)
            if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
                bad_steps += 1
                _note_bad_step(state, run, values["loss"], values["gradient_norm"], bad_steps)
            else:
                bad_steps = 0
                meter.add(values, waited)
            state.step += 1
            bar.update()
            row = _row(state, run, meter)
            if state.step % config.log_interval == 0 or state.step == run.num_steps:
                eta = (time.monotonic() - began) / (state.step - first) * (run.num_steps - state.step)
                log.info("%s", progress.describe(row, eta))
                bar.set_postfix_str(f"loss {row['loss']:.3f} acc {100 * row['accuracy']:.1f} %")
                meter.reset()
            if run.validation and (state.step % config.valid_interval == 0 or state.step == run.num_steps):
                _validate(state, run, row)
            if state.step % config.log_interval == 0 or "eer_percent" in row or state.step == run.num_steps:
                table.add(row)
            if state.step % config.checkpoint_interval == 0 or state.step == run.num_steps or stop.received:
                _save(state, run, final=state.step == run.num_steps or bool(stop.received))
            if stop.received:
                log.warning("stopped by signal %d at step %d of %d; the same command goes on from there",
                            stop.received, state.step, run.num_steps)
                break
    if stop.received:
        signal.raise_signal(signal.SIGTERM)


@contextlib.contextmanager
def _lost_worker_told(stop: _StopFlag):
    """torch's word for a data worker that died, as a MachineError; a stop that took the workers too is a stop."""
    try:
        yield
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error) and "killed by signal" not in str(error):
            raise
        if not stop.received:
            raise MachineError(f"a data worker died, probably for want of memory: {error}") from None
        log.warning("stopped by signal %d with its data workers; the same command goes on from the last checkpoint",
                    stop.received)


def _note_bad_step(state: TrainingState, run: Run, loss: float, norm: float, count: int) -> None:
    items = [run.batches.chunks.name(int(i)) for i in run.batches.sampler.items(state.step)]
    facts = {"step": state.step, "loss": str(loss), "gradient_norm": str(norm), "utterances": items}  # JSON has no nan
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
    return {
        "step": done,
        "epoch": done * config.batch_size / len(run.batches.chunks.labels),
        "learning_rate": schedules.learning_rate(done / run.num_steps, config),
        "margin": schedules.margin(run.progress(done - 1), run.system.loss),
    } | meter.report(config.batch_size)
