"""Milliseconds to find the nearest five of many voices: by the compact copy, and by one product and a sort.

usage: search_voices.py [--voices 100000] [--dim 256] [--repeats 50]
"""

import argparse
import time

import numpy as np

from speakerkit.scoring.nearest import NearestRows, exact_products


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows at length 1."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--voices", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=50)
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((args.voices, args.dim), dtype=np.float32)
    centres = rng.standard_normal((1000, args.dim), dtype=np.float32)
    for name, rows in (("random", unit(noise)), ("clustered", unit(centres[rng.integers(1000, size=len(noise))]
                                                                   + 0.3 * noise))):
        began = time.perf_counter()
        searched = NearestRows(rows).prepare()
        made = time.perf_counter() - began
        ours, plain = [], []
        for repeat in range(args.repeats):
            stranger = unit(rng.standard_normal((1, args.dim)))[0]
            query = stranger if repeat % 2 else unit(rows[repeat :][:1] + 0.03 * stranger)[0]
            began = time.perf_counter()
            found = searched.top(query, 5)
            ours.append(time.perf_counter() - began)
            began = time.perf_counter()
            np.argsort(-(rows @ query), kind="stable")[:5]
            plain.append(time.perf_counter() - began)
            scores = exact_products(rows, np.arange(len(rows)), query)
            assert found == np.argsort(-scores, kind="stable")[:5].tolist()
        print(f"{name}: {1000 * np.median(ours):.2f} ms (least {1000 * min(ours):.2f}) against "
              f"{1000 * np.median(plain):.2f} ms (least {1000 * min(plain):.2f}) of a product and a sort; "
              f"made ready once in {made:.2f} s")


if __name__ == "__main__":
    main()
