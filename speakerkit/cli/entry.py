"""What every command shares: the parser's shape, the options that mean the same everywhere, and `run`."""

import argparse
import logging
import math
import os
import re
import shlex
from collections.abc import Callable

from speakerkit import __version__
from speakerkit.cli.outcome import run
from speakerkit.models.device import usable_cores

__all__ = [
    "add_audio_options", "add_config_option", "add_device_options", "add_max_bad_option", "add_model_options",
    "add_nj_option", "add_operating_point_options", "add_output_options", "add_seed_option", "add_vad_option",
    "audio_options", "blas_in_one_thread", "command_line", "log", "make_parser", "max_bad", "number", "run",
    "usable_cores",
]

log = logging.getLogger("speakerkit")


PATHS = ("FILE", "DIR", "FILE|FOLDER", "MODEL", "YAML", "RECORDING")  # options that take one


class _Parser(argparse.ArgumentParser):
    def parse_args(self, args=None, namespace=None):
        """Where a positional may be left out, options still stand anywhere, which argparse alone forbids."""
        if any(action.nargs in ("?", "*") and not action.option_strings for action in self._actions):
            parsed = self.parse_intermixed_args(args, namespace)
        else:
            parsed = super().parse_args(args, namespace)
        self._refuse_empty(parsed)
        return parsed

    def _refuse_empty(self, parsed: argparse.Namespace) -> None:
        """An unset variable of a script: as a path it would be the working folder, as an option be passed over."""
        for action in self._actions:
            value = getattr(parsed, action.dest, None)
            is_path = not action.option_strings or action.metavar in PATHS
            if is_path and "" in (value if isinstance(value, list) else [value]):
                self.error(f"argument {'/'.join(action.option_strings) or action.metavar or action.dest}: is empty")

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message}\nhint: {self.prog} --help\n")


