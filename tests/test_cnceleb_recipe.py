"""recipes/cnceleb/run.sh from CN-Celeb's layout to the table, as a user runs it."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

import prepare_mini

pytestmark = pytest.mark.timeout(900)  # seconds; about 60 on two idle cores

CHANCE_PERCENT = 50.0
BEATS_CHANCE_BY = 20.0  # percent points; such a network has an EER near 10 %


@pytest.fixture
def corpus(tmp_path: Path, speech_files: dict[str, list[Path]]) -> Path:
    """Speech laid out as CN-Celeb 1 and 2: 10 dev, 6 CN-Celeb2 and 7 evaluation speakers of 8 recordings."""
    speakers = [paths[:8] for paths in speech_files.values()][:23]
    folder = tmp_path / "corpus"
    prepare_mini.lay_out_cnceleb(folder, speakers[:10], speakers[10:16], speakers[16:])
    return folder


@pytest.fixture
def options(tmp_path: Path, corpus: Path, tiny_config: Path) -> list:
    return ["--corpus-dir", corpus, "--data-dir", tmp_path / "data", "--exp-dir", tmp_path / "exp",
            "--config", tiny_config, "--device", "cpu", "--precision", "float32", "--nj", "1",
            "--replicates", "50"]


def rows(stdout: str) -> dict[str, float]:
    """The results table: name -> EER in percent."""
    cells = [line.split("|") for line in stdout.splitlines() if line.startswith("| ")]
    return {row[1].strip(): float(row[2]) for row in cells[1:]}


def test_from_the_corpora_to_the_table(tmp_path, options, run_recipe):
    first = run_recipe("cnceleb", *options)
    assert first.returncode == 0, first.stderr
    assert "expect_cost.py: 184 recordings, about " in first.stderr  # 23 speakers of 8
    results = rows(first.stdout)
    assert list(results) == ["all, concatenated", "all, mean", "speech, concatenated"]
    assert results["all, concatenated"] < CHANCE_PERCENT - BEATS_CHANCE_BY
    assert results["all, mean"] < CHANCE_PERCENT - BEATS_CHANCE_BY
    assert "- all, mean: trials (SHA-256 " in first.stdout
    assert "enrolment by mean of embeddings, model exp" in first.stdout
    speech = json.loads((tmp_path / "exp" / "eval" / "speech.json").read_text())
    assert (speech["dcf_p_target"], speech["dcf_c_miss"], speech["dcf_c_fa"]) == (0.01, 10, 1)

    # Short utterances are joined; the trials of a genre are those of the speech subset.
    assert (tmp_path / "data" / "train" / "utt2utts").exists()
    conditions = json.loads((tmp_path / "exp" / "eval" / "concat.conditions.json").read_text())
    cells = conditions["breakdowns"][0]["cells"]
    assert sum(cell["num_target"] + cell["num_nontarget"] for cell in cells) == conditions["num_trials"]
    of_speech = [cell for cell in cells if cell["values"][1] == "speech"]
    assert sum(cell["num_nontarget"] for cell in of_speech) == speech["num_nontarget"]
    card = json.loads((tmp_path / "exp" / "eval" / "mean.card.json").read_text())
    assert "enrolment by the mean of its utterances" in json.dumps(card)
    assert "enrol_genre x test_genre" in (tmp_path / "exp" / "eval" / "mean.conditions.md").read_text()

    # From stage 4 again nothing is missing; without the embeddings they are made again, the same.
    emb_ark = tmp_path / "exp" / "eval" / "emb.ark"
    embeddings = emb_ark.read_bytes()
    again = run_recipe("cnceleb", *options, "--stage", 4)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("up to date: ") == 7
    assert rows(again.stdout) == results
    for path in (emb_ark, emb_ark.with_suffix(".scp"), Path(f"{emb_ark}.manifest.json")):
        path.unlink()
    again = run_recipe("cnceleb", *options, "--stage", 4)
    assert again.returncode == 0, again.stderr
    assert emb_ark.read_bytes() == embeddings
    assert rows(again.stdout) == results


def test_features_made_before_training(tmp_path, options, run_recipe):
    result = run_recipe("cnceleb", *options, "--features", "compressed", "--speeds", "0.9,1.0", "--stop-stage", 2)
    assert result.returncode == 0, result.stderr
    feats = (tmp_path / "data" / "train_fbank" / "feats.scp").read_text().splitlines()
    utt2spk = (tmp_path / "data" / "train" / "utt2spk").read_text().splitlines()
    assert 16 <= len(utt2spk) < 16 * 8  # short utterances are joined
    assert len(feats) == 2 * len(utt2spk)
    assert sum(line.startswith("sp0.9-id") for line in feats) == len(utt2spk)


def test_a_stage_that_fails_stops_the_recipe(corpus, tiny_config, options, run_recipe):
    # A recording that breaks off is found while embeddings are extracted: stage 5 must not begin.
    victim = sorted((corpus / "CN-Celeb_flac" / "eval" / "test").iterdir())[0]
    whole = victim.read_bytes()
    victim.unlink()  # it may share its bytes with the speech
    victim.write_bytes(whole[: len(whole) // 3])
    tiny_config.write_text(tiny_config.read_text().replace("num_steps = 120", "num_steps = 4"))
    result = run_recipe("cnceleb", *options)
    assert result.returncode == 1
    assert "--max-bad" in result.stderr
    assert "== stage 5" not in result.stderr
    assert "failed (exit code 1)" in result.stderr.splitlines()[-1]


def test_a_missing_corpus_is_told_before_anything_is_made(tmp_path, run_recipe):
    result = run_recipe("cnceleb", "--corpus-dir", tmp_path / "nowhere", "--data-dir", tmp_path / "data",
                        "--exp-dir", tmp_path / "exp")
    assert result.returncode == 1
    assert "nowhere: has no folder CN-Celeb_flac with a data folder in it; --corpus-dir names" in result.stderr
    assert not (tmp_path / "data").exists()


def test_archives_are_unpacked_and_the_reference_joins_nothing(tmp_path, corpus, tiny_config, options, run_recipe):
    for name, folder in (("cn-celeb_v2.tar.gz", "CN-Celeb_flac"), ("cn-celeb2_v2.tar.gz", "CN-Celeb2_flac")):
        with tarfile.open(corpus / name, "w:gz", compresslevel=1, dereference=True) as archive:
            archive.add(corpus / folder, folder)
        shutil.rmtree(corpus / folder)
    reference = tiny_config.rename(tiny_config.with_name("tiny_reference.toml"))
    result = run_recipe("cnceleb", *options, "--config", reference, "--stop-stage", 1)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("taken all the same") == 2  # these are no archives of OpenSLR
    assert "39 of 39 counts are not those of the published corpora" in result.stderr
    assert not (tmp_path / "data" / "train" / "utt2utts").exists()
    again = run_recipe("cnceleb", *options, "--config", reference, "--stop-stage", 1)
    assert again.returncode == 0, again.stderr
    assert "taken all the same" not in again.stderr and again.stderr.count("up to date: ") == 1
