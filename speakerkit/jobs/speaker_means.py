"""The mean embedding of each speaker, of a spk2utt and an archive of embeddings."""

import os
from pathlib import Path

import numpy as np

from speakerkit.errors import DataError, raise_all
from speakerkit.io import ark, tables
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.jobs.embedding_parts import scp_path
from speakerkit.jobs.utterances import Utterance


def read_speakers(spk2utt: str | os.PathLike, utterances: list[Utterance]) -> dict[str, list[str]]:
    """spk_id -> utt_ids.

    Raises:
        DataError: what the table's reader refuses, or an utterance that isn't among ``utterances``.
    """
    known = {u.utt_id for u in utterances}
    speakers = tables.read_spk2utt(spk2utt)
    raise_all(
        [
            DataError(spk2utt, f"'{utt_id}' of speaker '{spk_id}' is not among the utterances")
            for spk_id, utt_ids in speakers.items()
            for utt_id in utt_ids
            if utt_id not in known
        ]
    )
    return speakers


def speaker_outputs(emb_ark: str) -> list[Path]:
    """`spk_emb.ark` and `spk_emb.scp` beside `emb.ark`."""
    path = Path(emb_ark)
    speaker_ark = path.with_name(f"spk_{path.name}")
    return [speaker_ark, scp_path(speaker_ark)]


def write_speaker_means(emb_ark: str, speakers: dict[str, list[str]], bad: BadRecordings) -> None:
    """The plain mean of each speaker's embeddings; a speaker with none left is an error."""
    vectors = ark.read_vectors(emb_ark)
    outputs = speaker_outputs(emb_ark)
    with ark.ArkWriter(*outputs) as writer:
        for spk_id, utt_ids in speakers.items():
            rows = [vectors[utt_id] for utt_id in utt_ids if utt_id in vectors]
            if not rows:
                raise DataError(bad.list_path, f"no recording of speaker '{spk_id}' can be used")
            writer.write(spk_id, np.mean(rows, axis=0, dtype=np.float64).astype(np.float32))