def make_parser(name: str, summary: str, example: str, formats: str = "") -> argparse.ArgumentParser:
    """A parser in the house's shape: long options only, no abbreviations, an example that runs.

    Args:
        name: the command, e.g. "score-trials".
        summary: what it does, in a sentence.
        example: one command line that runs.
        formats: the line format of each file it reads and writes; shown below the options.
    """
    epilog = (formats.strip("\n") + "\n\n" if formats else "") + f"example:\n  {example}\n"
    parser = _Parser(
        prog=name,
        description=summary,
        epilog=epilog,
        allow_abbrev=False,
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = parser.add_argument_group("common options")
    common.add_argument("--help", action="help", help="show this text")
    common.add_argument(
        "--version", action="version", version=f"{name} (speakerkit {__version__})", help="show the version"
    )
    common.add_argument("--json", metavar="FILE", help="also write the result as one flat JSON object, on failure too")
    common.add_argument("--quiet", action="store_true", help="results and errors only: no talk, no progress bar")
    return parser


def _number(kind: type, low: float, high: float, text: str):
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:  # also refuses nan
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {_exact(low)} to {_exact(high)}")
    return value


def _exact(bound: float) -> str:
    """In few digits where they say it, else in as many as tell 0.999999999 from 1."""
    return f"{bound:g}" if float(f"{bound:g}") == bound else f"{bound:.10g}"


def number(kind: type, low: float, high: float) -> Callable:
    """An argparse type: an int or float within [low, high]; 'nan' and 'inf' are refused by the range."""
    return lambda text: _number(kind, low, high, text)


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """--overwrite."""
    parser.add_argument("--overwrite", action="store_true", help="replace an output that other options or inputs made")


def add_nj_option(parser: argparse.ArgumentParser) -> None:
    """--nj N: workers, one thread each."""
    parser.add_argument(
        "--nj",
        type=number(int, 1, 4096),
        default=usable_cores(),
        metavar="N",
        help="workers, one thread each (default: the usable cores, here %(default)s)",
    )


def add_seed_option(parser: argparse.ArgumentParser, default: int = 1) -> None:
    """--seed N."""
    parser.add_argument(
        "--seed",
        type=number(int, 0, 2**63 - 1),
        default=default,
        metavar="N",
        help="seed of everything random (default: %(default)s)",
    )


def add_config_option(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """--config FILE."""
    parser.add_argument(
        "--config", metavar="FILE", required=required, help="TOML of a whole system, e.g. conf/resnet34.toml"
    )


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu, cuda or cuda:N")
    return text


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """--device and --precision."""
    parser.add_argument(
        "--device",
        type=_device,
        default="auto",
        metavar="auto|cpu|cuda|cuda:N",
        help="where the network runs (default: auto, a GPU where there is one)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="auto: bfloat16 where the processor or GPU computes it fast (default: auto)",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """--model, --device, --precision and --backend."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="a .safetensors or .onnx file, an experiment folder or the name of a bundled or published model "
        "(default: $SPEAKERKIT_MODEL, else the bundled model). ResNets, Res2Net and ERes2Nets take recordings of any "
        "length in constant memory; CAM++ takes up to 6 MB for each second of one, ECAPA-TDNN 14",
    )
    add_device_options(parser)
    parser.add_argument(
        "--backend",
        choices=("auto", "torch", "onnx", "openvino"),
        default="auto",
        help="the library that runs the model (default: auto, the fastest that is installed for the precision)",
    )


def blas_in_one_thread() -> None:
    """One thread a matrix product, for a command whose own threads each compute some; before numpy is imported.

    Two threads of a library's pool in each of two of ours wait for one another: AS-norm takes 1.4 times as long.
    """
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def add_vad_option(parser: argparse.ArgumentParser) -> None:
    """--vad."""
    parser.add_argument(
        "--vad",
        action="store_true",
        help="embed only what silero-vad takes for speech; none is an error, no-speech (pip install 'speakerkit[vad]')",
    )


def _channel(text: str) -> int | str:
    return "mix" if text == "mix" else _number(int, 0, 65535, text)


def _channel_or_random(text: str) -> int | str:
    return "random" if text == "random" else _channel(text)


def _max_bad(text: str) -> tuple[float, bool]:
    if text.endswith("%"):
        return _number(float, 0, 100, text[:-1]) / 100, True
    return _number(int, 0, 10**12, text), False


def add_audio_options(parser: argparse.ArgumentParser, max_bad: bool = True, random_channel: bool = False) -> None:
    """How recordings are read, and how many bad ones are left out.

    Args:
        max_bad: whether there is an option --max-bad.
        random_channel: whether --channel takes 'random' (where all else reads the first: ``audio_options``).
    """
    group = parser.add_argument_group("recordings")
    drawn = ", or one drawn for each chunk" if random_channel else ""
    group.add_argument(
        "--channel",
        type=_channel_or_random if random_channel else _channel,
        metavar="N|mix|random" if random_channel else "N|mix",
        help=f"the channel of multi-channel recordings, from 0, or their mean{drawn}; without it they are an error",
    )
    group.add_argument(
        "--pcm-rate",
        type=number(int, 1000, 384000),
        metavar="HZ",
        help="sample rate of raw .pcm files (16-bit little-endian)",
    )
    group.add_argument(
        "--min-duration",
        type=number(float, 0.025, 1e6),
        default=0.3,
        metavar="SECONDS",
        help="shorter recordings are bad (default: %(default)s)",
    )
    group.add_argument(
        "--accept-truncated", action="store_true", help="take what is there of recordings that break off"
    )
    group.add_argument(
        "--allow-pipes", action="store_true", help="run entries that begin or end in '|' as shell commands"
    )
    if max_bad:
        add_max_bad_option(group)


def add_max_bad_option(parser: argparse._ActionsContainer, what: str = "bad recordings") -> None:
    """--max-bad, which ``max_bad`` reads."""
    parser.add_argument(
        "--max-bad",
        type=_max_bad,
        default=(0, False),
        metavar="N|P%",
        help=f"leave out up to N (or P percent) {what} (default: 0)",
    )


def audio_options(args: argparse.Namespace):
    """``io.audio.AudioOptions`` from what add_audio_options added."""
    from speakerkit.io.audio import AudioOptions

    return AudioOptions(
        channel=0 if args.channel == "random" else args.channel,
        pcm_rate=args.pcm_rate,
        min_duration_s=args.min_duration,
        accept_truncated=args.accept_truncated,
        allow_pipes=args.allow_pipes,
    )


def max_bad(args: argparse.Namespace) -> Callable[[int], int]:
    """A function from the number of recordings to the number that may be bad."""
    value, is_share = args.max_bad
    return lambda total: int(value * total) if is_share else int(value)


def add_operating_point_options(
    parser: argparse.ArgumentParser,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
    fill_in: bool = True,
) -> None:
    """--p-target, --c-miss and --c-fa of the detection cost; without ``fill_in`` what isn't given is None."""
    group = parser.add_argument_group("operating point of minDCF")
    group.add_argument(
        "--p-target",
        type=number(float, 1e-9, 1 - 1e-9),
        default=p_target if fill_in else None,
        metavar="P",
        help=f"prior of a target trial (default: {p_target})",
    )
    group.add_argument(
        "--c-miss",
        type=number(float, 1e-9, 1e9),
        default=c_miss if fill_in else None,
        metavar="C",
        help=f"cost of a miss (default: {c_miss})",
    )
    group.add_argument(
        "--c-fa",
        type=number(float, 1e-9, 1e9),
        default=c_fa if fill_in else None,
        metavar="C",
        help=f"cost of a false alarm (default: {c_fa})",
    )


def command_line(args: argparse.Namespace) -> str:
    """The command as a shell takes it, without --max-bad, for the message that tells how to finish."""
    words, kept, skip = args.command_line, [], False
    for word in words:
        if not skip and word != "--max-bad" and not word.startswith("--max-bad="):
            kept.append(word)
        skip = word == "--max-bad"
    return shlex.join(kept)
