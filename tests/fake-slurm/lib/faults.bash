# shellcheck shell=bash
# Faults on demand: reading the knobs, what the controller answers under each, what becomes of the request.
#
#   faults/COMMAND/FAULT   line 1: how many more times, or -; line 2: the value
# COMMAND `all` reaches every command; a knob set for the command itself goes first.

declare -A FAULT=()
declare -A FAULT_FILE=()
declare -A FAULTS_OF=(
  [any]='hang delay exit error-exit0 empty truncate garble banner banner-after banner-between banner-stderr kill-parent
    down unplugged timeout zero-bytes munge-here munge-there frozen frozen-then-killed db-down'
  [sbatch]='reject munge-late' [scancel]='noeffect' [squeue]='omit unknown-state wrong-user' [sacct]='' [sstat]='unmeasured' [scontrol]='' [sinfo]='' [srun]=''
  [all]='' [node]='prolog-fail launch-fail disk-full' [sched]='pause pending')

load_faults() {
  local f name times value
  for f in "$STATE/faults/all"/* "$STATE/faults/$CMD"/*; do
    name=${f##*/} value='' times=''
    { read -r times && IFS= read -r value; } 2>/dev/null <"$f"
    [[ $times ]] || continue
    FAULT[$name]=$value
    FAULT_FILE[$name]=$f
  done
}

# A knob set with --times N is used up; two commands at once must not use the same turn.
spend() {
  local f=${FAULT_FILE[$1]} times='' value=''
  { read -r times && IFS= read -r value; } 2>/dev/null <"$f"
  [[ $times == - ]] && return 0
  exec 8>>"$STATE/faults.lock"
  flock 8
  times=
  { read -r times && IFS= read -r value; } 2>/dev/null <"$f"
  if [[ $times ]]; then
    if ((times <= 1)); then rm -f "$f"; else printf '%s\n%s\n' "$((times - 1))" "$value" >"$f"; fi
  fi
  exec 8>&-
  [[ $times ]]
}

has() {
  [[ ${FAULT[$1]+x} ]] && spend "$1"
}

# What this command says when the controller fails in this way. LABEL is a printf format with the text's place in it;
# REQUESTS are the RPCs that munge complains about. Code and text depend on the command, not on the fault alone.
controller_error() {
  local kind=$1 text rpc
  CODE=1
  case $kind in
    down | unplugged) text='Unable to contact slurm controller (connect failure)' ;;
    timeout | frozen) text='Socket timed out on send/recv operation' ;;
    zero-bytes | munge-there) text='Zero Bytes were transmitted or received' ;;
    munge-late)
      text='Unexpected missing socket error'
      speaks late-munge-endpoint && text='Transport endpoint is not connected'
      speaks late-munge-socket && warn "$CMD: error: slurm_msg_sendto: address:port=198.51.100.3:6817 msg_type=4003: $text"
      speaks late-munge-bufs && warn "$CMD: error: slurm_send_node_msg: [socket:[4711]] slurm_bufs_sendto(msg_type=REQUEST_SUBMIT_BATCH_JOB) failed: $text"
      ;;
    munge-here)
      text='Protocol authentication error'
      for rpc in $REQUESTS; do
        warn "$CMD: error: If munged is up, restart with --num-threads=10" \
          "$CMD: error: Munge encode failed: Failed to access \"/run/munge/munge.socket.2\": No such file or directory (Did you start munged?)" \
          "$CMD: error: slurm_send_node_msg: auth_g_create: $rpc has authentication error"
      done
      ;;
  esac
  case $LABEL in
    'scancel: error: Kill job'*)
      case $kind in
        down | unplugged) CODE=8 ;;
        timeout | frozen) CODE=140 ;;
        zero-bytes | munge-there) CODE=141 ;;
        munge-here) CODE=239 ;;
      esac
      ;;
    PING)
      OUT="Slurmctld(primary) at ${SITE[ControlHost]} is DOWN$NL"
      speaks dead-ping-fails || CODE=0
      return
      ;;
    # Measured for requeue only: the client does not know this answer.
    '%s for job'*) [[ $kind == down || $kind == unplugged ]] && text='Unexpected message received' ;;
  esac
  # shellcheck disable=SC2059 # the format is ours
  printf -v REPLY "$LABEL" "$text"
  warn "$REPLY"
}

# The wall times measured on a real cluster, for `delay real`.
real_seconds() {
  case $1/$CMD in
    down/squeue | down/scontrol) SECONDS_REAL=18 ;;
    down/*) SECONDS_REAL=9 ;;
    unplugged/squeue | unplugged/scontrol) SECONDS_REAL=40 ;;
    unplugged/scancel) SECONDS_REAL=20 ;;
    unplugged/sacct) SECONDS_REAL=2 ;;
    unplugged/*) SECONDS_REAL=29 ;;
    timeout/squeue | frozen/squeue) SECONDS_REAL=20 ;;
    timeout/* | frozen/*) SECONDS_REAL=10 ;;
    zero-bytes/squeue | munge-*/squeue | zero-bytes/scontrol | munge-*/scontrol) SECONDS_REAL=4 ;;
    zero-bytes/* | munge-*/*) SECONDS_REAL=2 ;;
    *) SECONDS_REAL=0 ;;
  esac
}

