"""The usual way to score trials, to be measured against: one Python loop, a cosine and a line at a time.

usage: plain_scoring.py trials emb.ark scores
"""

import sys

import kaldiio
import numpy as np


def main(trials: str, emb_ark: str, scores: str) -> None:
    embeddings = dict(kaldiio.load_ark(emb_ark))
    with open(trials, encoding="utf-8") as lines, open(scores, "w", encoding="utf-8") as out:
        for line in lines:
            enrol, test, label = line.split()
            a, b = embeddings[enrol], embeddings[test]
            cosine = np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))
            out.write(f"{enrol} {test} {cosine:.5f} {label}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
