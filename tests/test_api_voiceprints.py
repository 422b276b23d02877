"""People enrolled and identified from Python: the same numbers as verify, whoever is enrolled beside them."""

import dataclasses
import functools
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch

import speakerkit
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import DataError, DataErrors, MachineError, RecordingError
from speakerkit.io.recordings import load_recording
from speakerkit.io.voiceprints import VoiceprintFile, VoiceRecording, read_voiceprints, write_voiceprints
from speakerkit.jobs import enrolment
from speakerkit.jobs.voiceprints import Voiceprints, identify
from speakerkit.models import model_file, networks
from speakerkit.scoring.cosine import cosine_score


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """``load(seed, threshold)``: a loaded model of random weights."""
    folder = tmp_path_factory.mktemp("models")

    @functools.cache
    def make(seed=1, threshold=0.5):
        config = ModelConfig(base_channels=4, num_blocks=(1, 1, 1, 1), embedding_dim=16)
        fbank = FbankConfig(num_mel_bins=24)
        network = networks.make_network(config, fbank.num_columns)
        networks.initialise(network, torch.Generator().manual_seed(seed))
        path = folder / f"{seed}-{threshold}.safetensors"
        info = model_file.ModelInfo(f"m{seed}", config, fbank, threshold=threshold)
        model_file.save_model(path, network.eval(), info)
        return speakerkit.load_model(path, "cpu", "float32")

    return make


@pytest.fixture(scope="module")
def people(speech_files, tmp_path_factory):
    """Speaker -> three recordings of a second and a half."""
    folder, found = tmp_path_factory.mktemp("people"), {}
    for number, recordings in enumerate(list(speech_files.values())[:4]):
        for turn, recording in enumerate(recordings[:3]):
            samples, rate = soundfile.read(recording, dtype="int16", frames=24000)
            path = folder / f"p{number}-{turn}.wav"
            soundfile.write(path, samples, rate)
            found.setdefault(f"p{number}", []).append(path)
    return found


def enrolled(people, count=2):
    return {name: paths[:count] for name, paths in people.items()}


def test_identify_gives_the_numbers_of_verify(load, people, tmp_path):
    model = load()
    voices = model.enrol(tmp_path / "v", enrolled(people))
    assert voices.speakers == ("p0", "p1", "p2", "p3") and len(voices) == 4
    loaded = model.load_voiceprints(tmp_path / "v")
    assert np.array_equal(loaded.means, voices.means)
    for paths in people.values():
        for form in (loaded, tmp_path / "v"):
            found = model.identify(form, paths[2], top=10)
            assert [match.cosine for match in found.matches] == sorted((m.cosine for m in found.matches), reverse=True)
            assert {match.speaker for match in found.matches} == set(people)
            for match in found.matches:
                answer = model.verify(people[match.speaker][:2], paths[2])
                assert (match.cosine, match.similarity, match.threshold, match.decision) == (
                    answer.cosine, answer.similarity, answer.threshold, answer.decision)
            best = found.matches[0]
            assert found.speaker == (best.speaker if best.cosine >= 0.5 else None)
        assert model.identify(loaded, paths[0], top=2).matches[0].cosine > 0.7


def test_order_of_enrolment_does_not_matter(load, people, tmp_path):
    model = load()
    model.enrol(tmp_path / "a", enrolled(people, 3))
    for turn in range(3):
        for name in reversed(people):
            model.enrol(tmp_path / "b", {name: people[name][turn]})
    answers = [{m.speaker: m.cosine for m in model.identify(tmp_path / file, people["p1"][1]).matches} for file in "ab"]
    assert answers[0].keys() == answers[1].keys()
    for name in people:
        assert answers[0][name] == pytest.approx(answers[1][name], abs=1e-12)
    assert read_voiceprints(tmp_path / "b").speakers == ("p3", "p2", "p1", "p0")


