"""train-model: learn a speaker network from a data directory."""

import argparse

from speakerkit.cli import entry
from speakerkit.errors import ConfigError

FORMATS = """\
TRAIN_DIR holds utt2spk ('<utt-id> <spk-id>' a line) and feats.scp with utt2num_frames, or wav.scp
('<utt-id> <path>' a line): features are then made while training, with the configuration's
[augmentation]; local/pack_audio.py packs recordings, which are then read faster. EXP_DIR gets
checkpoints/, best/, train.log, train_log.tsv, training_curve.png and model.safetensors; with --init and
--valid-trials also before_after.md, what training has brought. A started EXP_DIR goes on where it
stopped, exactly. --num-processes share the --nj cores: each takes its part of every batch (on GPUs, one
GPU), and batch norm sees that part; processes that torchrun or a cluster's
launcher starts (RANK, WORLD_SIZE) work together in the same way."""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "train-model",
        summary="Train a speaker network with additive angular margin softmax.",
        example="train-model --config conf/resnet34.toml --nj 2 data/train exp/resnet34",
        formats=FORMATS,
    )
    parser.add_argument("train_dir", metavar="TRAIN_DIR", help="data directory of the training speakers")
    parser.add_argument("exp_dir", metavar="EXP_DIR", help="where the run lives")
    entry.add_config_option(parser, required=True)
    parser.add_argument(
        "--valid-dir", metavar="DIR", help="held-out data directory (wav.scp) for an EER while training"
    )
    parser.add_argument("--valid-trials", metavar="FILE", help="labelled trials between its utterances")
    parser.add_argument(
        "--init", metavar="MODEL",
        help="begin with this model's network (fine-tuning); of an experiment folder also its classes' weights",
    )
    parser.add_argument(
        "--teacher", metavar="MODEL",
        help="also draw embeddings to this model's; [loss] teacher_weight says how strongly",
    )
    parser.add_argument("--name", default="", help="the model's name (default: EXP_DIR's)")
    parser.add_argument(
        "--training-data", default="", metavar="TEXT", help="words on the training data, kept in the model file"
    )
    parser.add_argument("--domain", default="", metavar="TEXT", help="words on the speech it is for")
    parser.add_argument("--licence", default="", metavar="TEXT", help="licence of the weights")
    entry.add_device_options(parser)
    entry.add_nj_option(parser)
    parser.add_argument(
        "--num-processes", type=entry.number(int, 1, 4096), metavar="N",
        help="processes that share each batch and sum their gradients (default: on CPUs one a core with 32 samples or "
        "more each, on GPUs 1; a started run keeps its number)",
    )
    entry.add_seed_option(parser)
    entry.add_output_options(parser)
    entry.add_audio_options(parser, random_channel=True)
    return entry.run(parser, train_model, argv)


def train_model(args: argparse.Namespace) -> None:
    from speakerkit.config import read_system

    if bool(args.valid_dir) != bool(args.valid_trials):
        raise ConfigError("--valid-dir and --valid-trials go together")
    system = read_system(args.config)
    from speakerkit.training import train

    options = train.TrainOptions(
        seed=args.seed,
        device=args.device,
        precision=args.precision,
        nj=args.nj,
        num_processes=args.num_processes,
        valid_dir=args.valid_dir,
        valid_trials=args.valid_trials,
        init=args.init,
        teacher=args.teacher,
        overwrite=args.overwrite,
        show=not args.quiet,
        rerun=entry.command_line(args),
        name=args.name,
        training_data=args.training_data,
        domain=args.domain,
        licence=args.licence,
        random_channel=args.channel == "random",
    )
    train.train_model(
        args.train_dir, args.exp_dir, system, options, entry.audio_options(args), entry.max_bad(args), args.report
    )
