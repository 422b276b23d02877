"""export-onnx: a model as one ONNX file, samples in and embedding out."""

import argparse

from speakerkit.cli import entry
from speakerkit.errors import ConfigError

FORMATS = """\
out.onnx     one graph with the front end inside, batch norm folded, float32; its metadata hold all that the model
             file says of itself, and every command takes it as --model, without torch
input        'samples', float32 (batch, num_samples) in [-1, 1], one channel, at the model's rate (sample_rate in the
             metadata); any length from one frame on. Shorter utterances of a batch are padded with NaN at their end
output       'embedding', float32 (batch, embedding_dim), not length-normalised

list         '<utt-id> <path>' lines: some hundred recordings such as the model will hear; the ranges of what each
             convolution sees on them become its scale. int8 moves embeddings more than bfloat16 does: compare EERs
             (eval-eer, or extract-embeddings and score-trials, with both files) before you rely on it

In Python, without speakerkit:
  session = onnxruntime.InferenceSession("out.onnx")
  samples, rate = soundfile.read("a.wav", dtype="float32")
  embedding = session.run(None, {"samples": samples[None]})[0][0]"""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "export-onnx",
        summary="Write a model as ONNX: raw samples in, embedding out, for any ONNX runtime.",
        example="export-onnx exp/resnet34 resnet34.onnx",
        formats=FORMATS,
    )
    parser.add_argument("model", metavar="MODEL",
                        help="a .safetensors file, an experiment folder or a bundled model's name")
    parser.add_argument("output", metavar="out.onnx", help="the file to write")
    parser.add_argument("--quantise", choices=("int8",), help="convolutions in int8; needs --calibration-list")
    parser.add_argument("--calibration-list", metavar="wav.scp", help="recordings that the ranges are measured on")
    entry.add_output_options(parser)
    return entry.run(parser, export_onnx, argv)


def export_onnx(args: argparse.Namespace) -> None:
    if bool(args.quantise) != bool(args.calibration_list):
        raise ConfigError("--quantise and --calibration-list go together")
    from speakerkit.jobs import model_export

    model_export.export_model(args.model, args.output, args.overwrite, args.report, args.calibration_list)
