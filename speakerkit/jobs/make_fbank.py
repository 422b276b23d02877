"""A data directory's recordings to feats.scp, archives and utt2num_frames: workers, parts, resume, bad recordings."""

import contextlib
import dataclasses
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from speakerkit import __version__
from speakerkit.errors import ConfigError, DataError, MachineError, RecordingError, raise_all
from speakerkit.io import audio, data_dir, files, locks, tables
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.io.files import Manifest
from speakerkit.jobs import feature_parts, pool
from speakerkit.jobs.feature_parts import FeatureOptions, PartTask
from speakerkit.jobs.parts import PART_SECONDS, PartFolder, is_as_written, split_parts
from speakerkit.jobs.utterances import Utterance, audio_fingerprint, read_utterances, say_resampled, scan_utterances

log = logging.getLogger(__name__)

WANTED_PARTS = 32  # of a small directory, so that every worker has something to do
LEAST_PART_SECONDS = 60.0


@dataclass(frozen=True)
class FbankJob:
    """What to compute, with how many workers, and where it goes."""

    features: FeatureOptions = field(default_factory=FeatureOptions)
    output_dir: str | None = None  # None: the data directory itself
    nj: int = 1
    allowed_bad: Callable[[int], int] = lambda total: 0
    overwrite: bool = False
    show: bool = True
    rerun: str = "make-fbank"  # the command line, for the message that tells how to finish


@dataclass(frozen=True)
class _Inputs:
    """The tables of a data directory, read and checked."""

    utterances: list[Utterance]
    speakers: dict[str, str] | None  # utt_id -> spk_id where a directory of its own is written
    sha256: dict[str, str]  # name of each table -> its SHA-256


def make_fbank(source_dir: str | os.PathLike, job: FbankJob, report: dict) -> None:
    """Features of every utterance at every speed; `feats.scp` appears when all are there.

    Args:
        source_dir: a data directory with wav.scp, segments where utterances are stretches of it, and
            utt2utts where some are joined.
        job: what to compute and where it goes. The archives are `<output_dir>/feats/feats.NNNNN.ark`;
            those that a stopped run finished are taken as they are.
        report: filled with counts, for --json.

    Raises:
        DataError: a fault of structure (nothing is written), or more bad recordings than allowed
            (what is finished is kept).
        ConfigError: feats.scp was made from other options or inputs, or speeds that can't be kept apart.
        MachineError: too little space, or a place that can't be written.
    """
    output_dir = Path(source_dir if job.output_dir is None else job.output_dir)
    _check_speeds(source_dir, job)
    inputs = _read_inputs(source_dir, job)
    feats_scp = output_dir / "feats.scp"
    files.check_writable(feats_scp)
    with locks.output_lock(feats_scp):
        manifest = Manifest(
            "make-fbank",
            job.features.as_dict(),
            inputs.sha256 | {"audio (paths, sizes, times)": audio_fingerprint(inputs.utterances)},
            __version__,
        )
        _Run(feats_scp, manifest, inputs, job, report).run()


def _check_speeds(source_dir: str | os.PathLike, job: FbankJob) -> None:
    if job.output_dir is None and job.features.speeds != (1.0,):
        raise ConfigError("--speeds makes further utterances: give --output-dir, a data directory of their own")
    if job.output_dir is not None and os.path.realpath(job.output_dir) == os.path.realpath(source_dir):
        raise ConfigError(f"--output-dir {job.output_dir} is DATA_DIR itself: give another, or leave it out")


def _read_inputs(source_dir: str | os.PathLike, job: FbankJob) -> _Inputs:
    data_dir.check_folder(source_dir)
    folder = Path(source_dir)
    wav_scp, segments, utt2utts, utt2spk = (folder / name for name in ("wav.scp", "segments", "utt2utts", "utt2spk"))
    segments, utt2utts = (path if path.exists() else None for path in (segments, utt2utts))
    read = [path for path in (wav_scp, segments, utt2utts) if path is not None]
    utterances = read_utterances(wav_scp, segments, job.features.audio_options.allow_pipes, utt2utts)
    speakers = None
    if job.output_dir is not None:
        speakers = _read_speakers(utt2spk, utterances, job)
        read.append(utt2spk)
    return _Inputs(utterances, speakers, {path.name: files.sha256_file(path) for path in read})


def _read_speakers(utt2spk: Path, utterances: list[Utterance], job: FbankJob) -> dict[str, str]:
    """utt_id -> spk_id of the utterances; both lists must be the same, and no two speeds have one id."""
    from speakerkit.features.resample import speed_utt_id

    table = tables.read_utt2spk(utt2spk)
    known = {utterance.utt_id for utterance in utterances}
    faults = [table.fault(utt_id, f"'{utt_id}' has no recording") for utt_id in table.values if utt_id not in known]
    faults += [
        DataError(utt2spk, f"lacks '{utterance.utt_id}', which has a recording")
        for utterance in utterances
        if utterance.utt_id not in table.values
    ]
    for speed in job.features.speeds:
        for utt_id in known if speed != 1.0 else ():
            key = speed_utt_id(utt_id, speed, job.features.new_speakers)
            if key in known:
                faults.append(table.fault(key, f"'{key}' is what '{utt_id}' is called at speed {speed:g}"))
    raise_all(faults)
    return table.values


