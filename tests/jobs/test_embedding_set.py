"""Embeddings as scoring wants them: of one model, all ids there, enrolments as means."""

import logging

import numpy as np
import pytest

from speakerkit.errors import DataError, DataErrors
from speakerkit.io import files
from speakerkit.io.ark import ArkWriter
from speakerkit.io.trials import read_trials
from speakerkit.jobs.embedding_set import average_enrolments, embeddings_of_trials, load_embeddings

A, B, C = np.eye(3, dtype=np.float32)


def write_ark(path, vectors, model=None):
    """An archive and its scp; with `model` also the manifest that extract-embeddings would leave."""
    with ArkWriter(path, path.with_suffix(".scp")) as writer:
        for key, vector in vectors.items():
            writer.write(key, np.asarray(vector, dtype=np.float32))
    if model:
        files.write_manifest(path, files.Manifest("extract-embeddings", {}, {}, "0"), model, [path.with_suffix(".scp")])
    return path


def model_facts(name, digit, precision="float32"):
    return {"model": name, "model_sha256": digit * 64, "precision": precision}


def listed(tmp_path, text):
    (tmp_path / "trials").write_text(text, encoding="utf-8")
    return read_trials(tmp_path / "trials")


@pytest.mark.parametrize("name", ["emb.ark", "emb.scp"])
def test_rows_and_sources(tmp_path, name):
    path = write_ark(tmp_path / "emb.ark", {"a": A, "b": B})
    embeddings = load_embeddings(tmp_path / name)
    assert embeddings.matrix[embeddings.rows["b"]].tolist() == B.tolist()
    assert embeddings.model == {}
    assert set(embeddings.sources) == {str(tmp_path / name), str(path)}


@pytest.mark.parametrize("name", ["emb.ark", "emb.scp"])
def test_the_manifest_names_the_model(tmp_path, name):
    write_ark(tmp_path / "emb.ark", {"a": A}, model_facts("one", "1"))
    assert load_embeddings(tmp_path / name).model == model_facts("one", "1")


def test_speaker_means_have_their_utterances_manifest(tmp_path):
    write_ark(tmp_path / "spk_emb.ark", {"s": A})
    path = write_ark(tmp_path / "emb.ark", {"a": A})
    manifest = files.Manifest("extract-embeddings", {}, {}, "0")
    files.write_manifest(path, manifest, model_facts("one", "1"), [tmp_path / "spk_emb.ark"])
    assert load_embeddings(tmp_path / "spk_emb.ark").model["model"] == "one"


def test_an_scp_of_two_models_is_refused(tmp_path):
    for name, digit in (("one", "1"), ("two", "2")):
        write_ark(tmp_path / f"{name}.ark", {name: A}, model_facts(name, digit))
    both = tmp_path / "both.scp"
    both.write_text((tmp_path / "one.scp").read_text() + (tmp_path / "two.scp").read_text(), encoding="utf-8")
    with pytest.raises(DataError) as refused:
        load_embeddings(both)
    assert str(refused.value) == (f"{tmp_path / 'two.ark'}: embeddings of model two (22222222), but those of {both} "
                                  "are of one (11111111); want one model")


def test_enrolment_and_test_of_two_models(tmp_path):
    one = load_embeddings(write_ark(tmp_path / "one.ark", {"e": A}, model_facts("one", "1")))
    two = load_embeddings(write_ark(tmp_path / "two.ark", {"t": A}, model_facts("two", "2")))
    unknown = load_embeddings(write_ark(tmp_path / "unknown.ark", {"t": A}))
    trials = listed(tmp_path, "e t\n")
    embeddings_of_trials(trials, one, unknown)
    with pytest.raises(DataError, match=r"one.ark: embeddings of model one .*, but those of .*two.ark are of two"):
        embeddings_of_trials(trials, one, two)


def test_two_precisions_of_one_model_are_said(tmp_path, caplog):
    one = load_embeddings(write_ark(tmp_path / "one.ark", {"e": A}, model_facts("one", "1")))
    two = load_embeddings(write_ark(tmp_path / "two.ark", {"t": A}, model_facts("one", "1", "bfloat16")))
    with caplog.at_level(logging.WARNING, "speakerkit"):
        embeddings_of_trials(listed(tmp_path, "e t\n"), one, two)
    assert "two.ark was computed in bfloat16" in caplog.text


def test_two_dimensions(tmp_path):
    three = load_embeddings(write_ark(tmp_path / "three.ark", {"e": A}))
    two = load_embeddings(write_ark(tmp_path / "two.ark", {"t": A[:2]}))
    with pytest.raises(DataError) as refused:
        embeddings_of_trials(listed(tmp_path, "e t\n"), three, two)
    assert str(refused.value) == (f"{three.path}: 'e' has 3 values, 't' in {two.path} has 2: "
                                  "embeddings of two models?")


def test_rows_in_the_lists_order(tmp_path):
    embeddings = load_embeddings(write_ark(tmp_path / "emb.ark", {"a": A, "b": B, "c": C}))
    enrol, test = embeddings_of_trials(listed(tmp_path, "c a\nb b\nc b\n"), embeddings, embeddings)
    assert enrol.tolist() == [C.tolist(), B.tolist()]
    assert test.tolist() == [A.tolist(), B.tolist()]


def test_every_missing_id_at_its_first_line(tmp_path):
    embeddings = load_embeddings(write_ark(tmp_path / "emb.ark", {"a": A, "b": B}))
    trials = listed(tmp_path, "a b\nx b\na y\nx y\nz a\n")
    with pytest.raises(DataErrors) as refused:
        embeddings_of_trials(trials, embeddings, embeddings)
    assert str(refused.value).splitlines() == [f"{trials.path}:{line}: '{name}' has no embedding in {embeddings.path}"
                                               for line, name in ((2, "x"), (3, "y"), (5, "z"))]


def test_means_of_enrolments(tmp_path):
    utterances = load_embeddings(write_ark(tmp_path / "emb.ark", {"a": A, "b": 3 * B, "c": C}, model_facts("one", "1")))
    (tmp_path / "map").write_text("e1 a b\ne2 c\n", encoding="utf-8")
    enrolments = average_enrolments(tmp_path / "map", utterances)
    np.testing.assert_array_equal(enrolments.matrix, [[0.5, 1.5, 0], [0, 0, 1]])  # plain, not of unit vectors
    assert enrolments.rows == {"e1": 0, "e2": 1}
    assert enrolments.model == model_facts("one", "1")
    assert set(enrolments.sources) == {str(tmp_path / "emb.ark"), str(tmp_path / "map")}


def test_enrol_maps_that_ask_for_too_much(tmp_path):
    utterances = load_embeddings(write_ark(tmp_path / "emb.ark", {"a": A, "b": -A}))
    path = tmp_path / "map"
    path.write_text("e1 a\ne2 a x y\ne3 z\n", encoding="utf-8")
    with pytest.raises(DataErrors) as refused:
        average_enrolments(path, utterances)
    assert str(refused.value).splitlines() == [f"{path}:{line}: '{name}' has no embedding in {utterances.path}"
                                               for line, name in ((2, "x"), (2, "y"), (3, "z"))]
    path.write_text("e1 a b\n", encoding="utf-8")
    with pytest.raises(DataError, match="zero-embedding: the mean of 'e1' is zero"):
        average_enrolments(path, utterances)
