"""A stranger's checkpoint as named tensors: nothing in it is run, nothing in it is believed.

A pickle goes through torch's weights-only reader, which builds tensors, numbers, strings, lists and
dictionaries and calls nothing else. Some of that can be made to multiply (a bytearray of a bytearray of 6 GB is
60 bytes), so the process may not take much more memory than the file has while it reads.
"""

import contextlib
import os
import re
import stat
import struct
import warnings
import zipfile
from collections.abc import Iterator

import safetensors
import safetensors.torch
import torch

from speakerkit.errors import DataError

MOST_BYTES = 8 << 30  # the largest published network is 0.3 GB, with its classifier 0.5 GB
MOST_MEMBERS = 100_000  # of a torch archive: one a tensor
MOST_HEADER = 4 << 20  # bytes of a safetensors file's names and shapes; a published network's has 0.1 MB
# What reading may take of memory besides what the process has: the file a few times over.
MEMORY_FACTOR, MEMORY_MORE = 4, 1 << 30
MOST_DEPTH = 3  # dictionaries around the state dictionary
PREFIXES = ("module.", "model.", "embedding_model.", "speaker_model.", "_orig_mod.")
# A nested state dictionary under one of these is the network; others beside it are optimisers and such.
NESTS = ("state_dict", "model_state_dict", "model", "embedding_model", "net", "network", "ema")
# What torch's reader raises for damaged and hostile files, found by cutting and flipping files at every byte.
READER_ERRORS = (RuntimeError, ValueError, LookupError, EOFError, OSError, AttributeError, TypeError, AssertionError,
                 ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile)


