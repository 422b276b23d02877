"""check-audio as a user calls it: a table, warnings for what ruins embeddings, refusals."""

import json

import numpy as np
import pytest
import soundfile

from speakerkit.cli import check_audio
from speakerkit.features import augment
from speakerkit.features.quality_warnings import WARNINGS
from speakerkit.features.resample import resample
from speakerkit.jobs.audio_quality import COLUMNS

RATE = 16000


@pytest.fixture(scope="module")
def speech(speech_files):
    """Two seconds or more of one speaker."""
    paths = next(iter(speech_files.values()))
    return np.concatenate([soundfile.read(path, dtype="float32")[0] for path in paths[:2]])


@pytest.fixture
def write(tmp_path):
    def save(name, samples, rate=RATE, **options):
        soundfile.write(tmp_path / name, samples, rate, subtype="PCM_16", **options)
        return tmp_path / name

    return save


@pytest.fixture
def run(tmp_path, capsys):
    """``run(*arguments)``: exit code, rows as dictionaries of text, standard error, the --json object."""

    def call(*arguments):
        code = check_audio.main([*map(str, arguments), "--nj", "1", "--json", str(tmp_path / "j.json")])
        captured = capsys.readouterr()
        lines = [line.split("\t") for line in captured.out.splitlines()]
        rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
        return code, rows, captured.err, json.loads((tmp_path / "j.json").read_text())

    return call


def test_a_good_recording(run, write, speech):
    path = write("good.wav", speech)
    code, (row,), err, report = run(path)
    assert (code, err) == (0, "")
    assert tuple(row) == COLUMNS
    assert (row["id"], row["channel"], row["sample_rate"], row["warnings"]) == (str(path), "-", "16000", "-")
    assert float(row["seconds"]) == pytest.approx(len(speech) / RATE, abs=1e-3)
    assert 1.0 < float(row["speech_seconds"]) < float(row["seconds"])
    assert float(row["snr_db"]) > 15 and float(row["bandwidth_hz"]) > 5500
    (found,) = report["recordings"]
    assert found["snr_db"] == pytest.approx(float(row["snr_db"]), abs=0.06)
    assert (report["num_recordings"], report["num_bad"], report["num_warned"], report["status"]) == (1, 0, 0, "ok")


SPOILED = {
    "noisy": lambda x: x + augment.coloured_noise(len(x), 1, np.random.default_rng(1)) * np.float32(
        augment.rms(x) * 0.4),
    "narrow-band": lambda x: resample(resample(x, RATE, 8000), 8000, RATE),
    "clipped": lambda x: np.clip(x, -np.quantile(np.abs(x), 0.97), np.quantile(np.abs(x), 0.97)),
    "quiet": lambda x: x / np.abs(x).max() * 0.003,
    "dc-offset": lambda x: 0.5 * x + np.float32(0.1),
    "digital-silence": lambda x: np.pad(x, 2 * len(x)),
    "pauses": lambda x: np.concatenate([x, np.float32(1e-3) * augment.coloured_noise(
        6 * len(x), 0, np.random.default_rng(1))]),
    "no-speech": lambda x: 0.1 * augment.coloured_noise(len(x), 0, np.random.default_rng(1)),
}


@pytest.mark.parametrize("code", SPOILED)
def test_each_warning(run, write, speech, code):
    exit_code, (row,), err, report = run(write("x.wav", SPOILED[code](speech)))
    assert exit_code == 0
    assert code in row["warnings"].split(",")
    assert f"check-audio: warning: {code}: {WARNINGS[code][0]} (1 of 1)" in err
    assert report[f"warned_{code.replace('-', '_')}"] == report["num_warned"] == 1


