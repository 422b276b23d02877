"""Text trials in; scores as text and error rates out. Scores normalised by a cohort."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from context import COMMANDS, Context, Section
from inputs import made_once, write_scoring
from processes import Contender, median, run_program

OURS = "score-trials, scores and metrics"
WESPEAKER, THREE_D = "WeSpeaker score.py + compute_metrics.py", "3D-Speaker compute_score_metrics.py"
REFERENCE, FLOOR = "the reference's way: a loop in 2 processes, Python lists", "floor: bare polars scripts"


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def prepare_scoring(context: Context) -> Path:
    """Trials, embeddings and our scores of them, once; also in the four columns that WeSpeaker reads."""
    folder, sizes = context.folder / "scoring", context.sizes
    made_once(folder, _write, sizes.enrolments, sizes.tests, sizes.cohorts, sizes.share_every)
    return folder


def _write(folder: Path, *sizes: object) -> None:
    write_scoring(folder, *sizes)
    run_program([COMMANDS / "score-trials", "--quiet", folder / "trials", folder / "all" / "x.ark", "--output",
                 folder / "given"])
    scores = pl.scan_csv(folder / "given", separator=" ", has_header=False, new_columns=["e", "t", "score"])
    labels = pl.scan_csv(folder / "trials", separator=" ", has_header=False, new_columns=["e", "t", "label"])
    four = labels.join(scores, on=["e", "t"], how="left", maintain_order="left").select("e", "t", "score", "label")
    four.collect().write_csv(folder / "columns", separator=" ", include_header=False)


def bench_scoring(context: Context) -> Section:
    """A list of CN-Celeb-eval's size. The slow ways get a share of it, and their time is scaled up."""
    folder, sizes = prepare_scoring(context), context.sizes
    share = len(range(0, sizes.enrolments, sizes.share_every)) / sizes.enrolments
    arks = folder / "all" / "x.ark"
    contenders = [
        Contender(OURS, context.ours("score-trials", "--quiet", folder / "trials", arks, "--output", folder / "scores"),
                  lambda: _remove(folder.glob("scores*"))),
        Contender("compute-metrics alone", context.ours("compute-metrics", "--quiet", folder / "trials",
                                                        folder / "given")),
        Contender(REFERENCE, _scoring_python(context, "reference_scoring.py", folder / "trials", arks, folder / "ref"),
                  warm_up=(), once=True),
    ]
    contenders += _peer_contenders(context, folder, share)
    if context.floor_dir is not None:
        contenders += [
            Contender("floor_score.py", context.program(
                context.floor_dir / "floor_score.py", "polars", folder / "enrol" / "x.ark", folder / "test" / "x.ark",
                folder / "trials", folder / "floor")),
            Contender("floor_metrics.py", context.program(context.floor_dir / "floor_metrics.py", "polars",
                                                          folder / "floor"))]
    results = context.run(contenders)
    add_sum(results, WESPEAKER, ["WeSpeaker score.py", "WeSpeaker compute_metrics.py"])
    add_sum(results, FLOOR, ["floor_score.py", "floor_metrics.py"])
    notes = [f"{sizes.enrolments} enrolments x {sizes.tests:,} tests, synthetic embeddings of 256 values; WeSpeaker's "
             f"score.py and 3D-Speaker's script got {share:.1%} of the trials, once, and their time is scaled up"]
    return Section(f"scoring and metrics, {sizes.enrolments * sizes.tests:,} labelled trials", results, OURS, notes)


def _scoring_python(context: Context, name: str, *options: object) -> list:
    """In the peers' environment where scikit-learn is, as the reference uses it."""
    return (context.peer_program if context.peers.has("scikit-learn") else context.program)(name, *options)


