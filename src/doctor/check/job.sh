# shellcheck shell=bash
# What doctor asks of the site's lines for the job where Slurm's commands run (see job.rs): the preamble on standard input; the
# launcher, the ready check, the line for the end, then `source PATH` and `run WORD` for what the preamble sources and runs.
# Nothing of them is run.
launcher=$1 ready=$2 ending=$3
shift 3
said=$(bash -n 2>&1) || tell preamble "$said"
while (($#)); do
  case $1 in
    source) [[ -r $2 ]] || tell sourced "$2" ;;
    run) [[ $2 == */* && -x $2 ]] || type -t -- "$2" >/dev/null || tell 'run' "$2" ;;
  esac
  shift 2
done
if [[ $launcher ]]; then
  said=$(bash -n -c "_=($launcher)" 2>&1) || tell launcher-syntax "$said"
  word=${launcher%%[[:space:]]*}
  [[ $word != +([-A-Za-z0-9._/+]) ]] || type -P -- "$word" >/dev/null || tell launcher "$word"
fi
said=$(bash -n -c "$ready" 2>&1) || tell ready "$said"
word=${ready%%[[:space:]]*}
[[ $word != +([-A-Za-z0-9._/+]) ]] || type -t -- "$word" >/dev/null || tell ready-command "$word"
[[ ! $ending ]] || said=$(bash -n -c "$ending" 2>&1) || tell ending "$said"
tell 'done' yes
