# shellcheck shell=bash
# What every run.sh sources, after changing to its own folder: options, stages, and markers of what is done.
#
#   parse_options "$@"    --some-option VALUE sets some_option, one of the variables that run.sh sets above it
#   stage N TITLE         true inside --stage..--stop-stage; prints a banner
#   once MARKER CMD...    runs CMD unless MARKER holds this command line and the digests of the files it names
#   always CMD...         runs CMD
#
# A variable that is true or false is an option without a value. A relative path given on the command
# line (an option that ends in -dir, --config, a --model that is there) is the caller's; defaults are
# relative to the recipe.
# --dry-run runs nothing and says what would run and why; --help is made of the text of run.sh.

set -euo pipefail

recipe=$(basename "$0")
recipe_caller=$OLDPWD   # run.sh has changed to its own folder
recipe_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stage=1
stop_stage=100
dry_run=false
log_dir=                # where run.sh wants one log a stage
stage_number=
stage_title=
stage_began=0
stage_state=
stage_table=()
largest_digested=$((64 << 20))   # bytes; of larger files only the size counts

say() { printf '%s\n' "$@" >&2; }  # a line each

refuse() {
  say "$recipe: $*"
  exit 2
}

# ---- options

option_names() {  # the variables that run.sh sets between sourcing this file and parse_options
  sed -n '/^\. .*stages\.sh/,/^parse_options/s/^\([a-z][a-z0-9_]*\)=.*/\1/p' "$recipe"
}

recipe_help() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$recipe"
  printf '\noptions, with their defaults:\n'
  sed -n '/^\. .*stages\.sh/,/^parse_options/s/^[a-z][a-z0-9_]*=.*/&/p' "$recipe" | while IFS= read -r line; do
    name=${line%%=*}
    value=${line#*=}
    case $value in
      false | "false "*) printf '  --%s%s\n' "${name//_/-}" "${value#false}" ;;
      *) printf '  --%s=%s\n' "${name//_/-}" "$value" ;;
    esac
  done
  printf '  --help\n\nstages:\n'
  sed -n 's/^if stage \([0-9]*\) "\(.*\)"; then$/  \1  \2/p' "$recipe"
}

