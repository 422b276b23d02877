"""Whether a data directory's tables fit together, and whether what they point at is there.

Kaldi's validate_data_dir.sh passes recordings that don't exist and lines without a path, and ends
with exit code 0 on a malformed utt2spk; here each fault is a line, and oddities are warnings.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from speakerkit.errors import DataError, raise_all
from speakerkit.io.data_dir import DataDir, read_tables
from speakerkit.io.recording_checks import check_joints, check_recordings, part_ids, unjoined_ids, unused_recordings
from speakerkit.io.scp import in_archive_order, read_matrix_shape, read_scp
from speakerkit.io.tables import Table, sort_key

if TYPE_CHECKING:
    from speakerkit.io.audio import AudioOptions

_NUM_EXAMPLES = 5


def validate_data_dir(path: str | os.PathLike, read_audio: bool = False, allow_pipes: bool = False,
                      options: "AudioOptions | None" = None, progress: Callable = iter) -> tuple[dict, list[str]]:
    """Check a data directory: every table, how they fit together, and what they point at.

    Args:
        path: the folder.
        read_audio: decode every recording; otherwise only headers are read.
        allow_pipes: whether wav.scp may hold shell pipes; with read_audio they are run.
        options: `audio.AudioOptions`, how recordings are taken; allow_pipes is set in them.
        progress: wraps the collection of recordings that is gone through, to show how far it is.

    Returns:
        counts: num_utterances, num_speakers and whatever else there is to count, by name.
        warnings: what is odd but not wrong, a line each.

    Raises:
        DataErrors: every fault, with file and line.
    """
    faults: list[DataError] = []
    data = read_tables(path, faults)
    counts, warnings = _check_tables(data, faults, read_audio, allow_pipes, options, progress)
    raise_all(faults)
    return counts, warnings


def _check_tables(data: DataDir, faults: list[DataError], read_audio: bool, allow_pipes: bool,
                  options: "AudioOptions | None", progress: Callable) -> tuple[dict, list[str]]:
    """Counts and warnings of validate_data_dir; faults are added to those found by reading the tables."""
    faults += list(_missing_files(data, faults))
    warnings: list[str] = []
    counts = _count_tables(data)
    faults += check_joints(data) + _compare_all_ids(data)
    faults += _check_spk2utt(data)
    warnings += _odd_speakers(data) + _odd_order(data) + unused_recordings(data)
    if data.wav_scp is not None:
        counts |= check_recordings(data, faults, warnings, read_audio, allow_pipes, options, progress)
    if data.feats_scp is not None:
        counts |= _check_features(data, faults)
    if data.trials_path is not None:
        counts |= _check_trials(data, faults, warnings)
    return counts, warnings


def _missing_files(data: DataDir, faults: list[DataError]) -> Iterable[DataError]:
    unreadable = {os.path.basename(fault.path) for fault in faults}
    if data.utt2spk is None and "utt2spk" not in unreadable:
        yield DataError(os.path.join(data.path, "utt2spk"), "no such file; wanted '<utt-id> <spk-id>' a line")
    if data.wav_scp is None and data.feats_scp is None and not unreadable & {"wav.scp", "feats.scp"}:
        yield DataError(data.path, "has neither wav.scp nor feats.scp")
    if data.segments is not None and data.wav_scp is None and "wav.scp" not in unreadable:
        yield DataError(os.path.join(data.path, "segments"), "there is no wav.scp whose segments these could be")


def _count_tables(data: DataDir) -> dict:
    counts = {}
    if data.wav_scp is not None:
        counts["num_recordings"] = len(data.wav_scp.values)
    utterances = _utterances(data)
    if utterances is not None:
        counts["num_utterances"] = len(utterances)
    if data.utt2spk is not None:
        counts["num_speakers"] = len(set(data.utt2spk.values.values()))
    return counts


def _utterances(data: DataDir) -> Collection[str] | None:
    """The ids of the utterances, by the first table that says them."""
    if data.utt2spk is not None:
        return data.utt2spk.values
    source = unjoined_ids(data)
    if source is not None and data.utt2utts is not None:
        parts = part_ids(data)
        return [*(key for key in source if key not in parts), *data.utt2utts]
    return source if source is not None or data.feats_scp is None else data.feats_scp.values


# --- ids -----------------------------------------------------------------------------------------------------------


def _compare_all_ids(data: DataDir) -> list[DataError]:
    faults = []
    names = {"wav.scp": data.wav_scp, "utt2spk": data.utt2spk, "feats.scp": data.feats_scp,
             "utt2num_frames": data.utt2num_frames, "segments": data.segments}
    ids = {name: table.values if isinstance(table, Table) else table for name, table in names.items()}
    source = "wav.scp" if data.segments is None else "segments"
    if data.utt2utts is not None and ids["utt2spk"] is not None and ids[source] is not None:
        both, parts = f"{source} and utt2utts", part_ids(data)
        spoken = {key for key in ids[source] if key not in parts} | data.utt2utts.keys()
        faults += _compare_ids(data.path, "utt2spk", ids["utt2spk"], both, spoken)
        faults += _compare_ids(data.path, source, ids[source], "utt2spk or utt2utts", ids["utt2spk"].keys() | parts)
        faults += _compare_ids(data.path, "utt2utts", data.utt2utts, "utt2spk", ids["utt2spk"])
        source = None
    for one, other in [("utt2spk", source), ("utt2spk", "feats.scp"), ("feats.scp", "utt2num_frames")]:
        if other is not None and ids[one] is not None and ids[other] is not None:
            faults += _compare_ids(data.path, one, ids[one], other, ids[other])
            faults += _compare_ids(data.path, other, ids[other], one, ids[one])
    if data.segments is not None and data.wav_scp is not None:
        for segment in data.segments.values():
            if segment.rec_id not in data.wav_scp.values:
                message = f"recording '{segment.rec_id}' is not in wav.scp"
                faults.append(DataError(os.path.join(data.path, "segments"), message, segment.line))
    return faults


def _compare_ids(folder: str, name: str, ids: Collection[str], other_name: str,
                 other_ids: Collection[str]) -> Iterable[DataError]:
    """One fault for all ids that the other table lacks, at the line of the first."""
    lines = [(line, key) for line, key in enumerate(ids, 1) if key not in other_ids]
    if lines:
        told = ", ".join(f"'{key}'" for _, key in lines[:_NUM_EXAMPLES])
        more = ", ..." if len(lines) > _NUM_EXAMPLES else ""
        verb = "is" if len(lines) == 1 else "are"
        yield DataError(os.path.join(folder, name), f"{len(lines):,} of {len(ids):,} ids {verb} not in {other_name}, "
                                                    f"which has {len(other_ids):,}: {told}{more}", lines[0][0])


def _check_spk2utt(data: DataDir) -> list[DataError]:
    """spk2utt must be utt2spk turned round."""
    if data.spk2utt is None or data.utt2spk is None:
        return []
    faults = []
    path = os.path.join(data.path, "spk2utt")
    listed = {}
    for line, (spk_id, utt_ids) in enumerate(data.spk2utt.items(), 1):
        for utt_id in utt_ids:
            listed[utt_id] = line
            owner = data.utt2spk.values.get(utt_id)
            if owner is None:
                faults.append(DataError(path, f"'{utt_id}' is not in utt2spk", line))
            elif owner != spk_id:
                faults.append(DataError(path, f"'{utt_id}' is of '{spk_id}' here and of '{owner}' in utt2spk", line))
    return faults + list(_compare_ids(data.path, "utt2spk", data.utt2spk.values, "spk2utt", listed))


def _odd_speakers(data: DataDir) -> list[str]:
    if data.utt2spk is None:
        return []
    utt2spk = data.utt2spk.values
    warnings = []
    unlike = [utt_id for utt_id, spk_id in utt2spk.items() if not utt_id.startswith(spk_id)]
    if unlike:
        warnings.append(f"utt2spk: {len(unlike):,} of {len(utt2spk):,} utterance ids do not begin with their speaker "
                        f"id, the first '{unlike[0]}' of '{utt2spk[unlike[0]]}'")
    num_utterances = Counter(utt2spk.values())
    if len(num_utterances) == 1:
        warnings.append("utt2spk: only one speaker")
    single = [spk_id for spk_id, count in num_utterances.items() if count == 1]
    if single and len(num_utterances) > 1:
        warnings.append(f"utt2spk: {len(single):,} of {len(num_utterances):,} speakers have one utterance, "
                        f"the first '{single[0]}'")
    if data.spk2utt is None:
        warnings.append("spk2utt: no such file; other tools want it")
    return warnings


def _odd_order(data: DataDir) -> list[str]:
    tables: dict[str, Table | Mapping | None] = {
        "wav.scp": data.wav_scp, "utt2spk": data.utt2spk, "spk2utt": data.spk2utt, "segments": data.segments,
        "utt2utts": data.utt2utts, "feats.scp": data.feats_scp, "utt2num_frames": data.utt2num_frames}
    warnings = []
    for name, table in tables.items():
        if table is None:
            continue
        keys = [sort_key(key) for key in (table.values if isinstance(table, Table) else table)]
        if any(before > after for before, after in zip(keys, keys[1:], strict=False)):
            warnings.append(f"{name}: not sorted, which Kaldi wants: LC_ALL=C sort {os.path.join(data.path, name)}")
    return warnings


# --- features and trials -------------------------------------------------------------------------------------------


def _check_features(data: DataDir, faults: list[DataError]) -> dict:
    """Read the header of every matrix: it must be there, as long as utt2num_frames says, as wide as the others."""
    try:
        locations = read_scp(data.feats_scp.path)
    except DataError as error:
        faults += getattr(error, "faults", [error])
        return {}
    frames = data.utt2num_frames.values if data.utt2num_frames is not None else {}
    num_columns, num_frames = None, 0
    for entries in in_archive_order(locations).values():
        for _, utt_id in entries:
            try:
                rows, columns = read_matrix_shape(locations[utt_id], utt_id)
            except DataError as error:
                faults.append(data.feats_scp.fault(utt_id, _without_place(error, data.feats_scp.path)))
                continue
            num_frames += rows
            num_columns = num_columns or columns
            if rows == 0:
                faults.append(data.feats_scp.fault(utt_id, f"'{utt_id}' has no frames"))
            elif columns != num_columns:
                faults.append(data.feats_scp.fault(
                    utt_id, f"'{utt_id}' has {columns} columns; others have {num_columns}"))
            if utt_id in frames and int(frames[utt_id]) != rows:
                faults.append(data.utt2num_frames.fault(
                    utt_id, f"'{utt_id}' has {frames[utt_id]} frames here and {rows} in feats.scp"))
    return {"num_frames": num_frames} | ({"feature_dim": num_columns} if num_columns else {})


def _without_place(error: DataError, path: str) -> str:
    return error.message if error.path == path else str(error)


def _check_trials(data: DataDir, faults: list[DataError], warnings: list[str]) -> dict:
    from speakerkit.io.trials import read_trials

    try:
        trials = read_trials(data.trials_path)
    except DataError as error:
        faults += getattr(error, "faults", [error])
        return {}
    known = _utterances(data) or ()
    for kind, ids in (("enrolment", trials.enrol_ids), ("test", trials.test_ids)):
        strange = [utt_id for utt_id in ids if utt_id not in known]
        if strange:
            warnings.append(f"trials: {len(strange):,} of {len(ids):,} {kind} ids are no utterances here, "
                            f"the first '{strange[0]}'")
    counts = {"num_trials": len(trials.enrol_index)}
    if trials.is_target is not None:
        num_target = int(trials.is_target.sum())
        counts |= {"num_target": num_target, "num_nontarget": len(trials.is_target) - num_target}
    return counts
