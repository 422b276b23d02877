#!/usr/bin/env bash
# CN-Celeb 1 and 2 from the corpora to the error rates of a ResNet34 by every published protocol.
# usage: recipes/cnceleb/run.sh --corpus-dir DIR [options]
# DIR holds CN-Celeb_flac and CN-Celeb2_flac (openslr.org/82) or the archives that unpack to them; --download
# fetches what is missing. Results: RESULTS.md beside this file.

set -euo pipefail
cd "$(dirname "$0")"
. ../stages.sh

stage=1
stop_stage=100
corpus_dir=../../corpora/cnceleb
download=false                          # fetch the corpora first, CC BY-SA 4.0; the space it takes is told
data_dir=data
exp_dir=exp/resnet34
config=../../conf/resnet34.toml
train_sets=both                         # or cnceleb1: CN-Celeb1 dev without CN-Celeb2
join_below=auto                         # s; shorter ones of a speaker and genre are joined; auto: 5, reference: 0
require_published=false                 # refuse corpora whose counts aren't the published ones
features=fly                            # made while training; or compressed or stored (float32), made before
speeds=0.9,1.0,1.1                      # of features made before; on the fly the configuration's count
seed=1
replicates=1000                         # of the bootstrap on the result cards; 0: no confidence intervals
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
card=(--model "$exp_dir" --replicates "$replicates" --seed "$seed" --card)
prepare=(--train-sets "$train_sets" --nj "$nj")
if $require_published; then prepare+=(--require-published); fi
if [[ $join_below == auto ]]; then
  join_below=5
  if [[ $(basename "$config") == *reference* ]]; then join_below=0; fi
fi
compress=(--compress)
train_dir=$data_dir/train_fbank
case $features in
  fly) train_dir=$data_dir/train ;;
  stored) compress=() ;;
  compressed) ;;
  *) refuse "--features is '$features'; want fly, compressed or stored" ;;
esac

if $download; then
  always python ../../local/download_corpus.py archives.toml "$corpus_dir"
elif ! $dry_run; then
  python ../../local/download_corpus.py --offline archives.toml "$corpus_dir"  # unpacks archives that are there
fi
python ../../local/expect_cost.py --config "$config" --features "$features" --train-sets "$train_sets" "$corpus_dir" "$exp_dir"

if stage 1 "prepare data"; then
  once "$data_dir/.prepared.done" python ../../local/prepare_cnceleb.py "${prepare[@]}" --join-below "$join_below" \
    "$corpus_dir" "$data_dir/train" "$data_dir/eval"
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
    "${recordings[@]}" "${replace[@]}" --training-data "CN-Celeb ($train_sets)" --domain "Chinese speech, 11 genres, 16 kHz" \
    "$train_dir" "$exp_dir"
fi

if stage 4 "extract embeddings"; then
  once "$eval_dir/.extracted.done" extract-embeddings --model "$exp_dir" --device "$device" --precision "$precision" \
    "${recordings[@]}" "${replace[@]}" "$data_dir/eval/wav.scp" "$eval_dir/emb.ark"
fi

# All trials, enrolled by the concatenated file and by the mean of its sources' embeddings; and the
# trials of genre speech at the reference system's operating point. Then by genre and by length.
if stage 5 "score trials"; then
  once "$eval_dir/.concat.done" score-trials "${replace[@]}" "${card[@]}" "$eval_dir/concat.card" \
    --protocol-name "CN-Celeb.E, all trials, enrolment by the concatenated file" --output "$eval_dir/concat.scores" \
    --json "$eval_dir/concat.json" "$data_dir/eval/trials" "$eval_dir/emb.ark"
  once "$eval_dir/.mean.done" score-trials "${replace[@]}" "${card[@]}" "$eval_dir/mean.card" \
    --protocol-name "CN-Celeb.E, all trials, enrolment by the mean of its utterances" --output "$eval_dir/mean.scores" \
    --json "$eval_dir/mean.json" --enrol-map "$data_dir/eval/enroll.map" "$data_dir/eval/trials" "$eval_dir/emb.ark"
  once "$eval_dir/.speech.done" score-trials "${replace[@]}" "${card[@]}" "$eval_dir/speech.card" \
    --protocol-name "CN-Celeb.E, test genre speech, enrolment by the concatenated file" --output "$eval_dir/speech.scores" \
    --json "$eval_dir/speech.json" --c-miss 10 "$data_dir/eval/trials.speech" "$eval_dir/emb.ark"
  for form in concat mean; do
    once "$eval_dir/.$form.broken-down.done" break-down-results --by enrol="$data_dir/eval/utt2genre" test="$data_dir/eval/utt2genre" \
      --by test="$data_dir/eval/utt2dur:2,5,10" --by enrol="$data_dir/eval/utt2dur:10,20,30" \
      --enrol-map "$data_dir/eval/enroll.map" --markdown "$eval_dir/$form.conditions.md" --json "$eval_dir/$form.conditions.json" \
      "$data_dir/eval/trials" "$eval_dir/$form.scores" > /dev/null
  done
fi

if stage 6 "results"; then
  once "$eval_dir/.reported.done" python ../../local/report_results.py --seconds "$SECONDS" \
    --scored "all, concatenated" "$data_dir/eval/trials" "$eval_dir/concat.scores" "$eval_dir/concat.json" \
    --scored "all, mean" "$data_dir/eval/trials" "$eval_dir/mean.scores" "$eval_dir/mean.json" \
    --scored "speech, concatenated" "$data_dir/eval/trials.speech" "$eval_dir/speech.scores" "$eval_dir/speech.json" \
    "$eval_dir/results.md" "$eval_dir/det.png"
  always cat "$eval_dir/results.md"
  say "result cards: $(realpath -m "$eval_dir")/{concat,mean,speech}.card.md; by genre and length: {concat,mean}.conditions.md" "The reference's own scripts say of the speech trials:"
  always compute-metrics --convention reference "$data_dir/eval/trials.speech" "$eval_dir/speech.scores"
fi