set_option() {  # NAME VALUE, the name checked, the value never looked into
  local _name=$1 _value=$2
  if [[ $_name == config || $_name == *_dir ]] && [[ -n $_value && $_value != /* ]]; then
    _value=$recipe_caller/$_value
  elif [[ $_name == model && -n $_value && $_value != /* && -e $recipe_caller/$_value ]]; then
    _value=$recipe_caller/$_value  # else it is the name of a bundled model
  fi
  printf -v "$_name" '%s' "$_value"
}

parse_options() {
  local _known _given _name
  _known=$'\n'$(option_names)$'\n'
  while (($#)); do
    _given=${1%%=*}
    _name=${_given#--}
    _name=${_name//-/_}
    [[ $_given != --help ]] || { recipe_help; exit 0; }
    [[ $_given =~ ^--[a-z][a-z0-9-]*$ && $_known == *$'\n'"$_name"$'\n'* ]] ||
      refuse "unknown option '$_given'; $recipe --help lists them"
    if [[ ${!_name} == true || ${!_name} == false ]]; then
      [[ $1 != *=* ]] || refuse "$_given takes no value"
      set_option "$_name" true
    elif [[ $1 == *=* ]]; then
      set_option "$_name" "${1#*=}"
    else
      [[ $# -ge 2 && $2 != --* ]] || refuse "$_given needs a value"
      set_option "$_name" "$2"
      shift
    fi
    shift
  done
  check_options
}

check_options() {
  local _name
  for _name in stage stop_stage; do
    [[ ${!_name} =~ ^[0-9]{1,9}$ ]] || refuse "--${_name//_/-} is '${!_name}'; want a whole number"
  done
  # Unless an environment is active, commands and python are those that make has installed.
  command -v speakerkit > /dev/null || PATH=$recipe_root/.venv/bin:$PATH
  command -v speakerkit > /dev/null || refuse "speakerkit isn't installed: run 'make demo' in $recipe_root, or pip install it"
  PATH=$(dirname "$(command -v speakerkit)"):$PATH
  trap end_recipe EXIT
}

# ---- stages

stage() {  # N TITLE
  end_stage
  (($1 >= stage && $1 <= stop_stage)) || return 1
  stage_number=$1
  stage_title=$2
  stage_state="up to date"
  stage_began=$SECONDS
  say "" "== stage $1: $2"
}

end_stage() {
  [[ -n $stage_number ]] || return 0
  stage_table+=("$(printf '%5s  %-36s %7s s  %s' "$stage_number" "$stage_title" $((SECONDS - stage_began)) "$stage_state")")
  stage_number=
}

end_recipe() {  # on every exit
  end_stage
  ((${#stage_table[@]} == 0)) || printf '%s\n' "" "stage  title                                  seconds  state" "${stage_table[@]}" >&2
}

# ---- commands

fingerprint() {  # a command line, then a digest a file that it names or that lies in a folder it names
  local _argument _file _previous="" _words=()
  for _argument in "$@"; do
    # What may be replaced, the number of workers and the time it took don't change what is made.
    [[ $_argument == --overwrite || $_argument =~ ^--(nj|seconds)$ || $_previous =~ ^--(nj|seconds)$ ]] ||
      _words+=("$_argument")
    _previous=$_argument
  done
  printf 'command: %s\n' "${_words[*]@Q}"
  for _argument in "$@"; do
    if [[ -d $_argument ]]; then
      for _file in "$_argument"/*; do  # not the hidden ones, not what lies deeper
        [[ ! -f $_file ]] || digest "$_file"
      done
    elif [[ -f $_argument ]]; then
      digest "$_argument"
    fi
  done
}

digest() {  # FILE
  local _bytes
  _bytes=$(wc -c < "$1")
  if ((_bytes > largest_digested)); then
    printf '%s bytes  %s\n' "$_bytes" "$1"
  else
    sha256sum "$1"
  fi
}

why_run() {  # MARKER FINGERPRINT: nothing if the marker holds the fingerprint
  local _marker=$1 _now=$2 _then
  [[ -f $_marker ]] || { echo "not done yet"; return; }
  _then=$(< "$_marker")
  [[ $_now != "$_then" ]] || return 0
  [[ ${_now%%$'\n'*} == "${_then%%$'\n'*}" ]] || { echo "it was made by another command line: ${_then%%$'\n'*}"; return; }
  echo "changed since:" "$(comm -3 <(sort <<< "$_now") <(sort <<< "$_then") | sed 's/^.*  //' | sort -u | paste -sd ' ')"
}

once() {  # MARKER CMD...
  local _marker=$1 _why
  shift
  _why=$(why_run "$_marker" "$(fingerprint "$@")")
  if [[ -z $_why ]]; then
    say "up to date: $*"
    return
  fi
  if $dry_run; then
    stage_state="would run"
    say "would run: ${*@Q}" "      why: $_why"
    return
  fi
  rm -f "$_marker"
  run_command "$@"
  mkdir -p "$(dirname "$_marker")"
  fingerprint "$@" > "$_marker.new"
  mv "$_marker.new" "$_marker"
}

always() {  # CMD...
  if $dry_run; then
    stage_state="would run"
    say "would run: ${*@Q}"
  else
    log_dir="" run_command "$@"  # what makes nothing needs no log
  fi
}

run_command() {  # CMD...: its exit code, if not 0, ends the recipe
  local _log=/dev/null _code=0 _began=$SECONDS
  if [[ -n $log_dir && -n $stage_number ]]; then
    mkdir -p "$log_dir"
    _log=$log_dir/$stage_number.$(date +%Y%m%d).log
  fi
  say "\$ $*"
  stage_state='stopped'  # unless it comes to an end
  [[ $_log == /dev/null ]] || {
    printf '# %s\n# %s, %s cores, %s\n' "${*@Q}" "$(uname -n)" "$(nproc)" "$(speakerkit --version)"
    printf '# commit %s, started %s\n' "$(git -C "$recipe_root" describe --always --dirty 2>&1)" "$(date +%FT%T%z)"
  } >> "$_log"
  if [[ -t 2 ]]; then
    "$@" || _code=$?  # a progress bar needs the terminal itself, so what is said there isn't in the log
  else
    { "$@" 2>&1 >&3 3>&- | tee -ai "$_log" >&2; } 3>&1 || _code=$?
  fi
  printf '# ended (code %s), %s s\n' "$_code" $((SECONDS - _began)) >> "$_log"
  stage_state='done'
  if ((_code != 0)); then
    stage_state="failed (exit code $_code)"
    say "$recipe: failed with exit code $_code; to repeat it:" "  cd ${PWD@Q} && ${*@Q}" "log: $_log"
    exit "$_code"
  fi
}