def read_checkpoint(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """The state dictionary in a checkpoint, its keys without prefixes that all of them share.

    Args:
        path: what torch.save wrote (the state dictionary itself, or one nested in a dictionary), or safetensors.

    Returns:
        key -> dense floating-point tensor as it was stored, on the CPU. ``num_batches_tracked`` is left
        out: WeSpeaker averages it to fractions, and converted files hold arbitrary values there.

    Raises:
        DataError: not a checkpoint, truncated, too large, holds code or anything but tensors.
    """
    path = os.fspath(path)
    head = check_file(path)
    with _bounded_memory(MEMORY_FACTOR * os.stat(path).st_size + MEMORY_MORE):
        if head[8:9] == b"{" and not head.startswith(b"PK"):
            state = _read_safetensors(path, head)
        else:
            if head.startswith(b"PK"):
                _check_archive(path)
            state = _read_pickle(path)
    return _check_tensors(_without_prefixes(_state_dictionary(state, path)), path)


def check_file(path: str) -> bytes:
    """The first bytes of a checkpoint; DataError if it is no regular file, too large, or begins as none does."""
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise DataError(path, "is no regular file; want a checkpoint")
        with open(path, "rb") as stream:
            head = stream.read(512)
    except FileNotFoundError:
        raise DataError(path, "no such checkpoint") from None
    except OSError as error:
        raise DataError(path, f"can't be read: {error.strerror}") from None
    if facts.st_size > MOST_BYTES:
        raise DataError(path, f"has {facts.st_size:,} bytes; want at most {MOST_BYTES:,}")
    if not head:
        raise DataError(path, "is empty")
    if not head.startswith((b"PK", b"\x80")) and head[8:9] != b"{":
        raise DataError(path, f"is no checkpoint (it starts with {head[:16]!r}); "
                              "want what torch.save wrote, or safetensors")
    return head


@contextlib.contextmanager
def _bounded_memory(num_bytes: int) -> Iterator[None]:
    """Not more than so many bytes beyond what the process has; where a system can't tell or set it, no bound."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as stream:
            limit = int(stream.read().split()[0]) * resource.getpagesize() + num_bytes
    except (ImportError, OSError):
        yield
        return
    before, highest = resource.getrlimit(resource.RLIMIT_AS)
    others = [known for known in (before, highest) if known != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([limit, *others]), highest))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, highest))


def _check_archive(path: str) -> None:
    """A torch archive stores its members as they are: what is compressed, or adds up to more, is no checkpoint."""
    with _told_in_a_line(path), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    names = [member.filename for member in members]
    if len(members) > MOST_MEMBERS:
        raise DataError(path, f"holds {len(members):,} members; want at most {MOST_MEMBERS:,}")
    if any("/code/" in name for name in names):
        raise DataError(path, "is a TorchScript program, not weights; want the state dictionary it was made from")
    if not any(name.endswith("data.pkl") for name in names):
        raise DataError(path, f"is a zip archive but no checkpoint (it holds {names[:3]}); want what torch.save wrote")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise DataError(path, "holds compressed members, which torch.save never writes: refused")
    if sum(member.file_size for member in members) > os.stat(path).st_size:
        raise DataError(path, "damaged: its members claim more bytes than the file has")


def _read_safetensors(path: str, head: bytes) -> dict:
    if (num_bytes := int.from_bytes(head[:8], "little")) > MOST_HEADER:
        raise DataError(path, f"has {num_bytes:,} bytes of names and shapes; want at most {MOST_HEADER:,}")
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise DataError(path, f"truncated or damaged: {error}") from None


def _read_pickle(path: str) -> object:
    with _told_in_a_line(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


@contextlib.contextmanager
def _told_in_a_line(path: str) -> Iterator[None]:
    import pickle  # for the name of its error; nothing is unpickled by it

    try:
        yield
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|[Gg]lobal:?|callable|function) [`']?([\w.]+\.[\w.]+)", str(error))
        if found is None:
            # Before these words it advises to run the file's code.
            told = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
            raise DataError(path, f"truncated or damaged: {told[1][:200] if told else _first_line(error)}") from None
        raise DataError(
            path,
            f"holds '{found[1]}', not weights alone; refused, nothing of it was run; "
            "want a state dictionary, as torch.save(network.state_dict(), FILE) writes it",
        ) from None
    except READER_ERRORS as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            raise DataError(path, "damaged: it wants far more memory than it has bytes; refused") from None
        raise DataError(path, f"truncated or damaged: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    lines = str(error).partition("(Could this error")[0].strip().splitlines() or [type(error).__name__]
    return lines[0][:200].strip()


def _state_dictionary(value: object, path: str) -> dict:
    """The dictionary that holds tensors: the value itself, or one nested in it."""
    for _ in range(MOST_DEPTH):
        if not isinstance(value, dict):
            break
        if any(isinstance(item, torch.Tensor) for item in value.values()):
            return value
        value = next((value[name] for name in NESTS if isinstance(value.get(name), dict)), None)
    kind = "nothing that is one" if value is None else f"a {type(value).__name__}"
    raise DataError(path, f"holds no state dictionary but {kind}; want key -> tensor, or such a dictionary "
                          f"under one of {', '.join(NESTS)}")


def _without_prefixes(state: dict) -> dict:
    while True:
        prefix = next((p for p in PREFIXES if all(isinstance(key, str) and key.startswith(p) for key in state)), None)
        if prefix is None:
            return state
        state = {key.removeprefix(prefix): value for key, value in state.items()}


def _check_tensors(state: dict, path: str) -> dict[str, torch.Tensor]:
    tensors = {}
    for key, tensor in state.items():
        if not isinstance(key, str):
            raise DataError(path, f"a key of its state dictionary is a {type(key).__name__}; want a name -> tensor")
        shown = repr(key[:100])  # escaped: a stranger's name stays on its line
        if not isinstance(tensor, torch.Tensor):
            raise DataError(path, f"{shown} is a {type(tensor).__name__}; want a name -> tensor")
        if key.endswith("num_batches_tracked"):
            continue
        if tensor.layout != torch.strided or tensor.is_quantized or not tensor.is_floating_point():
            raise DataError(path, f"{shown} is {tensor.dtype}, {tensor.layout}; want dense floating-point weights")
        if tensor.device.type != "cpu":
            raise DataError(path, f"{shown} has a shape and no values (it is on the {tensor.device.type} device)")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise DataError(path, f"{shown} claims {list(tensor.shape)}, more values than are stored")
        tensors[key] = tensor
    if not tensors:
        raise DataError(path, "holds no weights")
    return tensors
