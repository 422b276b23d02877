"""Processes that train one network together: each takes its share of every batch, gradients are summed.

A batch is the same function of (seed, step) however many processes share it; process r of n takes
its items B r / n to B (r + 1) / n. All sums come out with the same bytes in every process, so weights
stay equal without being sent. What differs from one process: batch norm sees a share at a time, and
its running statistics are the shares' mean.
"""

import contextlib
import datetime
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from speakerkit.errors import ConfigError, MachineError

LONGEST_WAIT = datetime.timedelta(days=1)  # for the first process's validation, say; a lost one is noticed at once
GOOD_SHARE = 32  # samples that batch norm should see at least, where the number of processes is left to us
SMALLEST_SHARE = 2  # samples: batch norm needs two


class PeerLost(MachineError):
    """Another training process is gone."""


class Ranks:
    """This process among those that train together; of a size of 1 it is alone and exchanges nothing.

    Args:
        rank: its number, from 0; the first also writes, logs and validates.
        size: how many there are.
        local_rank: its number on this host, which chooses its GPU.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int | None = None):
        self.rank, self.size, self.local_rank = rank, size, rank if local_rank is None else local_rank

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> range:
        """This process's places in a batch."""
        return range(batch_size * self.rank // self.size, batch_size * (self.rank + 1) // self.size)

    def sum_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put into float32 tensors their sum over the processes, all in one message."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _losses_told():
            dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def any_of(self, *flags: bool) -> list[bool]:
        """Of each flag, whether it is up in some process."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int32)
        with _losses_told():
            dist.all_reduce(raised)
        return [bool(count) for count in raised.tolist()]

    def gather(self, thing: list) -> list:
        """What the lists of all processes hold, in their order."""
        if self.size == 1:
            return thing
        found = [None] * self.size
        with _losses_told():
            dist.all_gather_object(found, thing)
        return [item for one in found for item in one]

    def tell(self, thing: object = None) -> object:
        """What the first process says."""
        if self.size == 1:
            return thing
        said = [thing]
        with _losses_told():
            dist.broadcast_object_list(said, src=0)
        return said[0]


@contextlib.contextmanager
def _losses_told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # also what torch calls DistBackendError
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise PeerLost(f"another training process is gone: {str(error).splitlines()[0]}") from None


def backend(device_type: str) -> str:
    """What carries tensors of either device."""
    return "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"


def check_share(size: int, batch_size: int) -> None:
    """Every process must get enough of a batch.

    Raises:
        ConfigError: it doesn't, or torch was built without what connects processes.
    """
    if size > 1 and batch_size < SMALLEST_SHARE * size:
        raise ConfigError(
            f"[training] batch_size {batch_size} is too small for {size} processes; "
            f"want {SMALLEST_SHARE} samples or more for each"
        )
    if size > 1 and not dist.is_available():
        raise ConfigError(f"torch {torch.__version__} was built without torch.distributed: --num-processes 1 is left")


@contextlib.contextmanager
def join(rank: int, size: int, meeting: str, device_type: str, local_rank: int | None = None) -> Iterator[Ranks]:
    """Be one of several processes while the block runs.

    Args:
        meeting: where they find each other: torch's init_method, `file://...` or `env://`.

    Raises:
        PeerLost: the others didn't come.
    """
    with _losses_told():
        dist.init_process_group(backend(device_type), init_method=meeting, rank=rank, world_size=size,
                                timeout=LONGEST_WAIT)  # fmt: skip
    try:
        yield Ranks(rank, size, local_rank)
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


@contextlib.contextmanager
def from_environment(device_type: str) -> Iterator[Ranks | None]:
    """The processes that torchrun or a cluster's launcher started (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT);
    None where it didn't.

    Raises:
        ConfigError: values that make no sense.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1" or "RANK" not in os.environ:
        yield None
        return
    try:
        rank, number = int(os.environ["RANK"]), int(size)
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
    except ValueError as error:
        raise ConfigError(f"RANK, WORLD_SIZE or LOCAL_RANK of the environment: {error}") from None
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise ConfigError(f"RANK and WORLD_SIZE are set in the environment but {name} isn't")
    if not 0 <= rank < number:
        raise ConfigError(f"RANK is {rank} with WORLD_SIZE {number}; want 0 to {number - 1}")
    with join(rank, number, "env://", device_type, local_rank) as ranks:
        yield ranks


@contextlib.contextmanager
def meeting_place() -> Iterator[str]:
    """A folder of this user's where processes of one host meet; they talk through the loopback interface alone."""
    before = os.environ.get("GLOO_SOCKET_IFNAME")
    if before is None and Path("/sys/class/net/lo").exists():
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        with tempfile.TemporaryDirectory(prefix="speakerkit-") as folder:
            yield f"file://{folder}/meeting"
    finally:
        if before is None:
            os.environ.pop("GLOO_SOCKET_IFNAME", None)
