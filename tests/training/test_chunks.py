import dataclasses

import numpy as np
import pytest
import soundfile
import torch

from speakerkit.config import AugmentationConfig, FbankConfig, SystemConfig
from speakerkit.errors import ConfigError, DataError
from speakerkit.features.fbank import compute_fbank
from speakerkit.features.resample import chunk_span, speed_chunk
from speakerkit.io.audio import AudioOptions
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.training import recordings, setup
from speakerkit.training.chunks import TrainingBatches, WaveChunks, person_of, repeated, voice_id
from speakerkit.training.recordings import Held, Recording, hold
from speakerkit.training.sampling import BatchSampler

FBANK = FbankConfig(num_mel_bins=24)
PLAIN = AugmentationConfig(speeds=(1.0,))


def write_ramp(path, num_samples=16000, rate=16000):
    """A recording in which every sample differs: its place can be read off."""
    soundfile.write(path, np.linspace(-0.9, 0.9, num_samples), rate, subtype="FLOAT")
    return Recording(str(path), rate, 0, num_samples)


def wave_chunks(recordings, spk_ids=("a", "b"), augmentation=PLAIN, chunk_frames=30):
    utt_ids = [f"{spk_id}-{n}" for n, spk_id in enumerate(spk_ids)]
    return WaveChunks(utt_ids, spk_ids, recordings, FBANK, augmentation, chunk_frames)


def test_a_chunk_is_a_stretch_of_its_recording(tmp_path):
    recording = write_ramp(tmp_path / "a.wav")
    chunks = wave_chunks([recording, recording])
    ramp = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    chunk = chunks._take(recording, 1.0, 5000, np.random.default_rng(1))
    start = int(np.searchsorted(ramp, chunk[0]))
    np.testing.assert_array_equal(chunk, ramp[start : start + 5000])


def test_every_place_is_reached(tmp_path):
    recording = write_ramp(tmp_path / "a.wav", num_samples=2003)
    chunks = wave_chunks([recording, recording])
    firsts = {chunks._take(recording, 1.0, 2000, np.random.default_rng(seed))[0] for seed in range(100)}
    assert len(firsts) == 4  # starts 0, 1, 2 and 3


def write_channels(path, num_channels, num_samples=16000):
    """A recording whose channel is read off its samples: 0.1 all over in the first, 0.2 in the second, ..."""
    soundfile.write(path, np.tile(0.1 * np.arange(1, num_channels + 1), (num_samples, 1)), 16000, subtype="FLOAT")
    return Recording(str(path), 16000, 0, num_samples, channel=0, num_drawn=num_channels)


@pytest.mark.parametrize("num_samples", [16000, 3000], ids=["long", "shorter than a chunk"])
def test_a_random_channel_is_drawn_by_the_chunks_generator(tmp_path, num_samples):
    recording = write_channels(tmp_path / "far.wav", 8, num_samples)
    take = wave_chunks([recording, recording])._take
    values = [take(recording, 1.0, 5000, np.random.default_rng(seed)) for seed in range(100)]
    assert all(np.ptp(chunk) == 0 for chunk in values)  # one channel a chunk
    assert {round(10 * float(chunk[0])) for chunk in values} == set(range(1, 9))
    np.testing.assert_array_equal(take(recording, 1.0, 5000, np.random.default_rng(7)), values[7])


def test_where_there_is_one_channel_nothing_is_drawn(tmp_path):
    recording = write_ramp(tmp_path / "a.wav")
    drawn = dataclasses.replace(recording, channel=0, num_drawn=1)
    take = wave_chunks([recording, recording])._take
    np.testing.assert_array_equal(take(drawn, 1.0, 5000, np.random.default_rng(1)),
                                  take(recording, 1.0, 5000, np.random.default_rng(1)))


