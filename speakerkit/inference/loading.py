"""A choice to a loaded model whose golden vector holds; what is left open is tried out first."""

import contextlib
import multiprocessing
import sys
from multiprocessing.connection import Connection

from speakerkit.errors import DataError
from speakerkit.inference import compiled_cache
from speakerkit.inference.child_signals import signals_held, take_signals_as_child
from speakerkit.inference.choice import Choice
from speakerkit.inference.extractor import Extractor
from speakerkit.models import device as devices
from speakerkit.models.golden import GoldenError, compare_golden, golden_signal


def start_extractor(choice: Choice) -> Extractor:
    """Load what was chosen; the golden vector is computed and held against the stored one.

    Raises:
        DataError: a damaged model, or a machine that computes wrongly.
    """
    tried = _tried.pop(_key(choice), None)
    return tried or _start(choice)


_tried: dict[tuple, Extractor | None] = {}  # the last choice that held, until it is started; None: in a child


def try_out(choice: Choice, forks: bool = False) -> GoldenError | None:
    """Whether a choice gives the model's golden vector: None, or by how much it misses it.

    Args:
        choice: kept ready for ``start_extractor`` where it holds.
        forks: this process will fork workers; OpenVINO, whose threads a fork would lose, is then tried in a child,
            once: what it compiles there is kept.

    Raises:
        DataError: a damaged model.
    """
    if _key(choice) in _tried:
        return None
    _tried.clear()
    if forks and choice.backend == "openvino" and "openvino" not in sys.modules:
        error = None if compiled_cache.has_held(choice) else _try_in_child(choice)
        _tried.update({} if error else {_key(choice): None})
        return error
    try:
        with devices.one_thread() if choice.backend == "torch" else contextlib.nullcontext():
            _tried[_key(choice)] = _start(choice)
    except GoldenError as error:
        return error
    return None


def _key(choice: Choice) -> tuple:
    return choice.path, choice.sha256, choice.backend, choice.precision, choice.device


def _try_in_child(choice: Choice) -> GoldenError | None:
    """The same in a process of its own; one that dies otherwise is no answer, and starting it will say why."""
    if "fork" not in multiprocessing.get_all_start_methods():
        return None
    context = multiprocessing.get_context("fork")
    answers, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(choice, theirs), daemon=True)
    with signals_held():
        child.start()
    theirs.close()
    try:
        message = answers.recv()
    except EOFError:
        message = None
    except BaseException:  # Ctrl-C, SIGTERM: nobody waits for the answer any more
        child.terminate()
        raise
    child.join()
    return None if message is None else GoldenError(choice.path, message)


def _answer(choice: Choice, answers: Connection) -> None:
    take_signals_as_child()
    message = None
    try:
        _start(choice)
    except GoldenError as error:
        message = error.message
    except DataError:
        pass  # told when it is started
    answers.send(message)


def _start(choice: Choice) -> Extractor:
    if choice.backend == "torch":
        from speakerkit.inference.torch_runner import load_runner
    elif choice.backend == "onnx":
        from speakerkit.inference.onnx_runner import load_runner
    else:
        from speakerkit.inference.openvino_runner import load_runner
    runner = load_runner(choice)
    info = choice.info
    golden = runner.embed(golden_signal(info.fbank.sample_rate))
    cosine = compare_golden(golden, info.golden, choice.path, choice.precision)
    if choice.backend == "openvino":
        from speakerkit.inference.openvino_runner import keep_compiled

        keep_compiled(choice, runner)
    return Extractor(runner, choice, cosine)
