"""wav.scp to emb.ark: checked, computed in parts, joined, with the manifest and the list of bad recordings."""

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from speakerkit import __version__
from speakerkit.errors import ConfigError
from speakerkit.io import ark, audio, files, locks
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.io.files import Manifest
from speakerkit.jobs.embedding_parts import fill_parts, join_parts, scp_path
from speakerkit.jobs.parts import PartFolder, split_parts
from speakerkit.jobs.speaker_means import read_speakers, speaker_outputs, write_speaker_means
from speakerkit.jobs.utterance_embedding import choose_model
from speakerkit.jobs.utterances import audio_fingerprint, read_utterances, say_resampled, scan_utterances

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractionOptions:
    """What to extract with, and how."""

    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    backend: str = "auto"
    nj: int = 1
    vad: bool = False  # keep what a detector takes for speech, leave out the rest
    audio_options: audio.AudioOptions = field(default_factory=audio.AudioOptions)
    allowed_bad: Callable[[int], int] = lambda total: 0
    overwrite: bool = False
    show: bool = True
    rerun: str = "extract-embeddings"  # the command line, for the message that tells how to finish


def extract_embeddings(
    wav_scp: str | os.PathLike,
    emb_ark: str | os.PathLike,
    options: ExtractionOptions,
    report: dict,
    segments: str | os.PathLike | None = None,
    spk2utt: str | os.PathLike | None = None,
    utt2utts: str | os.PathLike | None = None,
) -> None:
    """One embedding an utterance, in the list's order, as `emb.ark` and `emb.scp`.

    Args:
        wav_scp: '<id> <path>' lines.
        emb_ark: the archive to write; parts of a stopped run lie in `<emb_ark>.parts/`.
        options: model, device, workers, what is accepted.
        report: filled with counts, for --json.
        segments: '<utt-id> <rec-id> <start> <end>' lines.
        utt2utts: '<utt-id> <part-id>...' lines, utterances that are several of these joined.
        spk2utt: also write `spk_<emb_ark>`, the mean embedding of each of its speakers.

    Raises:
        DataError: a fault of structure (nothing is written), or more bad recordings than allowed
            (what is finished is kept).
        ConfigError: `emb_ark` was made from other options or inputs, or would replace one of them.
    """
    emb_ark = os.fspath(emb_ark)
    vad_facts(options.vad)  # is it installed?
    utterances = read_utterances(wav_scp, segments, options.audio_options.allow_pipes, utt2utts)
    listed = {"wav.scp": wav_scp, "segments": segments, "spk2utt": spk2utt, "utt2utts": utt2utts}
    speakers = None if spk2utt is None else read_speakers(spk2utt, utterances)
    outputs = [scp_path(emb_ark)] + (speaker_outputs(emb_ark) if speakers else [])
    _check_output_names(emb_ark, outputs, (*listed.values(), options.model))
    files.check_writable(emb_ark)
    with locks.output_lock(emb_ark):
        _extract(utterances, listed, emb_ark, outputs, options, report, speakers)


def _check_output_names(emb_ark: str, outputs: Sequence[str | os.PathLike], inputs: Iterable[object]) -> None:
    """Refuse, before any work, names that can't be written or that would replace what is read.

    Raises:
        ConfigError: the archive has its own table's name, or one of the files to write is one that is read.
        DataError: a table has no way to write the archive's path.
    """
    if os.path.realpath(emb_ark) == os.path.realpath(outputs[0]):
        raise ConfigError(f"{emb_ark} is the name of the table beside the archive; want another, such as "
                          f"{Path(emb_ark).with_suffix('.ark')}")
    ark.check_listed_name(emb_ark, outputs[0])
    for output in (emb_ark, *outputs):
        files.refuse_input_as_output(f"{emb_ark}: its" if output != emb_ark else "", output, inputs)