def _peer_contenders(context: Context, folder: Path, share: float) -> list[Contender]:
    peers, found = context.peers, []
    if "wespeaker" in peers.checkouts and peers.python:
        def script(name: str, *options: object) -> list:
            return context.peer_program("run_peer_script.py", peers.checkouts["wespeaker"], f"wespeaker.bin.{name}",
                                        "--skip-init", "--", *options)

        found += [
            Contender("WeSpeaker score.py", script(
                "score", "--exp_dir", folder / "wespeaker", "--eval_scp_path", folder / "all" / "x.scp",
                "--cal_mean", "False", "--cal_mean_dir", folder, folder / "part"),
                      warm_up=(), share=share, once=True),
            Contender("WeSpeaker compute_metrics.py", script("compute_metrics", "--p_target", "0.01", "--c_fa", "1",
                                                             "--c_miss", "1", folder / "columns"), warm_up=())]
    if peers.python and ("3dspeaker" in peers.checkouts or peers.has("speakerlab")):
        checkout = peers.checkouts.get("3dspeaker")
        script_of_3d = [checkout / "speakerlab" / "bin" / "compute_score_metrics.py"] if checkout else [
            "-m", "speakerlab.bin.compute_score_metrics"]
        found.append(Contender(
            THREE_D, [peers.python, *script_of_3d, "--enrol_data", folder / "enrol", "--test_data", folder / "test",
                      "--scores_dir", folder / "3dspeaker", "--trials", folder / "part"],
            warm_up=(), env={"PYTHONPATH": checkout} if checkout else {}, share=share, once=True))
    return found


def add_sum(results: dict, name: str, parts: list[str]) -> None:
    """A row of parts that run one after the other: times added, memory the larger."""
    if all(results.get(part, {}).get("wall_s") for part in parts):
        total = {what: [sum(median(results, part, what) for part in parts)] for what in ("wall_s", "cpu_s")}
        results[name] = total | {"peak_mb": [max(median(results, part, "peak_mb") for part in parts)], "told": {},
                                 "note": "sum of medians"}


def bench_score_norm(context: Context) -> Section:
    """AS-norm with the 300 nearest of the cohort on both sides, from the score file to the normalised one."""
    folder, peers, contenders = prepare_scoring(context), context.peers, []
    for size in context.sizes.cohorts:
        out = folder / f"normalised{size}"
        contenders.append(Contender(
            f"normalize-scores, cohort {size:,}",
            context.ours("normalize-scores", "--quiet", folder / "trials", folder / "given", folder / "all" / "x.ark",
                         folder / f"cohort{size}" / "x.ark", "--output", out, "--top", min(300, size)),
            lambda out=out: _remove(out.parent.glob(f"{out.name}*"))))
        if "wespeaker" in peers.checkouts and peers.python:
            command = context.peer_program(
                "run_peer_script.py", peers.checkouts["wespeaker"], "wespeaker.bin.score_norm", "--skip-init", "--",
                "--score_norm_method", "asnorm", "--top_n", min(300, size), "--trial_score_file", folder / "columns",
                "--score_norm_file", folder / f"wespeaker{size}",
                "--cohort_emb_scp", folder / f"cohort{size}" / "x.scp", "--eval_emb_scp", folder / "all" / "x.scp")
            contenders.append(Contender(f"WeSpeaker score_norm.py, cohort {size:,}", command, warm_up=()))
    results = context.run(contenders)
    notes = [f"the trials of the scoring table; {_difference(folder, size)}" for size in context.sizes.cohorts
             if results.get(f"WeSpeaker score_norm.py, cohort {size:,}", {}).get("wall_s")]
    return Section("AS-norm, top 300", results, contenders[0].name, notes or ["the trials of the scoring table"])


def _difference(folder: Path, size: int) -> str:
    """How far our scores are from WeSpeaker's, which have 5 decimals."""
    ours, theirs = [pl.read_csv(folder / name, separator=" ", has_header=False).to_series(2).cast(pl.Float64)
                    for name in (f"normalised{size}", f"wespeaker{size}")]
    return f"cohort {size:,}: largest difference from WeSpeaker's scores {(ours - theirs).abs().max():.1e}"
