"""model-info: what a model file or a training configuration is."""

import argparse
import dataclasses

from speakerkit.cli import entry
from speakerkit.errors import ConfigError

FORMATS = """\
A name and a value a line; num_parameters are the learnable ones without the classification layer, num_values
the same with batch norm's running statistics, golden_cosine how well this machine meets the embedding that the
file holds of a fixed signal (1 is exact)."""
NOT_SHOWN = ("fbank", "network", "system")  # whole sections: they stand in --json, and front_end says them in words


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "model-info",
        summary="Tell what a model is: architecture, sizes, training data, licence, threshold, front end.",
        example="model-info conf/resnet34_reference.toml --num-classes 3465",
        formats=FORMATS,
    )
    parser.add_argument("model", metavar="MODEL", nargs="?",
                        help="a .safetensors or .onnx file, an experiment folder, the name of a bundled or published "
                             "model or a training configuration (*.toml); without it $SPEAKERKIT_MODEL, else the "
                             "bundled model")
    parser.add_argument("--num-classes", type=entry.number(int, 2, 10**9), metavar="N",
                        help="also count a classification layer of N speakers")
    parser.add_argument("--published", action="store_true",
                        help="list the published models that --model knows by name: licence, hub, repository")
    return entry.run(parser, model_info, argv)


def model_info(args: argparse.Namespace) -> None:
    if args.published:
        list_published(args)
        return
    from speakerkit.models import description

    description.describe(args.model, args.report, args.num_classes)
    if args.report["kind"] == "ONNX model":
        from speakerkit.inference.backends import load_extractor

        args.report["golden_cosine"] = load_extractor(args.model).golden_cosine
    for name, value in lines_of(args.report):
        print(name, value)


def list_published(args: argparse.Namespace) -> None:
    """The catalogue of published models, a line each."""
    from speakerkit.models.published import catalogue

    if args.model is not None:
        raise ConfigError(f"--published takes no model; leave out '{args.model}'")
    args.report["published"] = [dataclasses.asdict(published) for published in catalogue.CATALOGUE]
    for published in catalogue.CATALOGUE:
        print(f"{published.name:<28} {published.licence:<16} {published.hub}: {published.repository}")


def lines_of(facts: dict, prefix: str = "") -> list[tuple[str, str]]:
    """Facts as (name, text), tables inside them with dotted names."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [] if key in NOT_SHOWN else lines_of(value, f"{prefix}{key}.")
        elif isinstance(value, float):
            lines.append((prefix + key, f"{value:.7g}"))
        elif isinstance(value, bool):
            lines.append((prefix + key, "yes" if value else "no"))
        else:
            lines.append((prefix + key, "not stated" if value is None else " ".join(str(value).split())))
    return lines
