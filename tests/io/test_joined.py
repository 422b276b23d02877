"""utt2utts: several recordings taken as one utterance, as if somebody had written them end to end."""

from collections import Counter

import numpy as np
import pytest
import soundfile

from speakerkit.errors import DataError, RecordingError
from speakerkit.io import audio, data_dir, data_dir_checks, tables

RATE = 16000


def write_noise(path, seconds, seed, rate=RATE, level=0.3):
    samples = (level * np.random.default_rng(seed).uniform(-1, 1, int(seconds * rate))).astype(np.float32)
    soundfile.write(path, samples, rate, subtype="FLOAT" if path.suffix == ".wav" else "PCM_16")
    return path


@pytest.fixture
def folder(tmp_path):
    """Speaker a has two recordings and one joined of three, the first too short and the second silent; b has one."""
    lengths = {"a-1": 0.5, "a-2": 0.1, "a-3": 0.4, "a-4": 0.7, "a-5": 0.6, "b-1": 0.5}
    wav_scp = {key: str(write_noise(tmp_path / f"{key}.wav", seconds, number, level=0.0 if key == "a-3" else 0.3))
               for number, (key, seconds) in enumerate(lengths.items())}
    data = tmp_path / "data"
    data_dir.write_data_dir(data, wav_scp=wav_scp, utt2utts={"a-2-comb3": ["a-2", "a-3", "a-4"]},
                            utt2spk={"a-1": "a", "a-2-comb3": "a", "a-5": "a", "b-1": "b"})
    return data


def faults(folder, **kwargs):
    with pytest.raises(DataError) as caught:
        data_dir_checks.validate_data_dir(folder, **kwargs)
    return str(caught.value).replace(f"{folder}/", "").replace(f"{folder.parent}/", "").splitlines()


# --- samples


def test_samples_are_those_of_the_parts_end_to_end(tmp_path):
    paths = [write_noise(tmp_path / name, seconds, seed)
             for seed, (name, seconds) in enumerate({"1.wav": 0.2, "2.flac": 0.05, "3.wav": 0.31}.items())]
    places = [(paths[0], None, None), (paths[1], None, None), (paths[2], 0.01, 0.3)]
    samples, rate = audio.load_joined(places)
    parts = [soundfile.read(path, dtype="float32")[0] for path in paths]
    parts[2] = parts[2][160:4800]
    np.testing.assert_array_equal(samples, np.concatenate(parts))
    assert rate == RATE


@pytest.mark.parametrize("second, reason, detail", [
    ({"rate": 8000}, "bad-sample-rate", "8000 Hz; is joined to .*1.wav of 16000 Hz; want one rate"),
    ({"level": 0.0, "seconds": 0.3, "first_level": 0.0}, "silent", "silent"),
    ({"seconds": 0.1}, "too-short", "0.200 s; wanted at least 0.3 s"),
])
def test_what_cant_be_joined(tmp_path, second, reason, detail):
    first_level = second.pop("first_level", 0.3)
    paths = [write_noise(tmp_path / "1.wav", 0.1, 0, level=first_level),
             write_noise(tmp_path / "2.wav", **({"seconds": 0.5, "seed": 1} | second))]
    with pytest.raises(RecordingError, match=detail) as caught:
        audio.load_joined([(path, None, None) for path in paths])
    assert caught.value.reason == reason


def test_a_missing_part_is_named(tmp_path):
    path = write_noise(tmp_path / "1.wav", 0.5, 0)
    with pytest.raises(RecordingError) as caught:
        audio.load_joined([(path, None, None), (tmp_path / "gone.wav", None, None)])
    assert (caught.value.reason, caught.value.path) == ("missing", str(tmp_path / "gone.wav"))


def test_notes_count_utterances_and_not_parts(tmp_path):
    paths = [write_noise(tmp_path / f"{number}.wav", 0.3, number) for number in range(3)]
    notes = Counter()
    audio.load_joined([(path, None, None) for path in paths], notes=notes)
    assert notes == {"short": 1}


# --- the table


def test_the_table_is_read_and_written(folder):
    assert data_dir.read_data_dir(folder).utt2utts == {"a-2-comb3": ["a-2", "a-3", "a-4"]}
    (folder / "utt2utts").write_text("a a\nb-comb2 b c\n")
    assert tables.read_utt2utts(folder / "utt2utts") == {"a": ["a"], "b-comb2": ["b", "c"]}