def test_every_form_can_be_enrolled(load, people, tmp_path):
    model, path = load(), people["p0"][0]
    samples = soundfile.read(path, dtype="int16")[0]
    for form in (path, str(path), path.read_bytes(), samples, torch.from_numpy(samples.copy())):
        rate = None if isinstance(form, (str, bytes, type(path))) else 16000
        model.enrol(tmp_path / "v", {"a": form}, rate)
    voices = model.load_voiceprints(tmp_path / "v")
    assert len(voices.file.recordings) == 1  # the same samples, whatever held them
    assert voices.file.recordings[0].path == str(path)
    assert voices.file.recordings[0].seconds == pytest.approx(1.5)


def test_another_model_embeds_again(load, people, tmp_path, caplog):
    first, second = load(1), load(2)
    first.enrol(tmp_path / "v", enrolled(people))
    second.enrol(tmp_path / "w", enrolled(people))
    with pytest.raises(DataError, match=r"was made with model m1 \(.{8}\), not with m2"):
        second.load_voiceprints(tmp_path / "v", refresh=False)
    with caplog.at_level(logging.INFO, "speakerkit"):
        again = second.load_voiceprints(tmp_path / "v")
    assert "was made with model m1" in caplog.text and "embedding 8 recordings again with m2" in caplog.text
    assert np.array_equal(again.file.embeddings, second.load_voiceprints(tmp_path / "w").file.embeddings)
    assert (tmp_path / "v").read_bytes() == (tmp_path / "w").read_bytes()  # and kept
    with pytest.raises(DataError, match="was made with model m2, not with m1"):
        first.identify(again, people["p0"][0])
    back = first.enrol(tmp_path / "v", {"p0": people["p0"][2]})
    assert back.file.model == "m1" and len(back.file.recordings) == 9


def test_options_are_kept_for_embedding_again(load, people, tmp_path):
    left, right = (soundfile.read(people[name][0], dtype="int16")[0] for name in ("p0", "p1"))
    soundfile.write(tmp_path / "both.wav", np.stack([left, right], axis=1), 16000)
    load(1).enrol(tmp_path / "v", {"right": tmp_path / "both.wav"}, channel=1)
    again = load(2).load_voiceprints(tmp_path / "v")
    assert np.array_equal(again.file.embeddings[0], load(2).embed(people["p1"][0]))


@pytest.fixture(scope="module")
def padded(speech_files, tmp_path_factory):
    """A whole sentence between two stretches of hiss, and hiss alone."""
    folder = tmp_path_factory.mktemp("padded")
    samples, rate = soundfile.read(next(iter(speech_files.values()))[0], dtype="float32")
    hiss = 1e-3 * np.random.default_rng(1).standard_normal(3 * rate).astype(np.float32)
    soundfile.write(folder / "speech.wav", np.concatenate([hiss, samples, hiss]), rate, subtype="FLOAT")
    soundfile.write(folder / "hiss.wav", hiss, rate, subtype="FLOAT")
    return folder


def test_only_speech_is_enrolled_and_searched_for(load, padded, people, tmp_path, caplog):
    model, path = load(1), padded / "speech.wav"
    voices = model.enrol(tmp_path / "v", {"a": path, "b": people["p1"][0]}, vad=True)
    assert np.array_equal(voices.file.embeddings[0], model.embed(path, vad=True))
    assert not np.array_equal(voices.file.embeddings[0], model.embed(path))
    assert voices.file.recordings[0].options["vad"].startswith("silero-vad ")
    assert voices.file.recordings[0].seconds == pytest.approx(soundfile.info(path).duration)
    for form in (voices, tmp_path / "v"):
        assert model.identify(form, path, vad=True).matches[0].cosine == pytest.approx(1.0)
        assert model.identify(form, path).matches[0].cosine < 1 - 1e-6
    again = load(2).load_voiceprints(tmp_path / "v")  # another model hears the same
    assert np.array_equal(again.file.embeddings[0], load(2).embed(path, vad=True))
    with pytest.raises(RecordingError, match="no-speech: nobody speaks in 3.00 s"):
        model.identify(voices, padded / "hiss.wav", vad=True)
    with pytest.raises(RecordingError, match="no-speech"):
        model.enrol(tmp_path / "w", {"a": padded / "hiss.wav"}, vad=True)
    assert not (tmp_path / "w").exists()
    rows = tuple(dataclasses.replace(row, options={"vad": "silero-vad 0.1"}) for row in voices.file.recordings)
    write_voiceprints(tmp_path / "old", dataclasses.replace(voices.file, recordings=rows))
    assert np.array_equal(load(2).load_voiceprints(tmp_path / "old").file.embeddings, again.file.embeddings)
    assert "was made with silero-vad 0.1; silero-vad" in caplog.text
    rows = tuple(dataclasses.replace(row, options={"vad": 3}) for row in voices.file.recordings)
    write_voiceprints(tmp_path / "bad", dataclasses.replace(voices.file, recordings=rows))
    with pytest.raises(DataErrors, match="damaged: options of .*: vad is 3"):
        load(2).load_voiceprints(tmp_path / "bad")


