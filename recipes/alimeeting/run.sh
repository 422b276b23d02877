#!/usr/bin/env bash
# AliMeeting from the unpacked corpus to the error rates of its verification protocol.
# usage: recipes/alimeeting/run.sh --corpus-dir DIR [--training both --cnceleb-dir DIR] [options]
# DIR holds Train_Ali_far, Train_Ali_near, Eval_Ali and Test_Ali (openslr.org/119). What is trained on and
# tested is defined in RESULTS.md beside this file, with the results.

set -euo pipefail
cd "$(dirname "$0")"
. ../stages.sh

stage=1
stop_stage=100
corpus_dir=../../corpora/alimeeting
cnceleb_dir=../../corpora/cnceleb       # holds CN-Celeb_flac and CN-Celeb2_flac; for --training both or reference
download=false                          # AliMeeting's 108 GiB, and CN-Celeb where it is trained on
data_dir=data
exp_dir=exp/resnet34
config=                                 # conf/resnet34.toml; of the reference conf/resnet34_reference.toml
training=alimeeting                     # or both: with CN-Celeb 1 and 2; or reference: its 3,465 classes
model=                                  # score this one instead of training one
fields=far,near                         # or one of them, where the other isn't there
segments=stretches                      # or whole: annotated segments that overlap nothing
min_duration=2.0                        # seconds of a training utterance
max_duration=20.0                       # longer ones are cut
train_channel=random                    # of the array's 8, drawn for each chunk; or a number, or mix
eval_channel=0                          # a number, or mix
trial_duration=3.0                      # seconds of a stretch in a trial; the protocol's is 3
features=fly                            # made while training; or compressed or stored (float32), made before
speeds=0.9,1.0,1.1                      # of features made before; on the fly the configuration's count
seed=1
nj=$(nproc)
device=auto
precision=auto
max_bad=0                               # recordings or sessions, or a share as in 1%
allow_pipes=false
overwrite=false                         # replace what other options made
dry_run=false
parse_options "$@"

log_dir=$exp_dir/log
eval_dir=$exp_dir/eval
protocol=$data_dir/protocol
bad=(--max-bad "$max_bad")
recordings=(--nj "$nj" "${bad[@]}")
if $allow_pipes; then recordings+=(--allow-pipes); fi
replace=()
if $overwrite; then replace=(--overwrite); fi
compress=(--compress)
if [[ $features == stored ]]; then compress=(); fi
case $features in
  fly | stored | compressed) ;;
  *) refuse "--features is '$features'; want fly, compressed or stored" ;;
esac
[[ $features == fly || $train_channel != random ]] ||
  refuse "--features $features are made of one channel; give --train-channel N or mix"
case $fields in
  far | near) conditions=("$fields-$fields") ;;
  far,near) conditions=(far-far near-near near-far) ;;
  *) refuse "--fields is '$fields'; want far,near or one of them" ;;
esac
tested=(test heldout)
reading=(--fields "$fields" "${bad[@]}")
combined=$data_dir/train
cut=(--segments "$segments" --min-duration "$min_duration" --max-duration "$max_duration")
cost=(--alimeeting-dir "$corpus_dir")
trained_on="AliMeeting Train without the held-out part"
case $training in
  alimeeting) cost+=(--train-sets none) ;;
  both)
    combined=$data_dir/train_all
    trained_on="CN-Celeb 1 and 2, $trained_on"
    ;;
  reference) # per-meeting classes of all of Train and Eval, by the array, and 33 speakers of CN-Celeb not
    combined=$data_dir/train_all
    config=${config:-../../conf/resnet34_reference.toml}
    train_channel=0
    cut=(--segments stretches --min-duration 2.0 --labels meetings)
    reading+=(--held-out 0)
    tested=(test)  # the other part's speakers are trained on
    trained_on="CN-Celeb 1 and 2, AliMeeting Train and Eval, as the 3,465 classes of the reference system"
    ;;
  *) refuse "--training is '$training'; want alimeeting, both or reference" ;;
esac
config=${config:-../../conf/resnet34.toml}
train_dir=$combined
if [[ $features != fly ]]; then train_dir=${combined}_fbank; fi
lists=()
for part in "${tested[@]}"; do
  lists+=("${conditions[@]/#/$part.}")
done

if $download; then
  always python ../../local/download_corpus.py archives.toml "$corpus_dir"
  if [[ $training != alimeeting ]]; then
    always python ../../local/download_corpus.py ../cnceleb/archives.toml "$cnceleb_dir"
  fi
fi
if [[ -z $model ]]; then
  python ../../local/expect_cost.py --config "$config" --features "$features" "${cost[@]}" "$cnceleb_dir" "$exp_dir"
