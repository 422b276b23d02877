"""Scoring as the reference system does it: a Python loop over the trials in two processes, then its metrics.

From its description: cosines of 5 decimals as text; the EER at the point of scikit-learn's ROC where both
rates are nearest; minDCF by counting through Python lists of the sorted scores.
usage: reference_scoring.py trials emb.ark scores
"""

import json
import sys
from multiprocessing import get_context

import kaldiio
import numpy as np


def score_part(trials: str, emb_ark: str, scores: str, part: int, parts: int) -> None:
    embeddings = {key: value for key, value in kaldiio.load_ark(emb_ark)}  # noqa: C416
    with open(trials, encoding="utf-8") as lines, open(f"{scores}.{part}", "w", encoding="utf-8") as out:
        lines = lines.readlines()
        size = -(-len(lines) // parts)
        for line in lines[part * size : (part + 1) * size]:
            enrol, test, label = line.split()
            a, b = embeddings[enrol], embeddings[test]
            cosine = np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))
            out.write(f"{enrol} {test} {cosine:.5f} {label}\n")


def read_scores(path: str) -> tuple[list[float], list[int]]:
    with open(path, encoding="utf-8") as lines:
        rows = [line.split() for line in lines]
    return [float(row[2]) for row in rows], [int(row[3] == "target") for row in rows]


def compute_eer(scores: list[float], labels: list[int]) -> float:
    try:
        from sklearn.metrics import roc_curve
    except ImportError:  # the same arithmetic, without dropping points
        order = np.argsort(scores, kind="stable")[::-1]
        sorted_scores, hits = np.asarray(scores)[order], np.asarray(labels)[order]
        last = np.append(np.flatnonzero(np.diff(sorted_scores)), len(hits) - 1)
        tpr, fpr = np.cumsum(hits)[last] / hits.sum(), np.cumsum(1 - hits)[last] / (len(hits) - hits.sum())
    else:
        fpr, tpr, _ = roc_curve(labels, scores, pos_label=1)
    at = int(np.argmin(np.abs(1 - tpr - fpr)))
    return (1 - tpr[at] + fpr[at]) / 2


def compute_min_dcf(scores: list[float], labels: list[int], p_target=0.01, c_miss=10.0, c_fa=1.0) -> float:
    order = sorted(range(len(scores)), key=lambda number: scores[number])
    num_target, misses, false_alarms = sum(labels), [], []
    missed, accepted = 0, len(labels) - num_target
    for number in order:
        missed += labels[number]
        accepted -= 1 - labels[number]
        misses.append(missed)
        false_alarms.append(accepted)
    best = min(c_miss * p_target * m / num_target + c_fa * (1 - p_target) * f / (len(labels) - num_target)
               for m, f in zip(misses, false_alarms, strict=True))
    return best / min(c_miss * p_target, c_fa * (1 - p_target))


def main(trials: str, emb_ark: str, scores: str, parts: int = 2) -> None:
    context = get_context("spawn")
    workers = [context.Process(target=score_part, args=(trials, emb_ark, scores, part, parts)) for part in range(parts)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            sys.exit(f"a part failed with {worker.exitcode}")
    with open(scores, "w", encoding="utf-8") as out:
        for part in range(parts):
            with open(f"{scores}.{part}", encoding="utf-8") as lines:
                out.write(lines.read())
    eer = compute_eer(*read_scores(scores))
    print(json.dumps({"eer_percent": 100 * eer, "min_dcf": compute_min_dcf(*read_scores(scores))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
