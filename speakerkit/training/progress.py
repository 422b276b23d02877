"""What a person sees of a training run: the log, the table behind the curve, the curve."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from speakerkit.config import TrainingConfig
from speakerkit.io import files

log = logging.getLogger(__name__)
COLUMNS = (
    "step",
    "epoch",
    "loss",
    "accuracy",
    "learning_rate",
    "margin",
    "gradient_norm",
    "samples_per_s",
    "waiting",
    "eer_percent",
    "likeness",
    "of_peak",
)


class Meter:
    """Means since the last report, and the time spent waiting for data."""

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        """Start a new interval."""
        self.sums: dict[str, float] = dict.fromkeys(("loss", "accuracy", "gradient_norm"), 0.0)
        self.count, self.waited, self.started = 0, 0.0, time.monotonic()

    def add(self, values: Mapping[str, float], waited: float) -> None:
        """One step's values: loss, accuracy, gradient_norm, and likeness where there is a teacher."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        self.waited += waited

    def report(self, batch_size: int) -> dict[str, float]:
        """Means, samples/s and the share of time that was waiting for data."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        means = {name: value / max(self.count, 1) for name, value in self.sums.items()}
        return means | {"samples_per_s": self.count * batch_size / seconds, "waiting": self.waited / seconds}


class TrainingTable:
    """`train_log.tsv`: one row a report, kept across resumes without doubled rows."""

    def __init__(self, path: Path):
        self.path, self.rows = path, []
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            self.rows = [dict(zip(COLUMNS, line.split("\t"), strict=False)) for line in lines[1:]]

    def cut_after(self, step: int) -> None:
        """Drop the rows of steps that the resumed run will do again."""
        self.rows = [row for row in self.rows if int(row["step"]) <= step]

    def add(self, row: dict) -> None:
        """Add a row and write the table anew."""
        self.rows.append({name: f"{row[name]:.6g}" if name in row else "" for name in COLUMNS})
        text = "\t".join(COLUMNS) + "\n" + "".join("\t".join(r.get(c, "") for c in COLUMNS) + "\n" for r in self.rows)
        files.write_text(self.path, text)

    def seconds(self, config: TrainingConfig) -> float:
        """Training time over all resumes, from the rows that stand for a whole interval; stops don't count."""
        total, before = 0.0, 0
        for row in self.rows:
            step = int(row["step"])
            if step % config.log_interval == 0 or row is self.rows[-1]:
                total += (step - before) * config.batch_size / float(row["samples_per_s"])
                before = step
        return total

    def columns(self, name: str) -> tuple[list[float], list[float]]:
        """(steps, values) of the rows where ``name`` was measured."""
        found = [(float(r["step"]), float(r[name])) for r in self.rows if r.get(name)]
        return [f[0] for f in found], [f[1] for f in found]


def draw_curve(table: TrainingTable, path: str | os.PathLike) -> bool:
    """The training curve as a PNG; False, said once, where matplotlib isn't installed."""
    try:
        from speakerkit.io import plots

        series = {name: table.columns(name) for name in ("loss", "accuracy", "learning_rate", "eer_percent")}
        plots.draw_training_curve(path, series)
        return True
    except ModuleNotFoundError as error:
        log.info("no training curve: %s; pip install 'speakerkit[plot]'", error)
        return False


def describe(row: dict, eta_s: float) -> str:
    """One line of the log."""
    hours, minutes = divmod(int(eta_s) // 60, 60)
    peak = f"{100 * row['of_peak']:.0f} % of the device's peak, " if "of_peak" in row else ""
    teacher = f"likeness {row['likeness']:.3f}, " if "likeness" in row else ""
    return (
        f"step {row['step']:,} epoch {row['epoch']:.2f}: loss {row['loss']:.4f}, "
        f"accuracy {100 * row['accuracy']:.1f} %, "
        f"{teacher}learning rate {row['learning_rate']:.2e}, margin {row['margin']:.3f}, "
        f"gradient {row['gradient_norm']:.2f}, "
        f"{row['samples_per_s']:.1f} samples/s, {peak}waiting {100 * row['waiting']:.0f} %, "
        f"{hours}:{minutes:02d} h left"
    )
