# shellcheck shell=bash
# What doctor asks of the site's lines for the job where Slurm's commands run (see job.rs): the preamble on standard input; the
# launcher, the ready check, the line for the end, then the files that the preamble sources. Nothing of them is run. Each answer
# is a key, a tab and a value.
tell() {
  local value=${2//$'\n'/ / }
  printf '%s\t%s\n' "$1" "${value//$'\t'/ }"
}
launcher=$1 ready=$2 ending=$3
shift 3
said=$(bash -n 2>&1) || tell preamble "$said"
for path; do
  [[ -r $path ]] || tell sourced "$path"
done
if [[ $launcher ]]; then
  said=$(bash -n -c "_=($launcher)" 2>&1) || tell launcher-syntax "$said"
  word=${launcher%%[[:space:]]*}
  [[ $word != +([-A-Za-z0-9._/+]) ]] || type -P -- "$word" >/dev/null || tell launcher "$word"
fi
said=$(bash -n -c "$ready" 2>&1) || tell ready "$said"
[[ ! $ending ]] || said=$(bash -n -c "$ending" 2>&1) || tell ending "$said"
tell 'done' yes