def test_what_can_not_be_embedded_again(load, people, tmp_path):
    for name in ("a", "b", "c"):
        shutil.copy(people["p0"][0], tmp_path / f"{name}.wav")
    model = load(1)
    model.enrol(tmp_path / "v", {name: tmp_path / f"{name}.wav" for name in ("a", "b", "c")})
    model.enrol(tmp_path / "v", {"d": people["p0"][0].read_bytes()})
    before = (tmp_path / "v").read_bytes()
    (tmp_path / "a.wav").unlink()
    shutil.copy(people["p1"][0], tmp_path / "b.wav")
    with pytest.raises(DataErrors) as caught:
        load(2).load_voiceprints(tmp_path / "v")
    told = str(caught.value).splitlines()
    assert len(told) == 3
    assert "a.wav: missing: no such file" in told[0]
    assert "b.wav: has changed since it was enrolled for 'b'" in told[1]
    assert "'d' was enrolled from memory, so another model can't embed it again; take the old model, or" in told[2]
    assert (tmp_path / "v").read_bytes() == before
    assert model.identify(tmp_path / "v", people["p0"][0]).matches[0].cosine == pytest.approx(1.0)


def test_nobody_is_found(load, people, tmp_path):
    model = load(1, None)
    model.enrol(tmp_path / "v", enrolled(people))
    found = model.identify(tmp_path / "v", people["p0"][2])
    assert found.speaker is None and found.matches[0].decision is None
    strict = load(1, 0.999999)
    strict.load_voiceprints(tmp_path / "v")  # another file, so another model
    found = strict.identify(tmp_path / "v", people["p0"][2])
    assert found.speaker is None and found.matches[0].decision == "different"


def test_warnings_of_enrolment_and_search(load, people, tmp_path, caplog):
    model = load(1, 0.999)
    model.enrol(tmp_path / "v", {"a": people["p0"][:2], "b": people["p0"][0]})
    assert "enrolled for 'b', holds the same samples as a recording of 'a'" in caplog.text
    assert "p0-0.wav is unlike the speaker's other recordings (cosine 0." in caplog.text
    caplog.clear()
    low = load(1, -0.9)
    low.enrol(tmp_path / "w", {"a": people["p0"][0]})
    low.enrol(tmp_path / "w", {"b": people["p1"][0]})
    assert "'b' sounds like 'a' (cosine" in caplog.text and "one person under two names?" in caplog.text
    caplog.clear()
    low.enrol(tmp_path / "w", {"b": people["p1"][0]})
    assert "p1-0.wav is among the recordings of 'b' already; left out" in caplog.text
    samples = soundfile.read(people["p0"][0], dtype="int16")[0]
    assert "shorter than 1 s" in low.identify(tmp_path / "w", samples[:8000], 16000).warnings[0]


def test_bad_recordings_enrol_nobody(load, people, tmp_path):
    model, silence = load(), np.zeros(16000, np.int16)
    with pytest.raises(DataErrors) as caught:
        model.enrol(tmp_path / "v", {"a": [people["p0"][0], silence], "b": tmp_path / "nowhere.wav"}, 16000)
    assert [fault.reason for fault in caught.value.faults] == ["silent", "missing"]
    assert not (tmp_path / "v").exists()
    model.enrol(tmp_path / "v", {"a": people["p0"][0]})
    with pytest.raises(RecordingError, match="silent"):
        model.identify(tmp_path / "v", silence, 16000)


