#!/usr/bin/env bash
# Train the model that comes with speakerkit, measure it, and put it with its card where commands find it.
# usage: recipes/bundled/run.sh --speech-dir DIR --teacher MODEL [options]
# DIR holds speechocean762's 125 speakers (openslr.org/101), one folder a speaker, and evaluation_speakers,
# the 40 that are held out. MODEL is the imported CAM++ of 200,000 speakers (README: the recommended model).
# Trained in three runs: with labels alone, from there with the teacher, and that once more from where it ended.
# Results: RESULTS.md beside this file.

set -euo pipefail
cd "$(dirname "$0")"
. ../stages.sh

stage=1
stop_stage=100
speech_dir=
teacher=
data_dir=data
exp_dir=exp/resnet34
config=../../conf/resnet34_bundled_teacher.toml
first_config=../../conf/resnet34_bundled.toml
output_dir=../../speakerkit/pretrained
name=speechocean-resnet34
commit=                                 # that the model was trained at; default: the checkout's
seed=1
nj=$(nproc)
device=auto
precision=auto
max_bad=0
overwrite=false
dry_run=false
parse_options "$@"

log_dir=$exp_dir/log
eval_dir=$exp_dir/eval
half=$exp_dir/$name.safetensors
first_dir=$exp_dir/first
second_dir=$exp_dir/second
[[ -n $speech_dir ]] || refuse "--speech-dir is missing; $recipe --help says what it holds"
[[ -n $teacher ]] || refuse "--teacher is missing; $recipe --help says which model it is"
replace=()
if $overwrite; then replace=(--overwrite); fi
say "expected: 0.3 GB of disk and, on 2 cores, 4 to 5 hours"

if stage 1 "prepare data"; then
  once "$data_dir/.prepared.done" python ../../local/prepare_mini.py --speech-dir "$speech_dir" "$data_dir/corpus" "$data_dir/train" "$data_dir/eval"
  once "$data_dir/.paired.done" python ../../local/pair_trials.py "$data_dir/eval" "$data_dir/eval/trials.pairs"
fi

if stage 2 "fbank with speed perturbation"; then
  say "features are made while training: every chunk gets its own noise and room"
fi

if stage 3 "train the network"; then
  options=(--device "$device" --precision "$precision" --nj "$nj" --max-bad "$max_bad" "${replace[@]}"
    --domain "read English of native Mandarin speakers, children and adults, 16 kHz, close microphones"
    --licence "Apache-2.0; the training speech is CC BY 4.0")
  speech="speechocean762 (OpenSLR 101, CC BY 4.0): 1,700 utterances of 85 speakers, 2 h"
  once "$first_dir/.trained.done" train-model --config "$first_config" --seed "$seed" "${options[@]}" \
    --training-data "$speech, at speeds 0.9, 1.0 and 1.1" "$data_dir/train" "$first_dir"
  once "$first_dir/.halved.done" python ../../local/package_model.py "$first_dir/model.safetensors" "$first_dir/$name.safetensors"
  taught="$speech, at speeds 0.8 to 1.2 through 3 vocal tracts"
  once "$second_dir/.trained.done" train-model --config "$config" --seed "$seed" "${options[@]}" \
    --init "$first_dir/$name.safetensors" --teacher "$teacher" --training-data "$taught" "$data_dir/train" "$second_dir"
  once "$second_dir/.halved.done" python ../../local/package_model.py "$second_dir/model.safetensors" "$second_dir/$name.safetensors"
  once "$exp_dir/.trained.done" train-model --config "$config" --seed $((seed + 1)) "${options[@]}" \
    --init "$second_dir/$name.safetensors" --teacher "$teacher" --training-data "$taught" "$data_dir/train" "$exp_dir"
fi

# What is measured is the model as it is given away: at half precision, run in float32.
if stage 4 "extract embeddings"; then
  once "$exp_dir/.halved.done" python ../../local/package_model.py "$exp_dir/model.safetensors" "$half"
  once "$eval_dir/.extracted.done" extract-embeddings --model "$half" --device "$device" --precision float32 \
    --nj "$nj" --max-bad "$max_bad" "${replace[@]}" "$data_dir/eval/wav.scp" "$eval_dir/emb.ark"
fi

if stage 5 "score trials"; then
  once "$eval_dir/.pairs.done" score-trials "${replace[@]}" --output "$eval_dir/pairs.scores" --json "$eval_dir/pairs.json" \
    "$data_dir/eval/trials.pairs" "$eval_dir/emb.ark"
  once "$eval_dir/.mean.done" score-trials "${replace[@]}" --output "$eval_dir/mean.scores" --json "$eval_dir/mean.json" \
    --enrol-map "$data_dir/eval/enroll.map" "$data_dir/eval/trials" "$eval_dir/emb.ark"
fi

if stage 6 "results"; then
  once "$eval_dir/.reported.done" python ../../local/report_results.py \
    --scored "one recording against one" "$data_dir/eval/trials.pairs" "$eval_dir/pairs.scores" "$eval_dir/pairs.json" \
    --scored "mean of three against one" "$data_dir/eval/trials" "$eval_dir/mean.scores" "$eval_dir/mean.json" \
    "$eval_dir/results.md" "$eval_dir/det.png"
  always cat "$eval_dir/results.md"
  once "$exp_dir/.packaged.done" python ../../local/package_model.py --text card.md --commit "$commit" \
    --command "recipes/bundled/run.sh --speech-dir DIR --teacher MODEL" \
    --calibrate "$data_dir/eval/trials.pairs" "$eval_dir/pairs.scores" \
    --result "one recording against one, 40 speakers" "$eval_dir/pairs.json" \
    --result "mean of three against one, 40 speakers" "$eval_dir/mean.json" \
    "$exp_dir/model.safetensors" "$output_dir/$name.safetensors"
fi