class _Run:
    """One run of make-fbank: from checked inputs to the published tables."""

    def __init__(self, feats_scp: Path, manifest: Manifest, inputs: _Inputs, job: FbankJob, report: dict):
        self.feats_scp, self.manifest, self.inputs = feats_scp, manifest, inputs
        self.job, self.report = job, report
        self.output_dir = feats_scp.parent
        self.archive_dir = self.output_dir / "feats"
        self.place = self.archive_dir, dataclasses.replace(manifest, inputs={}).to_json(), "feats."
        names = ["utt2num_frames", *(["utt2spk", "spk2utt"] if inputs.speakers is not None else [])]
        self.other_tables = [self.output_dir / name for name in names]
        self.bad = BadRecordings(os.fspath(feats_scp))
        self.started = time.monotonic()

    def run(self) -> None:
        self.report.update(output=os.fspath(self.feats_scp))
        if not self.prepare():
            results = files.read_manifest(self.feats_scp)["results"]
            if PartFolder.is_there(*self.place):  # of a run killed at its last step
                PartFolder(*self.place).keep_data([os.path.basename(name) for name in results["archives"]])
            self.report.update({key: value for key, value in results.items() if key != "archives"})
            log.info("%s: nothing to do, it is up to date", self.feats_scp)
            return
        job, utterances = self.job, self.inputs.utterances
        seconds = scan_utterances(utterances, job.features.audio_options, self.bad, job.show)
        lengths = [seconds.get(utterance.utt_id, 0.0) for utterance in utterances]
        part_seconds = min(PART_SECONDS, max(LEAST_PART_SECONDS, sum(lengths) / WANTED_PARTS))
        parts = [[utterances[i] for i in part] for part in split_parts(lengths, part_seconds)]
        folder = PartFolder(*self.place)
        facts = self.fill(parts, seconds, folder)
        self.count(facts)
        self.bad.judge(len(utterances), job.allowed_bad, job.rerun)
        self.publish(facts, folder)

    def prepare(self) -> bool:
        """Whether there is anything to do; what was made differently goes first, where it may."""
        outputs = self.other_tables
        overwrite = self.job.overwrite
        if not files.prepare_output(self.feats_scp, self.manifest, overwrite, outputs):
            changed = self.changed_archives()
            if not changed:
                return False
            if not overwrite:
                raise ConfigError(
                    f"{self.feats_scp}: exists already: {changed[0]} is not as it was written; "
                    "give --overwrite to replace it"
                )
        if overwrite:  # the archives are replaced one by one: no list may point at them meanwhile
            for path in (self.feats_scp, *outputs, files.manifest_path(self.feats_scp)):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
            files.prepare_output(self.feats_scp, self.manifest, overwrite, outputs)
        return True

    def changed_archives(self) -> list[Path]:
        archives = files.read_manifest(self.feats_scp)["results"]["archives"]
        return [self.output_dir / name for name, facts in archives.items()
                if not is_as_written(self.output_dir / name, facts)]

    def fill(self, parts: list[list[Utterance]], seconds: dict[str, float], folder: PartFolder) -> list[dict]:
        """Compute the parts that aren't there yet; the facts of all."""
        facts: list[dict | None] = []
        tasks = []
        for number, part in enumerate(parts):
            fingerprint = audio_fingerprint(part)
            facts.append(folder.finished(number, fingerprint))
            usable = [utterance for utterance in part if utterance.utt_id in seconds]
            tasks.append(PartTask(number, usable, fingerprint, folder, self.job.features))
        tasks = [task for task in tasks if facts[task.number] is None]
        if len(tasks) < len(parts):
            log.info("%d of %d parts are there from an earlier run", len(parts) - len(tasks), len(parts))
        self.check_space(tasks, seconds)
        done = sum(len(part) for part, known in zip(parts, facts, strict=True) if known is not None)
        show = None if self.job.show else True
        with tqdm(total=sum(map(len, parts)), initial=done, desc="fbank", unit="utt", dynamic_ncols=True,
                  disable=show) as bar:
            audio_s, began = 0.0, time.monotonic()
            try:
                for task, result in zip(tasks, self.compute(tasks), strict=True):
                    facts[task.number] = result
                    audio_s += sum(seconds[utterance.utt_id] for utterance in task.utterances)
                    rate = audio_s / (time.monotonic() - began)
                    bar.set_postfix_str(f"{audio_s / 3600:.1f} h, {rate:.0f}x real time", refresh=False)
                    bar.update(len(parts[task.number]))
            except MachineError as error:
                kept = sum(len(part) for part, known in zip(parts, facts, strict=True) if known is not None)
                total = len(self.inputs.utterances)
                raise MachineError(f"{error}; {kept:,} of {total:,} utterances are kept, rerun to go on") from error
        return facts

    def compute(self, tasks: list[PartTask]):
        if not tasks:
            return iter(())
        import torch  # noqa: F401 - before the fork, so that the workers share it

        nj = min(self.job.nj, len(tasks))
        return pool.run_tasks(feature_parts.make_part, tasks, nj, pool.use_one_thread, feature_parts.describe_part)

    def check_space(self, tasks: list[PartTask], seconds: dict[str, float]) -> None:
        """Refuse to begin what the disk can't hold."""
        lengths = [seconds[utterance.utt_id] for task in tasks for utterance in task.utterances]
        needed = feature_parts.expected_bytes(lengths, self.job.features)
        free = shutil.disk_usage(self.archive_dir).free
        if needed > free:
            hint = "" if self.job.features.compress else "; --compress needs a quarter"
            raise MachineError(
                f"{self.archive_dir}: the features need about {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free{hint}"
            )
        if needed > 1e9:
            log.info("about %.1f GB of features, %.1f GB are free", needed / 1e9, free / 1e9)

    def count(self, facts: list[dict]) -> None:
        """Gather what the parts tell; say once what a user should hear of."""
        notes, rates = Counter(), Counter()
        for part in facts:
            notes.update(part["notes"])
            rates.update(part["rates"])
            for utt_id, row in part["bad"].items():
                self.bad.add(utt_id, RecordingError(*row))
        audio.say_notes(notes)
        say_resampled(Counter({int(rate): n for rate, n in rates.items()}), self.job.features.fbank.sample_rate)
        total = len(self.inputs.utterances)
        audio_s = sum(part["audio_seconds"] for part in facts)
        frames = sum(sum(part["num_frames"].values()) for part in facts)
        self.report.update(num_utterances=total - len(self.bad.rows), num_bad=len(self.bad.rows))
        self.report.update(self.bad.counts(), num_features=sum(len(part["num_frames"]) for part in facts))
        self.report.update(num_frames=frames, audio_seconds=round(audio_s, 3))
        self.report.update(wall_seconds=round(time.monotonic() - self.started, 3))

    def publish(self, facts: list[dict], folder: PartFolder) -> None:
        """The tables, feats.scp after the others and the manifest last."""
        places: dict[str, str] = {}
        num_frames: dict[str, int] = {}
        archives: dict[str, dict] = {}
        numbers = [number for number, part in enumerate(facts) if part["num_frames"]]
        for number in numbers:
            path, part = folder.data_path(number), facts[number]
            absolute = os.path.abspath(path)
            places.update((key, f"{absolute}:{offset}") for key, offset in part["offsets"].items())
            num_frames.update(part["num_frames"])
            archives[os.fspath(path.relative_to(self.output_dir))] = {
                name: part[name] for name in ("bytes", "mtime_ns", "sha256")
            }
        data_dir.write_data_dir(self.output_dir, utt2spk=self.speakers_of(num_frames), utt2num_frames=num_frames)
        data_dir.write_data_dir(self.output_dir, feats_scp=places)
        results = {key: value for key, value in self.report.items() if key not in ("output", "wall_seconds")}
        files.write_manifest(self.feats_scp, self.manifest, results | {"archives": archives}, self.other_tables)
        folder.keep_data([folder.data_path(number).name for number in numbers])
        self.say_done(archives)

    def speakers_of(self, keys: dict[str, int]) -> dict[str, str] | None:
        """The utt2spk of the features: speakers by speed, without the bad recordings."""
        if self.inputs.speakers is None:
            return None
        from speakerkit.features.resample import speed_spk_id, speed_utt_id

        new_speakers, found = self.job.features.new_speakers, {}
        for speed in self.job.features.speeds:
            for utt_id, spk_id in self.inputs.speakers.items():
                key = speed_utt_id(utt_id, speed, new_speakers)
                if key in keys:
                    found[key] = speed_spk_id(spk_id, speed, new_speakers)
        return found

    def say_done(self, archives: dict[str, dict]) -> None:
        report, speeds = self.report, self.job.features.speeds
        at = "" if speeds == (1.0,) else f" at speeds {', '.join(f'{speed:g}' for speed in speeds)}"
        log.info(
            "%s of %s utterances%s, %.2f h of audio, %d bad",
            f"{report['num_utterances']:,}",
            f"{report['num_utterances'] + report['num_bad']:,}",
            at,
            report["audio_seconds"] / 3600,
            report["num_bad"],
        )
        size = sum(facts["bytes"] for facts in archives.values())
        log.info("  %s, %d archives, %.3g GB", self.feats_scp, len(archives), size / 1e9)
        wall = max(report["wall_seconds"], 1e-9)
        log.info("  %.1f s, %.0f x real time, %d workers", wall, report["audio_seconds"] / wall, self.job.nj)
        if report["num_bad"] and self.inputs.speakers is None and (self.output_dir / "utt2spk").exists():
            log.warning("utt2spk still lists the bad ones; --output-dir writes a directory without them")
