"""Features and embeddings of joined utterances are those of a file that holds their samples end to end."""

import kaldiio
import numpy as np
import pytest
import soundfile

from speakerkit.cli.extract_embeddings import main as extract_embeddings
from speakerkit.cli.make_fbank import main as make_fbank
from speakerkit.jobs.utterances import audio_fingerprint, read_utterances


@pytest.fixture
def folders(make_data):
    """(a directory that joins three recordings of six and leaves the others, one with the joined samples in a file)."""
    joined, written = make_data(6, "joined"), make_data(6, "written")
    paths = [joined / "wav" / f"{name}.wav" for name in ("s0-u1", "s1-u2", "s1-u3")]
    soundfile.write(joined / "wav" / "s1-u2.wav", soundfile.read(paths[1])[0][:1600], 16000)  # too short by itself
    samples = np.concatenate([soundfile.read(path, dtype="int16")[0] for path in paths])
    soundfile.write(written / "wav" / "all.wav", samples, 16000, subtype="PCM_16")
    (joined / "utt2utts").write_text("s0-u1-comb3 s0-u1 s1-u2 s1-u3\n")
    rows = (written / "wav.scp").read_text().splitlines(True)
    (written / "wav.scp").write_text(f"{rows[0]}s0-u1-comb3 {written}/wav/all.wav\n{rows[4]}{rows[5]}")
    for folder in (joined, written):
        (folder / "utt2spk").write_text("s0-u0 s0\ns0-u1-comb3 s0\ns2-u4 s2\ns2-u5 s2\n")
    return joined, written


def test_features_of_joined_utterances(folders, command, tmp_path):
    options = ("--nj", 1, "--speeds", "0.9,1.0")
    for folder in folders:
        ended = command(make_fbank, *options, "--output-dir", f"{folder}_fbank", folder)
        assert ended.code == 0, ended.err
    mine, theirs = (dict(kaldiio.load_scp(f"{folder}_fbank/feats.scp").items()) for folder in folders)
    assert list(mine) == list(theirs)
    assert "sp0.9-s0-u1-comb3" in mine
    for key, matrix in theirs.items():
        np.testing.assert_array_equal(mine[key], matrix)
    again = command(make_fbank, *options, "--output-dir", f"{folders[0]}_fbank", folders[0])
    assert again.code == 0 and "nothing to do" in again.err
    (folders[0] / "utt2utts").write_text("s0-u1-comb3 s0-u1 s1-u3 s1-u2\n")  # another order is another utterance
    changed = command(make_fbank, *options, "--output-dir", f"{folders[0]}_fbank", folders[0])
    assert changed.code == 2 and "utt2utts has changed since" in changed.err


def test_embeddings_of_joined_utterances(folders, command, small_model, tmp_path):
    options = ("--model", small_model, "--backend", "torch", "--precision", "float32", "--nj", 1)
    for folder in folders:
        extra = ("--utt2utts", folder / "utt2utts") if folder == folders[0] else ()
        ended = command(extract_embeddings, *options, *extra, folder / "wav.scp", folder / "emb.ark")
        assert ended.code == 0, ended.err
    mine, theirs = (dict(kaldiio.load_ark(str(folder / "emb.ark"))) for folder in folders)
    assert list(mine) == list(theirs) == ["s0-u0", "s0-u1-comb3", "s2-u4", "s2-u5"]
    for key, embedding in theirs.items():
        np.testing.assert_array_equal(mine[key], embedding)


def test_a_bad_part_spoils_its_utterance_alone(folders, command, small_model):
    folder = folders[0]
    (folder / "wav" / "s1-u3.wav").unlink()
    ended = command(extract_embeddings, "--model", small_model, "--backend", "torch", "--nj", 1,
                    "--utt2utts", folder / "utt2utts",
                    "--max-bad", 1, folder / "wav.scp", folder / "emb.ark")
    assert ended.code == 0, ended.err
    assert list(kaldiio.load_ark(str(folder / "emb.ark")))[0][0] == "s0-u0"
    row = (folder / "emb.ark.bad.tsv").read_text().splitlines()[-1].split("\t")
    assert row[:3] == ["s0-u1-comb3", f"{folder}/wav/s1-u3.wav", "missing"]


def test_a_changed_part_is_noticed(folders):
    def fingerprint():
        return audio_fingerprint(read_utterances(folders[0] / "wav.scp", utt2utts=folders[0] / "utt2utts"))

    before = fingerprint()
    assert fingerprint() == before
    soundfile.write(folders[0] / "wav" / "s1-u3.wav", np.full(9000, 0.1), 16000)
    assert fingerprint() != before


@pytest.mark.parametrize("text, message", [
    ("x s0-u0 s9-u9\n", "utt2utts:1: part 's9-u9' is no recording or segment"),
    ("s0-u0 s0-u0 s0-u1\n", "utt2utts:1: 's0-u0' is a recording or segment by itself"),
    ("x s0-u0 s0-u1\ny s0-u1\n", "utt2utts:2: 's0-u1' again; first on line 1"),
])
def test_faulty_tables_stop_before_any_work(folders, command, small_model, text, message):
    (folders[0] / "utt2utts").write_text(text)
    ended = command(extract_embeddings, "--model", small_model, "--backend", "torch",
                    "--utt2utts", folders[0] / "utt2utts", folders[0] / "wav.scp", folders[0] / "emb.ark")
    assert ended.code == 1
    assert message in ended.err
    assert not (folders[0] / "emb.ark.parts").exists()
