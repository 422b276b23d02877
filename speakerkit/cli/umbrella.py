"""speakerkit: every command as a verb of one."""

import importlib
import sys

from speakerkit import __version__

# verb -> module of speakerkit.cli, one line of help
VERBS = {
    "validate-data": ("validate_data", "check a Kaldi data directory; every fault as file:line"),
    "check-audio": ("check_audio", "noise, clipping, band and level of recordings; what ruins embeddings"),
    "make-fbank": ("make_fbank", "log-mel filterbank features of a data directory, with speed perturbation"),
    "train-model": ("train_model", "train a speaker network; a stopped run goes on"),
    "extract-embeddings": ("extract_embeddings", "one embedding a recording, wav.scp to ark/scp"),
    "score-trials": ("score_trials", "cosine scores for a list of trials"),
    "score-all-pairs": ("score_all_pairs", "all pairs of embeddings: the closest ones, exact metrics"),
    "normalize-scores": ("normalize_scores", "adaptive score normalisation (AS-norm) by a cohort"),
    "compute-metrics": ("compute_metrics", "EER and minDCF of scored trials"),
    "compare-results": ("compare_results", "two systems on the same trials, with a paired bootstrap test"),
    "calibrate-scores": ("calibrate_scores", "fit the map from scores to log-likelihood ratios"),
    "break-down-results": ("break_down_results", "EER and minDCF by genre, duration, gender, room, ..."),
    "plot-det": ("plot_det", "DET curves of one or several systems, PNG or SVG"),
    "eval-eer": ("eval_eer", "EER and minDCF of a model on the cnceleb-eval tarball or folder"),
    "verify-speakers": ("verify_speakers", "are two recordings of the same person?"),
    "enrol-speakers": ("enrol_speakers", "keep people's voices in a file"),
    "identify-speaker": ("identify_speaker", "whose of these voices is a recording?"),
    "import-model": ("import_model", "a published checkpoint as a model of ours"),
    "export-onnx": ("export_onnx", "a model as ONNX: samples in, embedding out"),
    "model-info": ("model_info", "what a model file or a training configuration is"),
}


def usage() -> str:
    """The umbrella's help: every verb with its line."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {VERBS[verb][1]}" for verb in VERBS]
    return "\n".join(
        [
            "usage: speakerkit VERB [options]",
            "",
            "Speaker verification: from recordings to embeddings, scores and error rates.",
            "",
            *lines,
            "",
            "Each verb is also a command of its own: speakerkit score-trials ... is score-trials ...",
            "speakerkit VERB --help tells the rest.",
            "",
            "example:",
            "  speakerkit verify-speakers a.wav b.wav",
            "",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("--help", "help"):
        print(usage(), end="")
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"speakerkit {__version__}")
        return 0
    if argv[0] not in VERBS:
        import difflib

        near = difflib.get_close_matches(argv[0], VERBS, n=1)
        print(
            f"speakerkit: unknown verb '{argv[0]}'"
            + (f"; did you mean '{near[0]}'?" if near else "")
            + "; speakerkit --help lists all",
            file=sys.stderr,
        )
        return 2
    module = importlib.import_module(f"speakerkit.cli.{VERBS[argv[0]][0]}")
    return module.main(argv[1:])
