"""From data directories to what the training loop runs on."""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from speakerkit.config import SystemConfig, as_dict
from speakerkit.errors import ConfigError, DataError
from speakerkit.io import ark, audio, data_dir, files, trials
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.training.chunks import FeatureChunks, WaveChunks
from speakerkit.training.recordings import hold, read_noises, read_responses, scan_recordings
from speakerkit.training.validation import ValidationSet, load_features

log = logging.getLogger(__name__)


def make_chunks(
    train_dir: str | os.PathLike,
    system: SystemConfig,
    options: audio.AudioOptions,
    bad: BadRecordings,
    show: bool,
    random_channel: bool = False,
) -> FeatureChunks | WaveChunks:
    """The chunks of a training directory: of feats.scp where it is, else of wav.scp.

    Args:
        bad: recordings whose headers show that they can't be used are noted here.
        show: a progress bar.
        random_channel: draw a channel for each chunk of a recording that has several.

    Raises:
        DataError: a table at fault, nothing that can be used, fewer than two speakers.
        ConfigError: stored features made with other fbank options.
    """
    data = data_dir.read_data_dir(train_dir)
    if data.utt2spk is None or (data.feats_scp is None and data.wav_scp is None):
        raise DataError(train_dir, "wanted utt2spk and feats.scp or wav.scp")
    if data.feats_scp is not None:
        if random_channel:
            raise ConfigError(f"{train_dir} has features already; a random channel needs the recordings themselves")
        chunks = _feature_chunks(data, system)
    else:
        utt_ids, recordings = scan_recordings(data, options, bad, show, random_channel)
        chunks = WaveChunks(
            utt_ids,
            [data.utt2spk.values[u] for u in utt_ids],
            recordings,
            system.fbank,
            system.augmentation,
            system.training.chunk_frames,
            noises=hold(read_noises(system.augmentation.noise_scp, options)),
            responses=read_responses(system.augmentation.response_scp, options, system.fbank.sample_rate),
        )
    if len(chunks.speakers) < 2:
        raise DataError(train_dir, f"has {len(chunks.speakers)} speaker; training needs two or more")
    return chunks


def _feature_chunks(data: data_dir.DataDir, system: SystemConfig) -> FeatureChunks:
    manifest = files.read_manifest(Path(data.path) / "feats.scp")
    if manifest is not None:
        made_with, wanted = manifest["options"].get("fbank"), as_dict(system.fbank)
        if made_with != wanted:
            differ = [
                f"{k} {made_with.get(k)!r} (training: {v!r})"
                for k, v in wanted.items()
                if (made_with or {}).get(k) != v
            ]
            raise ConfigError(
                f"{data.path}/feats.scp was made with other fbank options: {', '.join(differ)}; "
                "make it again with make-fbank --overwrite --config of this system"
            )
    else:
        log.warning("%s/feats.scp has no manifest: its fbank options can't be checked", data.path)
    locations = ark.read_scp(Path(data.path) / "feats.scp")
    utt_ids = list(data.utt2spk.values)
    if data.utt2num_frames is None:
        raise DataError(Path(data.path) / "utt2num_frames", "no such file; make-fbank writes it beside feats.scp")
    lengths = {}
    for utt_id in utt_ids:
        if utt_id not in locations or utt_id not in data.utt2num_frames.values:
            raise DataError(Path(data.path) / "feats.scp", f"'{utt_id}' of utt2spk has no features or no length")
        lengths[utt_id] = int(data.utt2num_frames.values[utt_id])
    first = ark.read_matrix(locations[utt_ids[0]], utt_ids[0])
    if first.shape[1] != system.fbank.num_columns:
        raise ConfigError(
            f"{data.path}/feats.scp has {first.shape[1]} columns; the configuration makes {system.fbank.num_columns}"
        )
    return FeatureChunks(
        utt_ids, [data.utt2spk.values[u] for u in utt_ids], locations, lengths, system.training.chunk_frames
    )


def make_validation(
    valid_dir: str | os.PathLike,
    trials_path: str | os.PathLike,
    system: SystemConfig,
    options: audio.AudioOptions,
    progress: bool,
) -> ValidationSet:
    """Features of every recording that the labelled trials name, computed once."""
    data = data_dir.read_data_dir(valid_dir)
    pairs = trials.read_trials(trials_path)
    if pairs.is_target is None:
        raise DataError(trials_path, "trials have no labels; validation needs target/nontarget")
    if data.wav_scp is None:
        raise DataError(valid_dir, "wanted wav.scp")
    utt_ids = list(dict.fromkeys([*pairs.enrol_ids, *pairs.test_ids]))
    index = {utt_id: number for number, utt_id in enumerate(utt_ids)}
    features = []
    for utt_id in tqdm(
        utt_ids, desc="validation features", unit="utt", disable=None if progress else True, leave=False
    ):
        segment = data.segments.get(utt_id) if data.segments else None
        rec_id = segment.rec_id if segment else utt_id
        if rec_id not in data.wav_scp.values:
            raise DataError(trials_path, f"'{utt_id}' is not in {data.path}/wav.scp")
        start, end = (segment.start_s, segment.end_s if segment.end_s >= 0 else None) if segment else (None, None)
        features.append(load_features(data.wav_scp.values[rec_id], start, end, system.fbank, system.model, options))
    return ValidationSet(
        features,
        np.array([index[i] for i in pairs.enrol_ids])[pairs.enrol_index],
        np.array([index[i] for i in pairs.test_ids])[pairs.test_index],
        pairs.is_target,
        os.fspath(trials_path),
    )


def hash_lines(lines: Sequence[str]) -> str:
    """SHA-256 of lines, to tell whether speakers or utterances changed between runs."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
