"""The synthesiser: deterministic, in range, and its parts do what their names say."""

import dataclasses

import numpy as np
import pytest
import soundfile

import synthesise_talkers as synth


def test_same_numbers_give_the_same_recording_whatever_else_is_made():
    first = synth.synthesise(seed=1, talker_number=3, recording=5)
    synth.synthesise(seed=1, talker_number=4, recording=0)
    assert np.array_equal(first, synth.synthesise(seed=1, talker_number=3, recording=5))


@pytest.mark.parametrize("other", [(2, 3, 5), (1, 4, 5), (1, 3, 6)])
def test_any_other_number_gives_another_recording(other):
    first, second = synth.synthesise(1, 3, 5), synth.synthesise(*other)
    assert not np.array_equal(first[:1000], second[:1000])


@pytest.mark.parametrize("talker_number", range(1, 9))
def test_recordings_are_audible_and_in_range(talker_number):
    samples = synth.synthesise(1, talker_number, 0)
    assert samples.dtype == np.float32
    assert 2.4 <= len(samples) / synth.SAMPLE_RATE <= 4.5
    assert np.all(np.isfinite(samples))
    assert np.max(np.abs(samples)) <= 0.99
    assert 0.01 < np.sqrt(np.mean(samples ** 2)) < 0.3
    assert np.mean(np.abs(samples) == 0.99) < 0.001  # hardly a sample is clipped


def test_recordings_of_a_session_share_the_room():
    keys = [(1, 7, 1_000_000 + recording // synth.RECORDINGS_A_SESSION) for recording in (0, 1, 2)]
    rooms = [synth.draw_session(synth.generator(*key)).room for key in keys]
    assert np.array_equal(rooms[0], rooms[1])
    assert not np.array_equal(rooms[1][:100], rooms[2][:100])


def test_frames_add_up_to_the_samples():
    samples = np.random.default_rng(0).standard_normal(20 * synth.HOP)
    rebuilt = synth.overlap_add(np.fft.irfft(np.fft.rfft(synth.frames_of(samples), synth.FFT)))
    # The first half window has one frame only, so it fades in.
    assert np.allclose(rebuilt[synth.HOP:len(samples)], samples[synth.HOP:], atol=1e-9)


def test_resonance_peaks_at_its_frequency_and_passes_0_hz():
    response = np.abs(synth.resonance(np.array([500.0, 3000.0]), 60.0))
    hz_a_bin = synth.SAMPLE_RATE / synth.FFT
    assert np.argmax(response, axis=1) * hz_a_bin == pytest.approx([500, 3000], abs=hz_a_bin)
    assert response[:, 0] == pytest.approx([1, 1], rel=1e-3)


def test_a_longer_vocal_tract_lowers_the_formants():
    session = synth.draw_session(synth.generator(0))
    talker = synth.draw_talker(synth.generator(1))
    tracks = np.tile([1.0, 500, 1500, 2500, 1, 0, 0, 1000, 1000, 0], (3, 1))

    def centroid(tract: float) -> float:
        power = np.abs(synth.tract_response(dataclasses.replace(talker, tract=tract), session, tracks)[1]) ** 2
        return float(np.sum(power * np.arange(len(power))) / np.sum(power))

    assert centroid(0.9) < centroid(1.0) < centroid(1.2)


def test_pitch_follows_the_talker():
    session = dataclasses.replace(synth.draw_session(synth.generator(0)), pitch=0.0)
    talker = dataclasses.replace(synth.draw_talker(synth.generator(1)), pitch=200.0, pitch_range=1.0)
    pitch = synth.draw_pitch(talker, session, 400, synth.generator(2))
    assert 180 < np.median(pitch) < 222  # two semitones either way


def test_command_writes_a_folder_a_talker(tmp_path, capsys):
    assert synth.main(["--talkers", "2", "--recordings", "3", str(tmp_path)]) == 0
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.flac"))
    assert written == [f"talker000{talker}/{name}.flac" for talker in (1, 2) for name in ("01-001", "01-002", "02-001")]
    samples, rate = soundfile.read(tmp_path / written[0], dtype="float32")
    assert rate == synth.SAMPLE_RATE
    assert np.allclose(samples, synth.synthesise(1, 1, 0), atol=1 / 32768)
    assert "6 recordings of 2 talkers" in capsys.readouterr().err


def test_command_refuses_no_talkers(tmp_path, capsys):
    assert synth.main(["--talkers", "0", str(tmp_path)]) == 2
    assert "'0' is not a number from 1 to 9999" in capsys.readouterr().err
