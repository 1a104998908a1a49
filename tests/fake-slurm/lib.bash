# shellcheck shell=bash
# What every command of the fake scheduler shares: where the state lies, the call log, the one way out.
#
# A command gathers its answer with `say` (stdout) and `warn` (stderr) and leaves through `finish CODE`, because a fault
# may delay, cut or garble the whole answer.

set -u
LC_ALL=C
shopt -s nullglob extglob

case $FAKE_DIR in /*) ;; *) FAKE_DIR=$PWD/$FAKE_DIR ;; esac
FAKE_LIB=$FAKE_DIR/lib
CMD=${CMD:-${0##*/}}
NL=$'\n'
OUT=
ERR=
LOGGED=

die() {
  printf 'fake-slurm: %s\n' "$*" >&2
  exit 97
}

# The environment is the caller's affair and is stripped by some callers, so only SLURM_CONF may choose the directory.
find_state() {
  if [[ ${SLURM_CONF:-} == */fake-slurm.conf || ${SLURM_CONF:-} == fake-slurm.conf ]]; then
    CONF=$SLURM_CONF
    case $CONF in /*) ;; *) CONF=$PWD/$CONF ;; esac
    STATE=${CONF%/*}
    [[ -d $STATE ]] || die "the directory of SLURM_CONF does not exist: $STATE"
  else
    STATE=/tmp/fake-slurm-$UID
    CONF=$STATE/fake-slurm.conf
    [[ -d $STATE ]] || mkdir -m 0700 "$STATE" 2>/dev/null || [[ -d $STATE ]] || die "cannot create $STATE"
    [[ -O $STATE && ! -L $STATE ]] || die "$STATE belongs to somebody else"
    [[ -e $CONF ]] || default_conf >"$CONF"
  fi
}

say() {
  printf -v REPLY '%s\n' "$@"
  OUT+=$REPLY
}

warn() {
  printf -v REPLY '%s\n' "$@"
  ERR+=$REPLY
}

now_ms() {
  local t=$EPOCHREALTIME
  MS=$((${t/./} / 1000))
}

# One write per line, so that calls side by side do not mix.
log_call() {
  local q name names=''
  now_ms
  CALL_START=$MS
  CALL_ID=$BASHPID.$MS
  q=
  (($#)) && printf -v q '%q ' "$@"
  for name in "${!SQUEUE_@}" "${!SBATCH_@}" "${!SCANCEL_@}" "${!SACCT_@}" "${!SLURM_@}"; do names+=$name,; done
  printf 'call\t%s\t%s\t%s\t%s\t%s\n' "$CALL_ID" "$MS" "$CMD" "${names%,}" "${q:0:3500}" >>"$STATE/calls.log"
  LOGGED=1
}

log_exit() {
  [[ $LOGGED ]] || return 0
  LOGGED=
  now_ms
  printf 'exit\t%s\t%s\t%s\n' "$CALL_ID" "$1" "$((MS - CALL_START))" >>"$STATE/calls.log"
}

finish() {
  local rc=$1
  CODE_SHAPED=
  if ((${#FAULT[@]})); then shape_answer; fi
  rc=${CODE_SHAPED:-$rc}
  [[ $ERR ]] && printf '%s' "$ERR" >&2
  [[ $OUT ]] && printf '%s' "$OUT" 2>/dev/null
  log_exit "$rc"
  exit "$rc"
}

# The answer of a command that failed before it asked the controller; faults of the controller do not apply to it.
refuse() {
  local rc=$1
  shift
  warn "$@"
  [[ $ERR ]] && printf '%s' "$ERR" >&2
  log_exit "$rc"
  exit "$rc"
}

# A real flag that the fake does not know must never look like an answer of Slurm.
not_imitated() {
  log_exit 97
  die "$CMD: $* is not imitated"
}

# Descriptor 9 is the lock: it ends with the process that holds it, and background processes must not inherit it.
lock() {
  exec 9>>"$STATE/lock"
  flock 9
}

unlock() { exec 9>&-; }

sleep_for() {
  [[ $1 == 0 || $1 == 0.0 ]] || sleep "$1"
}

# A background process of the fake: own session, no parent, nothing of the caller's environment or descriptors.
background() {
  (setsid env -i PATH="$PATH" HOME="${HOME:-/}" SLURM_CONF="$CONF" /bin/bash -p "$FAKE_LIB/supervise" "$@" \
    </dev/null >/dev/null 2>>"$STATE/fake.log" 9>&- &)
}

for part in dialect conf getopt text jobs schedule faults; do
  # shellcheck disable=SC1090
  . "$FAKE_LIB/$part.bash"
done

begin_command() {
  find_state
  read_conf
  log_call "$@"
  load_faults
}
