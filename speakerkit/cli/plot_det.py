"""plot-det: DET curves of scored trials."""

import argparse

from speakerkit.cli import card_options, entry, score_files


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "plot-det",
        summary="Draw DET curves of one or several systems, EER and minDCF marked, 95 % intervals shaded; "
                "print the numbers.",
        example="plot-det data/eval/trials exp/a/scores exp/b/scores det.svg --names 'ResNet34' 'CAM++'",
        formats=score_files.FORMATS + "  picture     its ending says which kind: .png or .svg\n")
    parser.add_argument("trials", help="the labelled list; without scores after it, a score file with labels")
    parser.add_argument("scores", nargs="*", help="a score file a system")
    parser.add_argument("picture", help="where it is drawn")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="what the systems are called (default: their files)")
    parser.add_argument("--point", action="append", type=_point, metavar="P_TARGET,C_MISS,C_FA",
                        help="mark minDCF at this operating point; may be repeated (default: 0.01,1,1 and 0.001,1,1)")
    parser.add_argument("--title", default="", help="above the picture")
    card_options.add_bootstrap_options(parser.add_argument_group("shaded 95 % intervals of the misses"), 200)
    entry.add_output_options(parser)
    score_files.add_format_options(parser)
    return entry.run(parser, plot_det, argv)


def _point(text: str) -> tuple[float, ...]:
    fields = text.split(",")
    if len(fields) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not P_TARGET,C_MISS,C_FA")
    costs = map(entry.number(float, 1e-9, 1e9), fields[1:])
    return entry.number(float, 1e-9, 1 - 1e-9)(fields[0]), *costs


def plot_det(args: argparse.Namespace) -> None:
    from speakerkit.jobs import det_plot, scoring

    card_options.refuse_few_replicates(args.replicates)
    trials, scores = (args.trials, args.scores) if args.scores else (None, [args.trials])
    points = tuple(scoring.OperatingPoint(*point) for point in args.point) if args.point else det_plot.USUAL_POINTS
    options = det_plot.DetPlotOptions(tuple(args.names) if args.names else None, points, args.title,
                                      score_files.reading_options(args), args.replicates, args.seed, args.utt2spk)
    det_plot.plot_det(trials, scores, args.picture, options, args.report, args.overwrite)
    print(det_plot.format_systems(args.report), end="")