def test_only_recordings_with_several_channels_have_one_drawn(tmp_path):
    write_channels(tmp_path / "far.wav", 8)
    write_ramp(tmp_path / "near.wav")
    (tmp_path / "wav.scp").write_text(f"a-far {tmp_path}/far.wav\nb-near {tmp_path}/near.wav\n")
    (tmp_path / "utt2spk").write_text("a-far a\nb-near b\n")
    system = SystemConfig()
    chunks = setup.make_chunks(tmp_path, system, AudioOptions(channel=0), BadRecordings("x"), False, True)
    assert [(r.channel, r.num_drawn) for r in chunks.recordings] == [(0, 8), (0, 1)]
    chunks = setup.make_chunks(tmp_path, system, AudioOptions(channel=0), BadRecordings("x"), False)
    assert [(r.channel, r.num_drawn) for r in chunks.recordings] == [(0, 1), (0, 1)]


def test_stored_features_have_no_channel_to_draw(tmp_path):
    (tmp_path / "feats.scp").write_text("a-1 a.ark:4\n")
    (tmp_path / "utt2spk").write_text("a-1 a\n")
    with pytest.raises(ConfigError, match="has features already; a random channel needs the recordings themselves"):
        setup.make_chunks(tmp_path, SystemConfig(), AudioOptions(channel=0), BadRecordings("x"), False, True)


def test_what_is_shorter_is_repeated():
    rows = np.arange(5)
    taken = repeated(rows, 12, np.random.default_rng(3))
    assert len(taken) == 12
    np.testing.assert_array_equal(np.diff(taken) % 5, 1)


def test_features_are_those_of_the_samples(tmp_path):
    recording = write_ramp(tmp_path / "a.wav")
    chunks = wave_chunks([recording, recording])
    generator, twin = np.random.default_rng(5), np.random.default_rng(5)
    samples = chunks._take(recording, 1.0, chunks.num_samples, twin)
    features = chunks.features(0, generator)
    assert features.shape == (30, 24)
    np.testing.assert_array_equal(features, compute_fbank(torch.from_numpy(samples.copy()), FBANK).numpy())


@pytest.mark.parametrize("mode, speakers, labels", [
    ("new", ["a", "b", "sp0.9-a", "sp0.9-b"], [0, 1, 2, 3]),
    ("keep", ["a", "b"], [0, 1, 0, 1]),
])
def test_speeds_make_new_speakers_or_keep_them(tmp_path, mode, speakers, labels):
    recording = write_ramp(tmp_path / "a.wav")
    chunks = wave_chunks([recording] * 2, augmentation=AugmentationConfig(speeds=(1.0, 0.9), speed_speakers=mode))
    assert chunks.speakers == speakers and list(chunks.labels) == labels


def test_slow_speech_is_lower_and_a_recording_of_another_rate_is_not(tmp_path):
    def tone(path, rate, hz):
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * hz * np.arange(2 * rate) / rate), rate)
        return Recording(str(path), rate, 0, 2 * rate)

    def peak_hz(samples):
        return np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * 16000 / len(samples)

    wide, narrow = tone(tmp_path / "a.wav", 16000, 1000), tone(tmp_path / "b.wav", 8000, 1000)
    chunks = wave_chunks([wide, narrow])
    take = chunks._take
    assert peak_hz(take(wide, 0.9, 8000, np.random.default_rng(1))) == pytest.approx(900, abs=2)
    assert peak_hz(take(narrow, 1.0, 8000, np.random.default_rng(1))) == pytest.approx(1000, abs=2)
    assert peak_hz(take(narrow, 1.1, 8000, np.random.default_rng(1))) == pytest.approx(1100, abs=2)


@pytest.mark.parametrize("dither", [0.0, 1.0])
def test_features_of_a_batch_are_those_of_its_chunks(tmp_path, dither):
    recording = write_ramp(tmp_path / "a.wav")
    chunks = wave_chunks([recording] * 2, augmentation=AugmentationConfig(speeds=(1.0, 0.9), vtln_warps=(1.0, 0.9)))
    chunks.fbank = dataclasses.replace(FBANK, dither=dither)
    items = [0, 1, 1, 0, 0, 1, 5, 6, 7, 7, 2]
    drawn = [chunks.chunk(item, np.random.default_rng(n)) for n, item in enumerate(items)]
    alone = [chunks.features(item, np.random.default_rng(n)) for n, item in enumerate(items)]
    np.testing.assert_allclose(chunks.fbanks(drawn), np.stack(alone), atol=1e-5)  # the same bytes, here