@pytest.mark.parametrize("nobody", [{}, {"a": []}])
def test_nobody_to_enrol(load, tmp_path, nobody):
    with pytest.raises(ValueError, match="nobody to enrol: no recording was given"):
        load().enrol(tmp_path / "v", nobody)
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize("name, message", [("", "speaker is ''; want a word"), ("a b", "U+0020"), ("a\n", "U+000A"),
                                           (3, "speaker is 3; want a word")])
def test_names_that_are_no_word(load, people, tmp_path, name, message):
    with pytest.raises(ValueError) as caught:
        load().enrol(tmp_path / "v", {name: people["p0"][0]})
    assert message in str(caught.value)
    assert not (tmp_path / "v").exists()


def test_places_that_are_no_voiceprint_file(load, people, tmp_path):
    model = load()
    with pytest.raises(DataError, match="no such voiceprint file"):
        model.identify(tmp_path / "v", people["p0"][0])
    with pytest.raises(DataError, match="is no voiceprint file, or cut"):
        model.enrol(people["p0"][0], {"a": people["p0"][0]})
    with pytest.raises(DataError, match="is no voiceprint file, but another safetensors"):
        model.enrol(model.extractor.path, {"a": people["p0"][0]})
    write_voiceprints(tmp_path / "none", VoiceprintFile("m1", model.sha256, (), (), np.zeros((0, 16), np.float32)))
    with pytest.raises(DataError, match="nobody is enrolled"):
        model.identify(tmp_path / "none", people["p0"][0])
    with pytest.raises(ValueError, match="top is 0; want 1 or more"):
        model.enrol(tmp_path / "v", {"a": people["p0"][0]})
        model.identify(tmp_path / "v", people["p0"][0], top=0)


def test_writers_at_once_lose_nothing(load, people, tmp_path):
    model, path = load(), tmp_path / "v"
    model.enrol(path, {"first": people["p0"][0]})
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(model.enrol, path, {f"s{n}": people[f"p{n % 4}"][n // 4 + 1]}) for n in range(8)]:
            done.result()
    assert sorted(model.load_voiceprints(path).speakers) == ["first", *(f"s{n}" for n in range(8))]


def test_a_second_writer_is_told(load, people, tmp_path, monkeypatch):
    from speakerkit.io.locks import output_lock

    monkeypatch.setattr(enrolment, "LOCK_WAIT_S", 0.0)
    with output_lock(tmp_path / "v"), pytest.raises(MachineError, match="is being written by process"):
        load().enrol(tmp_path / "v", {"a": people["p0"][0]})


def big(count, dim, model_sha256):
    embeddings = np.random.default_rng(1).standard_normal((count, dim), dtype=np.float32)
    rows = tuple(VoiceRecording(place, "", "0" * 64, 1.0) for place in range(count))
    return Voiceprints(VoiceprintFile("m1", model_sha256, tuple(f"s{n}" for n in range(count)), rows, embeddings))


def test_many_voices_by_one_product(load, people):
    """Equal to the plain comparison of every pair, and safe from many threads."""
    model = load()
    voices = big(20000, 16, model.sha256)
    embedding = model.embed(people["p0"][0])
    plain = [cosine_score(embedding, row) for row in voices.file.embeddings]
    wanted = np.argsort(-np.array(plain), kind="stable")[:5]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: model.identify(voices, people["p0"][0]), range(8)))
    for answer in answers:
        assert [match.speaker for match in answer.matches] == [f"s{place}" for place in wanted]
        assert [match.cosine for match in answer.matches] == [plain[place] for place in wanted]


def test_nothing_is_shared_between_identify_and_the_caller(load, people, tmp_path):
    """identify is a function of its arguments: it leaves the voiceprints as they were."""
    model = load()
    voices = model.enrol(tmp_path / "v", enrolled(people))
    before = voices.means.copy(), voices.file.embeddings.copy()
    for _ in range(2):
        identify(voices, load_recording(people["p2"][2]), model.extractor)
    assert np.array_equal(voices.means, before[0]) and np.array_equal(voices.file.embeddings, before[1])
