"""import-model: a published checkpoint as a model of ours."""

import argparse

from speakerkit.cli import entry

FORMATS = """\
FILE is a state dictionary as torch.save or safetensors wrote it; only tensors are read from it, and code in it is
refused. FOLDER is what a hub sent or a trainer wrote: the checkpoint in it is found (of several, the line that tells
them wants one named). A configuration beside the checkpoint (config.yaml, hyperparams.yaml, sv.yaml,
configuration.json) is read for whose it is and its front end, and said. OUT.safetensors holds the same weights
under our names with the front end that belongs to them."""
SOURCES = ("reference", "wespeaker", "3dspeaker", "speechbrain")


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "import-model",
        summary="Make a model file of a checkpoint that the reference system, WeSpeaker, 3D-Speaker or SpeechBrain "
                "published.",
        example="import-model --from 3dspeaker campplus_cn_en_common.pt campplus.safetensors",
        formats=FORMATS,
    )
    parser.add_argument("checkpoint", metavar="FILE|FOLDER", help="the published checkpoint, or a folder with one")
    parser.add_argument("output", metavar="OUT.safetensors", help="the model file to write")
    parser.add_argument("--from", dest="source", choices=SOURCES,
                        help="whose checkpoint it is: that decides the front end (default: told by its keys)")
    parser.add_argument("--config", metavar="YAML", help="the published model's own configuration: "
                        "whose it is, and its front end (default: one beside the checkpoint; needs the extra 'import')")
    parser.add_argument("--name", default="", help="the model's name (default: OUT)")
    parser.add_argument("--training-data", default="", metavar="TEXT", help="words on the training data, to be kept")
    parser.add_argument("--domain", default="", metavar="TEXT", help="words on the speech it is for")
    parser.add_argument("--licence", default="", metavar="TEXT", help="licence of the weights")
    entry.add_output_options(parser)
    return entry.run(parser, import_model, argv)


def import_model(args: argparse.Namespace) -> None:
    from speakerkit.jobs import import_checkpoint

    options = import_checkpoint.ImportOptions(
        source=args.source,
        config=args.config,
        name=args.name,
        training_data=args.training_data,
        domain=args.domain,
        licence=args.licence,
        overwrite=args.overwrite,
    )
    import_checkpoint.import_checkpoint(args.checkpoint, args.output, options, args.report)
    for name in ("architecture", "imported_from", "embedding_dim", "num_parameters", "weights_sha256"):
        print(name, args.report[name])