def test_little_speech(run, write, speech):
    loudest = int(np.argmax(np.convolve(speech ** 2, np.ones(RATE // 2), "valid")))
    (row,) = run(write("x.wav", np.pad(speech[loudest:loudest + RATE // 2], 1000)))[1]
    assert "little-speech" in row["warnings"].split(",")


def test_every_channel_has_its_row(run, write, speech):
    path = write("two.wav", np.stack([speech, 0.5 * speech], 1))
    code, rows, _, _ = run(path)
    assert (code, [row["channel"] for row in rows]) == (0, ["0", "1"])
    assert float(rows[0]["level_dbfs"]) - float(rows[1]["level_dbfs"]) == pytest.approx(6.0, abs=0.15)
    for option in (1, "mix"):
        assert [row["channel"] for row in run(path, "--channel", option)[1]] == [str(option)]
    equal, opposite = np.stack([speech] * 2, 1), np.stack([speech, -speech], 1) * 0.9
    assert run(write("e.wav", equal))[1][1]["warnings"] == "equal-channels"
    assert run(write("o.wav", opposite))[1][1]["warnings"] == "opposite-channels"


def test_a_list_and_workers(run, write, speech, tmp_path, capsys):
    write("a.flac", speech)
    write("b.wav", speech[:RATE * 2])
    (tmp_path / "wav.scp").write_text("first a.flac\nsecond b.wav\n")
    code, rows, _, _ = run(tmp_path / "wav.scp")
    assert (code, [row["id"] for row in rows]) == (0, ["first", "second"])
    assert check_audio.main([str(tmp_path / "wav.scp"), "--nj", "2", "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["\t".join(row.values()) for row in rows]


def test_bad_recordings_are_rows_and_refused(run, write, speech, tmp_path):
    good = write("good.wav", speech)
    silent, short = write("silent.wav", np.zeros(RATE)), write("short.wav", speech[:800])
    cut = tmp_path / "cut.wav"
    cut.write_bytes(good.read_bytes()[:20000])
    missing = tmp_path / "no.wav"
    code, rows, err, report = run(good, silent, short, cut, missing)
    assert code == 1
    assert [row["warnings"] for row in rows] == ["-", "silent", "too-short", "truncated", "missing"]
    assert [row["snr_db"] for row in rows[1:]] == ["-"] * 4
    for path, reason in ((silent, "silent"), (short, "too-short"), (cut, "truncated"), (missing, "missing")):
        assert f"check-audio: {path}: {reason}" in err
    assert (report["num_bad"], report["bad_too_short"], report["exit_code"]) == (4, 1, 1)
    assert run(good, silent, "--max-bad", 1)[0] == 0
    assert run(good, silent, short, "--max-bad", 1)[0] == 1
    assert run(cut, "--accept-truncated")[0] == 0


@pytest.mark.parametrize("arguments, code, message", [
    (["a.wav", "wav.scp"], 2, "2 inputs with a list among them; want recordings, or one list (.scp)"),
    (["-", "-"], 2, "standard input (-) can be one recording only"),
    (["none.scp"], 1, "none.scp: no such file"),
    (["empty.scp"], 1, "empty.scp: is empty"),
    (["pipe.scp"], 1, "pipe.scp:1: 'touch evil |' is a shell pipe; it runs only with --allow-pipes"),
])
def test_refusals(run, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.scp").touch()
    (tmp_path / "pipe.scp").write_text("a touch evil |\n")
    found, rows, err, _ = run(*arguments)
    assert (found, rows) == (code, [])
    assert f"check-audio: {message}" in err
    assert not (tmp_path / "evil").exists()


def test_with_vad(run, write, speech, monkeypatch):
    padded = write("x.wav", np.pad(speech, RATE) + 1e-4 * np.random.default_rng(1).standard_normal(
        len(speech) + 2 * RATE).astype(np.float32))
    noise = write("noise.wav", 0.1 * np.random.default_rng(1).standard_normal(2 * RATE))
    code, rows, err, _ = run(padded, noise, "--vad")
    assert code == 1 and f"{noise}: no-speech: nobody speaks in 2.00 s" in err
    assert 1.0 < float(rows[0]["speech_seconds"]) < len(speech) / RATE
    assert rows[1]["warnings"] == "no-speech"
    assert run(padded)[1][0]["speech_seconds"] != rows[0]["speech_seconds"]  # the detector is forgotten again
    monkeypatch.setattr("speakerkit.inference.speech_detector.PACKAGE", "no-such-package")
    code, rows, err, _ = run(padded, "--vad")
    assert (code, rows) == (2, [])
    assert "--vad needs no-such-package, which isn't installed: pip install 'speakerkit[vad]'" in err


def test_installed_command_reads_standard_input(run_command, write, speech):
    data = write("x.wav", speech).read_bytes()
    ended = run_command("check-audio", "-", "--quiet", input=data, text=False, encoding=None)
    header, row = ended.stdout.decode().splitlines()
    assert ended.returncode == 0
    assert header.split("\t") == list(COLUMNS) and row.startswith("-\t-\t")


def test_help_comes_without_heavy_libraries(run_command):
    ended = run_command("check-audio", "--help")
    assert ended.returncode == 0
    for name in (*COLUMNS, *WARNINGS):
        assert name in ended.stdout