@pytest.mark.parametrize("text, message", [
    ("x a b\ny b c\n", "utt2utts:2: 'b' again; first on line 1"),
    ("x a a\n", "utt2utts:1: 'a' again; first on line 1"),
    ("x\n", "utt2utts:1: 'x' has no utterance"),
    ("x a\nx b\n", "utt2utts:2: 'x' again; first on line 1"),
])
def test_faulty_tables(tmp_path, text, message):
    (tmp_path / "utt2utts").write_text(text)
    with pytest.raises(DataError) as caught:
        tables.read_utt2utts(tmp_path / "utt2utts")
    assert str(caught.value) == f"{tmp_path}/{message}"


def test_joints_of_other_utterances_go(folder):
    wav_scp = data_dir.read_data_dir(folder).wav_scp.values
    data_dir.write_data_dir(folder, wav_scp=wav_scp, utt2spk={key: key[0] for key in wav_scp})
    assert not (folder / "utt2utts").exists()


# --- the directory


@pytest.mark.parametrize("read_audio", [False, True])
def test_a_joined_directory_is_whole(folder, read_audio):
    counts, warnings = data_dir_checks.validate_data_dir(folder, read_audio)
    assert counts == {"num_recordings": 6, "num_utterances": 4, "num_speakers": 2, "audio_seconds": 2.8,
                      "sample_rate": 16000}
    assert not [warning for warning in warnings if not warning.startswith(("utt2spk: 1 of 2 speakers", "wav.scp: "))]


@pytest.mark.parametrize("name, old, new, told", [
    ("utt2utts", "a-3", "a-9", ["utt2utts:1: part 'a-9' is not in wav.scp",
                                "wav.scp:3: 1 of 6 ids is not in utt2spk or utt2utts, which has 7: 'a-3'"]),
    ("utt2spk", "a-2-comb3 a\n", "", ["utt2utts:1: 1 of 1 ids is not in utt2spk, which has 3: 'a-2-comb3'",
                                      "spk2utt:1: 'a-2-comb3' is not in utt2spk"]),
    ("utt2spk", "a-5 a\n", "a-4 a\na-5 a\n", ["utt2spk:3: 1 of 5 ids is not in wav.scp and utt2utts, which has 4: "
                                             "'a-4'",
                                             "utt2spk:3: 1 of 5 ids is not in spk2utt, which has 4: 'a-4'"]),
])
def test_tables_that_dont_fit_together(folder, name, old, new, told):
    path = folder / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert faults(folder) == told


def test_a_recordings_own_id_for_several(folder):
    (folder / "utt2utts").write_text("a-2 a-2 a-3 a-4\n")
    assert faults(folder)[0] == "utt2utts:1: 'a-2' is joined here and is in wav.scp too"


def test_bad_parts_are_told_at_their_line(folder, tmp_path):
    write_noise(tmp_path / "a-4.wav", 0.7, 0, rate=8000)
    assert faults(folder) == ["wav.scp:4: a-4.wav: bad-sample-rate: 8000 Hz; is joined to a-2.wav of 16000 Hz; "
                              "want one rate"]
    (tmp_path / "a-4.wav").unlink()
    assert faults(folder) == ["wav.scp:4: a-4.wav: missing: no such file"]
    write_noise(tmp_path / "a-4.wav", 0.2, 0, level=0.0)
    write_noise(tmp_path / "a-2.wav", 0.1, 0, level=0.0)
    assert faults(folder, read_audio=True)[0].startswith("wav.scp:2: a-2.wav: silent")
    for key in ("a-2", "a-3", "a-4"):
        write_noise(tmp_path / f"{key}.wav", 0.05, 0)
    assert faults(folder) == ["wav.scp:2: a-2.wav: too-short: 0.150 s of 3 parts; wanted at least 0.3 s"]


def test_segments_can_be_joined(folder):
    (folder / "segments").write_text("a-1 a-1 0 0.4\na-2 a-1 0.4 0.5\na-3 a-3 0 -1\na-4 a-4 0.1 0.2\na-5 a-5 0 -1\n"
                                     "b-1 b-1 0 -1\n")
    (folder / "wav.scp").write_text("".join(line for line in (folder / "wav.scp").read_text().splitlines(True)
                                            if not line.startswith("a-2")))
    assert data_dir_checks.validate_data_dir(folder)[0]["num_utterances"] == 4
    (folder / "utt2utts").write_text("a-2-comb3 a-2 a-3 a-9\n")
    assert faults(folder)[0] == "utt2utts:1: part 'a-9' is not in segments"