def test_speeds_of_a_batch_are_those_of_soxr(tmp_path):
    """Chunks of one batch at four ratios of speeds and rates; one of them, 1.0, is read as it is."""
    noise = 0.1 * np.random.default_rng(1).standard_normal(40000)
    for rate in (8000, 16000):
        soundfile.write(tmp_path / f"{rate}.wav", noise, rate, subtype="FLOAT")
    recordings = [Recording(str(tmp_path / f"{rate}.wav"), rate, 0, len(noise)) for rate in (8000, 16000)]
    chunks = wave_chunks(recordings, augmentation=AugmentationConfig(speeds=(1.0, 0.9)))
    items = [0, 1, 2, 3, 3, 2, 1, 3]
    drawn = [chunks.chunk(item, np.random.default_rng(n)) for n, item in enumerate(items)]
    rows = chunks.samples(drawn)
    for n, (item, row) in enumerate(zip(items, rows, strict=True)):
        recording, generator = recordings[item % 2], np.random.default_rng(n)
        speed = (1.0, 0.9)[item // 2] * recording.sample_rate / 16000
        room = len(noise) - int(np.ceil(len(row) * speed))
        start = int(generator.integers(room + 1))
        first, count = chunk_span(len(row), speed, start, len(noise))
        alone = speed_chunk(noise[first : first + count].astype(np.float32), speed, len(row), start - first)
        assert np.abs(row[: len(alone)] - alone).max() < 1e-6 and len(alone) >= len(row) - 1


def test_noises_in_memory_are_those_of_their_files(tmp_path, monkeypatch):
    generator = np.random.default_rng(1)
    values = generator.integers(-32768, 32768, 4000).astype(np.int16)
    values[:2] = -32768, 32767
    soundfile.write(tmp_path / "a.wav", values, 16000, subtype="PCM_16")
    exact = Recording(str(tmp_path / "a.wav"), 16000, 0, 4000)
    other = write_ramp(tmp_path / "b.wav", 500)  # 16 bits can't hold it
    held = hold([exact, other])
    assert isinstance(held[0], Held) and held[1] is other
    np.testing.assert_array_equal(held[0].read(17, 300), exact.read(17, 300))
    np.testing.assert_array_equal(held[0].read(0, 2), [-1.0, 32767 / 32768])
    monkeypatch.setattr(recordings, "MOST_HELD_BYTES", 8000)
    assert hold([exact, other]) == [exact, other]


def test_a_bad_recording_is_replaced_and_reported(tmp_path):
    good = write_ramp(tmp_path / "a.wav")
    chunks = wave_chunks([good, Recording(str(tmp_path / "gone.wav"), 16000, 0, 16000)])
    sampler = BatchSampler(chunks.labels, 4, "uniform", seed=1)
    features, labels, bad = TrainingBatches(chunks, sampler, mean_norm=True)[0]
    assert features.shape == (4, 30, 24) and set(labels.tolist()) == {0}
    assert {(utt_id, reason) for utt_id, _, reason, _ in bad} == {("b-1", "missing")}
    torch.testing.assert_close(features.mean(dim=1), torch.zeros(4, 24), atol=1e-4, rtol=0)


def test_nothing_readable_ends(tmp_path):
    gone = Recording(str(tmp_path / "gone.wav"), 16000, 0, 16000)
    chunks = wave_chunks([gone, gone])
    batches = TrainingBatches(chunks, BatchSampler(chunks.labels, 2, "uniform", seed=1), mean_norm=True)
    with pytest.raises(DataError, match="20 recordings drawn one after another can't be read"):
        batches.batch(0)
    assert isinstance(batches[0], DataError)  # as it comes out of a worker process


def make_chunks(folder, system):
    """The chunks, and the recordings that were left out."""
    bad = BadRecordings(str(folder / "exp"))
    return setup.make_chunks(folder, system, AudioOptions(), bad, False), bad


def test_training_directory_of_recordings(train_dir, make_system):
    chunks, bad = make_chunks(train_dir, make_system())
    assert len(chunks.utt_ids) == 16 and not bad.rows
    assert len(chunks.speakers) == 8  # 4 at each of 2 speeds
    assert np.isfinite(chunks.features(20, np.random.default_rng(1))).all()


def test_bad_headers_are_found_before_training(train_dir, make_system, tmp_path):
    lines = (train_dir / "wav.scp").read_text().splitlines()
    utt_id = lines[3].split()[0]
    (train_dir / "wav.scp").write_text("\n".join([*lines[:3], f"{utt_id} {tmp_path}/gone.flac", *lines[4:]]) + "\n")
    chunks, bad = make_chunks(train_dir, make_system())
    assert len(chunks.utt_ids) == 15
    assert {name: row[1] for name, row in bad.rows.items()} == {utt_id: "missing"}


def test_one_speaker_is_refused(train_dir, make_system):
    lines = (train_dir / "utt2spk").read_text().splitlines()
    (train_dir / "utt2spk").write_text("".join(f"{line.split()[0]} one\n" for line in lines))
    system = make_system(AugmentationConfig(speeds=(1.0,)))
    with pytest.raises(DataError, match="has 1 speaker; training needs two or more"):
        make_chunks(train_dir, system)


def test_an_utterance_without_recording_is_refused_with_its_line(train_dir, make_system):
    with open(train_dir / "utt2spk", "a") as stream:
        stream.write("zz-1 zz\n")
    with pytest.raises(DataError, match=r"utt2spk:17: 'zz-1' has no recording in"):
        make_chunks(train_dir, make_system())


def test_a_pipe_is_refused(train_dir, make_system):
    lines = (train_dir / "wav.scp").read_text().splitlines()
    (train_dir / "wav.scp").write_text("\n".join([lines[0].split()[0] + " cat x.wav |", *lines[1:]]) + "\n")
    with pytest.raises(DataError, match=r"wav.scp:1: .* is a pipe: training reads chunks"):
        make_chunks(train_dir, make_system())


def test_every_speed_with_every_warp_is_a_speaker(tmp_path):
    recording = write_ramp(tmp_path / "a.wav")
    voices = AugmentationConfig(speeds=(0.9, 1.0), vtln_warps=(1.0, 1.1))
    chunks = wave_chunks([recording, recording], augmentation=voices)
    assert chunks.speakers == ["a", "b", "sp0.9-a", "sp0.9-b", "vtln1.1-a", "vtln1.1-b", "vtln1.1-sp0.9-a",
                               "vtln1.1-sp0.9-b"]
    assert len(chunks.labels) == 8 and {person_of(s) for s in chunks.speakers} == {"a", "b"}
    kept = wave_chunks([recording, recording], augmentation=dataclasses.replace(voices, speed_speakers="keep"))
    assert kept.speakers == ["a", "b"] and len(kept.labels) == 8


def test_an_items_voice_is_in_its_features(tmp_path):
    recording = Recording(str(tmp_path / "a.wav"), 16000, 0, 5200)
    generator = np.random.default_rng(1)
    soundfile.write(recording.path, generator.normal(0, 0.1, 5200), 16000, subtype="FLOAT")
    chunks = wave_chunks([recording, recording], augmentation=AugmentationConfig(speeds=(1.0,), vtln_warps=(1.0, 1.2)))
    samples, warp = chunks.whole(2)
    assert warp == 1.2
    expected = compute_fbank(torch.from_numpy(samples), FBANK, vtln_warp=1.2)
    rows = {tuple(row) for row in expected.numpy().round(3)}
    chunk = chunks.features(2, np.random.default_rng(3))
    assert chunk.shape == (30, 24)
    start = chunks._take(recording, 1.0, chunks.num_samples, np.random.default_rng(3))
    np.testing.assert_array_equal(chunk, compute_fbank(torch.from_numpy(start), FBANK, vtln_warp=1.2).numpy())
    assert rows  # the whole recording in the same voice
    changed, warp = wave_chunks([recording, recording], augmentation=AugmentationConfig(speeds=(0.8,))).whole(0)
    assert (len(changed), warp) == (6500, 1.0)


def test_voices_by_name():
    assert voice_id("id1", 0.9, 1.1) == "vtln1.1-sp0.9-id1" and voice_id("id1", 1.0, 1.0) == "id1"
    assert voice_id("id1", 0.9, 1.1, new_speakers=False) == "id1"
    assert person_of("vtln1.1-sp0.9-id1-x") == "id1-x" and person_of("spring-1") == "spring-1"