# contact LABEL REQUESTS: every fault that stands between the command and the controller. EFFECT says what becomes of the
# request: do (now), none (never), later (after LATER seconds), thaw (when the knob HELD_BY is cleared). ANSWER_CODE is
# set when the answer is decided, whatever the effect; OUT and ERR then hold it.
contact() {
  local name value
  LABEL=$1 REQUESTS=$2 EFFECT='do' ANSWER_CODE='' HELD_BY='' CAUSE=''
  ((${#FAULT[@]})) || return 0
  if has hang; then sleep "${FAULT[hang]:-3600}"; fi
  if [[ ${FAULT[kill-parent]:-} == before* ]] && spend kill-parent; then kill_parent; fi
  if has exit; then
    value=${FAULT[exit]}
    [[ $value == *:* ]] && warn "${value#*:}"
    EFFECT=none ANSWER_CODE=${value%%:*}
    return 0
  fi
  if has error-exit0; then
    if [[ ${FAULT[error-exit0]} ]]; then warn "${FAULT[error-exit0]}"; else controller_error timeout; fi
    EFFECT=none ANSWER_CODE=0
    return 0
  fi
  for name in down unplugged munge-here munge-there munge-late frozen frozen-then-killed timeout zero-bytes; do
    has "$name" || continue
    [[ $name != munge-late ]] || speaks late-munge-endpoint || speaks late-munge-socket || speaks late-munge-bufs || continue
    value=${FAULT[$name]}
    CAUSE=${name%-then-killed} EFFECT=none
    case $name in
      frozen*) EFFECT=thaw HELD_BY=$name ;;
      timeout | zero-bytes)
        case ${value:-lost} in
          lost) ;;
          done) EFFECT='do' ;;
          thaw) EFFECT=thaw HELD_BY=$name ;;
          *) EFFECT=later LATER=$value ;;
        esac
        ;;
    esac
    controller_error "$CAUSE"
    ANSWER_CODE=$CODE
    return 0
  done
  return 0
}

# For commands that change nothing: a decided answer ends them here.
ask() {
  contact "$@"
  [[ $ANSWER_CODE ]] && finish "$ANSWER_CODE"
  return 0
}

# A request that takes effect later: the directory holds what replay needs. HELD_BY names the knob that holds it.
defer() {
  local dir
  dir=$STATE/deferred/$EPOCHREALTIME.$BASHPID
  mkdir -p "$dir.new"
  printf '%s\n' "$@" >"$dir.new/request"
  [[ ${SPOOL:-} ]] && mv "$SPOOL" "$dir.new/spool"
  printf '%s\n' "$CLUSTER" >"$dir.new/cluster"
  if [[ $EFFECT == thaw ]]; then
    local knob=${FAULT_FILE[$HELD_BY]}
    printf '%s\n' "${knob#"$STATE/faults/"}" >"$dir.new/held-by"
    # With --times the knob may be gone already; `clear` still finds the request by this name.
    mv "$dir.new" "$dir"
  else
    mv "$dir.new" "$dir"
    background replay "$dir" "$LATER"
  fi
}

kill_parent() {
  local stat value=${FAULT[kill-parent]:-after}
  log_exit killed-parent
  if [[ $value == *-group ]]; then
    read -r stat <"/proc/$PPID/stat"
    read -r _ _ stat _ <<<"${stat##*) }"
    kill -KILL -- "-$stat"
  else
    kill -KILL "$PPID"
  fi
  exit 137
}

# The last touch on an answer: late, cut, garbled, with a banner.
shape_answer() {
  local text line size
  if [[ ${FAULT[kill-parent]+x} && ${FAULT[kill-parent]} != before* ]] && spend kill-parent; then kill_parent; fi
  if has empty; then
    OUT='' ERR='' CODE_SHAPED=0
  fi
  if has garble; then
    printf -v line '\001\377\376%%s\200\303(\033[2J|;|\n\177'
    OUT=$line${OUT:0:3}$NL
  fi
  if has truncate; then
    size=${FAULT[truncate]}
    OUT=${OUT:0:${size:-$((${#OUT} / 2))}}
  fi
  for text in banner banner-after banner-between banner-stderr; do
    has "$text" || continue
    line=${FAULT[$text]:-Welcome to Stampede3}
    case $text in
      banner) OUT=$line$NL$OUT ;;
      banner-after) OUT+=$line$NL ;;
      banner-between) OUT=${OUT//$NL/$NL$line$NL} ;;
      banner-stderr) ERR=$line$NL$ERR ;;
    esac
  done
  if has delay; then
    real_seconds "${CAUSE:-none}"
    case ${FAULT[delay]} in real) sleep "$SECONDS_REAL" ;; *) sleep "${FAULT[delay]}" ;; esac
  fi
  return 0
}