fi

if stage 1 "prepare data"; then
  once "$protocol/.listed.done" python ../../local/list_alimeeting_trials.py --min-duration "$trial_duration" "${reading[@]}" "$corpus_dir" "$protocol"
  if [[ $training == reference ]]; then
    once "$data_dir/.prepared.done" python ../../local/prepare_alimeeting.py "${cut[@]}" --fields far --held-out 0 \
      --keep-defective "${bad[@]}" "$corpus_dir" "$data_dir"
  else
    once "$data_dir/.prepared.done" python ../../local/prepare_alimeeting.py "${cut[@]}" "${reading[@]}" "$corpus_dir" "$data_dir"
  fi
  if [[ $training != alimeeting ]]; then
    join_below=5                          # s, as in the CN-Celeb recipe; the reference's set isn't joined
    if [[ $training == reference ]]; then join_below=0; fi
    once "$data_dir/cnceleb/.prepared.done" python ../../local/prepare_cnceleb.py --join-below "$join_below" \
      "$cnceleb_dir" "$data_dir/cnceleb/train" "$data_dir/cnceleb/eval"
  fi
  case $training in
    both) once "$combined/.combined.done" python ../../local/combine_data.py "$combined" "$data_dir/cnceleb/train" "$data_dir/train" ;;
    reference) once "$combined/.combined.done" python ../../local/combine_data.py --without-speakers absent_in_reference \
      --expect-speakers 3465 "$combined" "$data_dir/cnceleb/train" "$data_dir/train" "$data_dir/eval" ;;
  esac
fi

if stage 2 "fbank with speed perturbation"; then
  if [[ $features == fly || -n $model ]]; then
    say "features are made while training"
  else
    once "$data_dir/.fbank.done" make-fbank --config "$config" --speeds "$speeds" --channel "$train_channel" \
      "${recordings[@]}" "${replace[@]}" "${compress[@]}" --output-dir "$train_dir" "$combined"
  fi
fi

if stage 3 "train the network"; then
  if [[ -n $model ]]; then
    say "$model is scored; nothing is trained"
  else
    once "$exp_dir/.trained.done" train-model --config "$config" --seed "$seed" --device "$device" --precision "$precision" \
      --channel "$train_channel" "${recordings[@]}" "${replace[@]}" --training-data "$trained_on" \
      --domain "Mandarin meetings, near and far microphones, 16 kHz" "$train_dir" "$exp_dir"
  fi
fi

if stage 4 "extract embeddings"; then
  for field in ${fields//,/ }; do
    channel=()
    if [[ $field == far ]]; then channel=(--channel "$eval_channel"); fi
    once "$eval_dir/.extracted_$field.done" extract-embeddings --model "${model:-$exp_dir}" --device "$device" --precision "$precision" \
      "${recordings[@]}" "${replace[@]}" "${channel[@]}" --segments "$protocol/$field/segments" "$protocol/$field/wav.scp" "$eval_dir/$field.ark"
  done
fi

# Each list as a whole, and its targets against nontargets of the same session, of others, of the same room.
if stage 5 "score trials"; then
  for list in "${lists[@]}"; do
    condition=${list#*.}
    once "$eval_dir/.$list.done" score-trials "${replace[@]}" --output "$eval_dir/$list.scores" --json "$eval_dir/$list.json" \
      --enrol-embeddings "$eval_dir/${condition%-*}.ark" "$protocol/$list" "$eval_dir/${condition#*-}.ark"
    once "$eval_dir/.$list.breakdown.done" break-down-results --nontargets-by pair="$protocol/utt2session" \
      --nontargets-by pair="$protocol/utt2room" --by test="$protocol/utt2room" --by test="$protocol/utt2session" \
      --by enrol="$protocol/utt2gender" test="$protocol/utt2gender" --by test="$protocol/utt2dur":4,6,10 \
      --json "$eval_dir/$list.breakdown.json" --markdown "$eval_dir/$list.breakdown.md" "$protocol/$list" "$eval_dir/$list.scores" > /dev/null
  done
fi

if stage 6 "results"; then
  scored=()
  for list in "${lists[@]}"; do
    scored+=(--scored "$list" "$protocol/$list" "$eval_dir/$list.scores" "$eval_dir/$list.json"
      --broken-down "$list" "$eval_dir/$list.breakdown.json")
  done
  once "$eval_dir/.reported.done" python ../../local/report_results.py --seconds "$SECONDS" "${scored[@]}" \
    "$eval_dir/results.md" "$eval_dir/det.png"
  always cat "$eval_dir/results.md"
fi
