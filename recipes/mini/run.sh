#!/usr/bin/env bash
# Train and score a small speaker verification system, end to end, on a processor in minutes.
# usage: recipes/mini/run.sh [options]
# The talkers are artificial: their error rates show that everything works, nothing more. Real
# recordings, one folder a speaker: recipes/mini/run.sh --speech-dir DIR --data-dir D --exp-dir E

set -euo pipefail
cd "$(dirname "$0")"
. ../stages.sh

stage=1
stop_stage=100
corpus_dir=../../corpora/mini           # where the talkers are written
speech_dir=                             # DIR/SPEAKER/RECORDING.flac instead of artificial talkers
data_dir=data
exp_dir=exp/resnet34_small
config=../../conf/resnet34_small.toml
features=compressed                     # or stored (float32), or fly (made while training)
speeds=0.9,1.0,1.1
seed=1
nj=$(nproc)
device=auto
precision=auto
max_bad=0                               # recordings, or a share as in 1%
allow_pipes=false
overwrite=false                         # replace what other options made
dry_run=false
parse_options "$@"

log_dir=$exp_dir/log
eval_dir=$exp_dir/eval
recordings=(--nj "$nj" --max-bad "$max_bad")
if $allow_pipes; then recordings+=(--allow-pipes); fi
replace=()
if $overwrite; then replace=(--overwrite); fi
compress=(--compress)
train_dir=$data_dir/train_fbank
case $features in
  fly) train_dir=$data_dir/train ;;
  stored) compress=() ;;
  compressed) ;;
  *) refuse "--features is '$features'; want fly, compressed or stored" ;;
esac
source=(--seed "$seed")
training_data="artificial talkers (local/synthesise_talkers.py)"
if [[ -n $speech_dir ]]; then
  source=(--speech-dir "$speech_dir")
  training_data="recordings in $speech_dir"
fi
say "expected: 0.4 GB of disk ($(df -h --output=avail . | tail -n 1 | tr -d ' ') are free) and, on 2 cores, about 6 minutes"

if stage 1 "prepare data"; then
  once "$data_dir/.prepared.done" python ../../local/prepare_mini.py "${source[@]}" "$corpus_dir" "$data_dir/train" "$data_dir/eval"
fi

if stage 2 "fbank with speed perturbation"; then
  if [[ $features == fly ]]; then
    say "features are made while training"
  else
    once "$data_dir/.fbank.done" make-fbank --config "$config" --speeds "$speeds" "${recordings[@]}" "${replace[@]}" \
      "${compress[@]}" --output-dir "$train_dir" "$data_dir/train"
  fi
fi

if stage 3 "train the network"; then
  once "$exp_dir/.trained.done" train-model --config "$config" --seed "$seed" --device "$device" --precision "$precision" \
    "${recordings[@]}" "${replace[@]}" --name mini --training-data "$training_data" "$train_dir" "$exp_dir"
fi

if stage 4 "extract embeddings"; then
  once "$eval_dir/.extracted.done" extract-embeddings --model "$exp_dir" --device "$device" --precision "$precision" \
    "${recordings[@]}" "${replace[@]}" "$data_dir/eval/wav.scp" "$eval_dir/emb.ark"
fi

if stage 5 "score trials"; then
  once "$eval_dir/.scored.done" score-trials --enrol-map "$data_dir/eval/enroll.map" "${replace[@]}" \
    --output "$eval_dir/scores" --json "$eval_dir/result.json" "$data_dir/eval/trials" "$eval_dir/emb.ark"
fi

if stage 6 "results"; then
  once "$eval_dir/.reported.done" python ../../local/report_results.py --seconds "$SECONDS" \
    --scored mini "$data_dir/eval/trials" "$eval_dir/scores" "$eval_dir/result.json" \
    "$eval_dir/results.md" "$eval_dir/det.png"
  always cat "$eval_dir/results.md"
  # Two recordings of one speaker, for the model that comes with speakerkit and knows real speech only.
  pair=(RECORDING RECORDING)
  if [[ -f $data_dir/eval/pair ]]; then mapfile -t pair < "$data_dir/eval/pair"; fi
  once "$eval_dir/.verified.done" verify-speakers --device "$device" --json "$eval_dir/pair.json" "${pair[@]}"
fi