def _extract(utterances, listed, emb_ark, outputs, options, report, speakers) -> None:
    started = time.monotonic()
    choice = choose_model(options.model, options.device, options.precision, options.backend, options.nj, options.vad)
    manifest = _make_manifest(utterances, listed, options, choice)
    report.update(output=emb_ark, model=choice.path, sha256=choice.sha256, precision=choice.precision,
                  backend=choice.backend)
    identity = dataclasses.replace(manifest, inputs={"model": choice.sha256, "device": choice.device})
    place = f"{emb_ark}.parts", identity.to_json()
    if not files.prepare_output(emb_ark, manifest, options.overwrite, outputs):
        if PartFolder.is_there(*place):  # of a run killed at its last step
            PartFolder(*place).remove()
        report.update(files.read_manifest(emb_ark)["results"])
        log.info("%s: nothing to do, it is up to date", emb_ark)
        return
    bad = BadRecordings(emb_ark)
    seconds = scan_utterances(utterances, options.audio_options, bad, options.show)
    parts = [
        [utterances[i] for i in part] for part in split_parts([seconds.get(u.utt_id, 0.0) for u in utterances])
    ]
    folder = PartFolder(*place)
    with tqdm(
        total=len(seconds), desc="extract", unit="utt", dynamic_ncols=True, disable=None if options.show else True
    ) as bar:
        tally = fill_parts(parts, seconds, folder, options.audio_options, options.nj, choice, bad, bar)
    audio.say_notes(tally.notes)
    say_resampled(tally.rates, choice.info.fbank.sample_rate)
    report.update(num_utterances=len(utterances) - len(bad.rows), num_bad=len(bad.rows), **bad.counts())
    report.update(audio_seconds=round(tally.audio_s, 3), wall_seconds=round(time.monotonic() - started, 3))
    report.update(tally.speed)
    if options.vad:
        report["speech_seconds"] = round(tally.speech_s, 3)
        log.info("%s of %s of audio is speech (%s)", f"{tally.speech_s / 3600:.2f} h", f"{tally.audio_s / 3600:.2f} h",
                 manifest.options["vad"])
    bad.judge(len(utterances), options.allowed_bad, options.rerun)
    join_parts(emb_ark, folder, len(parts), len(utterances) - len(bad.rows))
    if speakers:
        write_speaker_means(emb_ark, speakers, bad)
    results = {k: report[k] for k in ("num_utterances", "num_bad", "audio_seconds", "speech_seconds") if k in report}
    model = {"model": choice.info.name, "model_sha256": choice.sha256, "precision": choice.precision}
    model |= vad_facts(options.vad)
    files.write_manifest(emb_ark, manifest, results | model, outputs)
    folder.remove()
    _say_done(emb_ark, report, choice, options)


def _make_manifest(utterances, listed, options, choice) -> Manifest:
    inputs = {"model": choice.sha256, "audio (paths, sizes, times)": audio_fingerprint(utterances)}
    for role, table in listed.items():
        if table is not None:
            inputs[role] = files.sha256_file(table)
    chosen = options.audio_options
    made_with = {
        "precision": choice.precision,
        "backend": choice.backend,
        "channel": chosen.channel,
        "pcm_rate": chosen.pcm_rate,
        "min_duration": chosen.min_duration_s,
        "accept_truncated": chosen.accept_truncated,
    } | vad_facts(options.vad)
    return Manifest("extract-embeddings", made_with, inputs, __version__)


def vad_facts(vad: bool) -> dict[str, str]:
    """`vad`: the detector with its version, as manifests and protocols have it; nothing where none is used."""
    from speakerkit.inference.speech_detector import detector_name

    return {"vad": detector_name()} if vad else {}


def _say_done(emb_ark: str, report: dict, choice, options: ExtractionOptions) -> None:
    wall = report["wall_seconds"]
    log.info(
        "%s of %s utterances, %.2f h of audio, %d bad",
        f"{report['num_utterances']:,}",
        f"{report['num_utterances'] + report['num_bad']:,}",
        report["audio_seconds"] / 3600,
        report["num_bad"],
    )
    log.info("  %s, %s   model %s %s", emb_ark, scp_path(emb_ark).name, choice.info.name, choice.sha256[:8])
    log.info("  %.1f s, %.0f x real time, %d workers", wall, report["audio_seconds"] / max(wall, 1e-9), options.nj)
