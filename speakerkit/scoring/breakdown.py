"""Error rates of parts of a trial list: every trial lies in one cell, and each cell has its own threshold."""

import numpy as np

from speakerkit.scoring.metrics import compute_metrics


def compute_cell_metrics(scores: np.ndarray, is_target: np.ndarray, cells: np.ndarray, num_cells: int,
                         point: tuple[float, float, float] = (0.01, 1.0, 1.0),
                         share_targets: bool = False) -> list[dict[str, int | float]]:
    """EER and minDCF of each cell.

    Args:
        scores: (num_trials,) higher means more alike.
        is_target: (num_trials,) bool.
        cells: (num_trials,) the cell of each trial, in 0..num_cells - 1.
        num_cells: how many there are; a cell may be empty.
        point: p_target, c_miss, c_fa of minDCF.
        share_targets: each cell has its own nontargets and the targets of the whole list.

    Returns:
        (num_cells,) what `compute_metrics` returns; num_target and num_nontarget alone where one of them is 0.
        The counts of all cells sum to the list's (with `share_targets` the nontargets' do).

    Raises:
        ValueError: as `compute_metrics`; a cell outside the range.
    """
    scores, is_target, cells = np.asarray(scores), np.asarray(is_target, dtype=bool), np.asarray(cells)
    if not scores.shape == is_target.shape == cells.shape:
        raise ValueError(f"{scores.shape} scores, {is_target.shape} labels and {cells.shape} cells; want one a trial")
    if len(cells) and not (cells.min() >= 0 and cells.max() < num_cells):
        raise ValueError(f"cells from {cells.min()} to {cells.max()}; want 0 to {num_cells - 1}")
    shared = scores[is_target] if share_targets else scores[:0]
    if share_targets:
        scores, cells, is_target = scores[~is_target], cells[~is_target], is_target[~is_target]
    small = np.uint16 if num_cells <= 1 << 16 else np.int64  # numpy's stable sort of 16 bits takes linear time
    order = np.argsort(cells.astype(small), kind="stable")
    ends = np.cumsum(np.bincount(cells, minlength=num_cells))
    scores, is_target = scores[order], is_target[order]
    metrics = []
    for start, end in zip(np.append(0, ends[:-1]), ends, strict=True):
        metrics.append(_metrics_of(np.append(shared, scores[start:end]),
                                   np.append(np.ones(len(shared), dtype=bool), is_target[start:end]), point))
    return metrics


def _metrics_of(scores: np.ndarray, is_target: np.ndarray, point: tuple[float, float, float]) -> dict:
    num_target = int(np.count_nonzero(is_target))
    if 0 < num_target < len(scores):
        return compute_metrics(scores, is_target, *point)
    return {"num_target": num_target, "num_nontarget": len(scores) - num_target}
