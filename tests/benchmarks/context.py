"""What every workload is given, and the shapes of what it gives back."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inputs import Sizes
from peers import PROGRAMS, Peers
from processes import Contender, run_side_by_side

COMMANDS = Path(sys.executable).parent  # where our console commands are


@dataclass(frozen=True)
class Context:
    """One run of the benchmark."""

    folder: Path  # inputs and outputs of the workloads
    sizes: Sizes
    peers: Peers
    repeats: int
    speech_dir: Path | None
    floor_dir: Path | None
    backends: tuple[str, ...]
    cores: int
    quick: bool = False
    ways: tuple[str, ...] = ()  # only those whose names hold one of these; none: all

    def run(self, contenders: Sequence[Contender], at_least: int = 1) -> dict:
        """The contenders side by side; what takes little time runs ``at_least`` so often."""
        contenders = [c for c in contenders if not self.ways or any(word in c.name for word in self.ways)]
        if self.quick:
            contenders = [dataclasses.replace(contender, warm_up=(), env=dict(contender.env) | {"OMP_NUM_THREADS": 1})
                          for contender in contenders]
        return run_side_by_side(contenders, self.repeats if self.quick else max(self.repeats, at_least))

    def ours(self, command: str, *options: object) -> list:
        """A command of ours, as installed beside this interpreter."""
        return [COMMANDS / command, *options]

    def program(self, name: str, *options: object) -> list:
        """A program of ``programs/`` in our environment."""
        return [sys.executable, PROGRAMS / name, *options]

    def peer_program(self, name: str, *options: object) -> list:
        """A program of ``programs/`` in the peers' environment."""
        return [self.peers.python, PROGRAMS / name, *options]


@dataclass(frozen=True)
class Section:
    """What one workload measured."""

    title: str
    results: dict  # as processes.run_side_by_side returns them
    base: str  # whose time the others' is divided into
    notes: list[str] = field(default_factory=list)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)  # further columns: title -> name -> text
    facts: dict = field(default_factory=dict)  # for the table of aims
