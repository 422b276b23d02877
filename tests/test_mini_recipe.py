"""recipes/mini/run.sh from recordings to the table, as a user runs it."""

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)  # seconds; about 60 on two idle cores

TRAINING_SPEAKERS, EVALUATION_SPEAKERS, RECORDINGS = 14, 8, 8
CHANCE_PERCENT = 50.0
BEATS_CHANCE_BY = 20.0  # percent points; such a network has an EER near 10 %


@pytest.fixture
def some_speech(tmp_path: Path, speech_files: dict[str, list[Path]]) -> Path:
    """A part of the speech, with its held-out speakers named."""
    folder = tmp_path / "speech"
    speakers = list(speech_files)[:TRAINING_SPEAKERS + EVALUATION_SPEAKERS]
    for speaker in speakers:
        (folder / speaker).mkdir(parents=True)
        for path in speech_files[speaker][:RECORDINGS]:
            os.symlink(path, folder / speaker / path.name)
    (folder / "evaluation_speakers").write_text("".join(f"{speaker}\n" for speaker in speakers[TRAINING_SPEAKERS:]))
    return folder


def test_from_recordings_to_the_table_and_a_second_run_does_nothing(tmp_path, some_speech, tiny_config, run_recipe):
    options = ["--speech-dir", some_speech, "--data-dir", tmp_path / "data", "--exp-dir", tmp_path / "exp",
               "--config", tiny_config, "--speeds", "1.0", "--device", "cpu", "--precision", "float32", "--nj", "1"]
    first = run_recipe("mini", *options)
    assert first.returncode == 0, first.stderr
    row = next(line for line in first.stdout.splitlines() if line.startswith("| mini"))
    eer_percent = float(row.split("|")[2])
    assert eer_percent < CHANCE_PERCENT - BEATS_CHANCE_BY
    assert (tmp_path / "exp" / "eval" / "det.png").read_bytes().startswith(b"\x89PNG")
    assert "decision" in first.stdout  # of verify-speakers with the bundled model
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    second = run_recipe("mini", *options)
    assert second.returncode == 0, second.stderr
    assert second.stderr.count("up to date: ") == 7
    assert row in second.stdout
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    # Another number of steps: training says what differs and stops; --overwrite replaces it, and all that follows.
    tiny_config.write_text(tiny_config.read_text().replace("num_steps = 120", "num_steps = 4"))
    refused = run_recipe("mini", *options)
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr
    assert "== stage 4" not in refused.stderr
    replaced = run_recipe("mini", *options, "--overwrite", "--stop-stage", 5)
    assert replaced.returncode == 0, replaced.stderr
    assert replaced.stderr.count("up to date: ") == 2  # data and features, which the first attempt looked at


def test_artificial_talkers_are_the_default(tmp_path, run_recipe):
    folders = [option for name in ("corpus", "data", "exp") for option in (f"--{name}-dir", tmp_path / name)]
    result = run_recipe("mini", *folders, "--dry-run")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("would run: ") == 8
    assert "--speech-dir" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_unknown_features_are_refused(tmp_path, run_recipe):
    result = run_recipe("mini", "--features", "none", "--exp-dir", tmp_path / "exp")
    assert result.returncode == 2
    assert "run.sh: --features is 'none'; want fly, compressed or stored" in result.stderr
