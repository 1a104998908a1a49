# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# Killed anywhere: the n-th system call of a kind is the last that an operation does, for every n until it survives.
# strace stops the program there, so nothing in it knows of this. The whole process group dies, as the client does it.

# System calls that change something, start something or wait for something. `?` : not on every architecture.
CALLS=(mkdirat renameat fsync flock write '?clone,?clone3,?vfork,?fork' wait4 '?poll,?ppoll' openat '?unlinkat' getdents64
  statx clock_nanosleep socketpair)

# killed_call CALLS N [STRACE OPTIONS]: runs the request in $W/request; 0 when it was killed, 1 when it survived.
killed_call() {
  local calls=$1 n=$2 pid status
  shift 2
  in_group strace "$@" -qq -o "$TRACE" -e "trace=$calls" -e "inject=$calls:signal=SIGKILL:when=$n" \
    "$BIN" --state-dir "$STATE" <"$W/request" >"$W/out" 2>"$W/err" &
  pid=$!
  wait "$pid" 2>/dev/null
  status=$?
  kill -KILL -- "-$pid" 2>/dev/null
  case $status in
    137) return 0 ;;
    *) [[ -s $W/out ]] || die "strace does not work here (exit $status): $(tail -n 3 "$W/err" | tr '\n' ' ')" ;;
  esac
  return 1
}

# each_n TASK CALLS FROM TO STEP: TASK CALLS N, until two in a row survive (how often a call is made varies a little).
each_n() {
  local task=$1 calls=$2 n survived=0
  for ((n = $3; n <= $4; n += $5)); do
    if "$task" "$calls" "$n"; then
      survived=0
    elif ((++survived == 2)); then
      break
    fi
  done
}

# rotate N LEASE: one call of the other operations, whatever it answers; the next checks tell whether it did harm.
rotate() {
  local operations=(acquire list release cleanup resolve touch)
  local operation=${operations[$1 % 6]}
  [[ $operation == acquire ]] || call "$operation" "$2" ',"resolveWaitSeconds":2'
  [[ $operation != release ]] || [[ $MESSAGE != *'its job has ended'* ]] || honest "$2"
  ROTATED=$operation
}

killed_acquire() {
  row 1.1 'killed anywhere: acquire' 'SIGKILL to the group at the n-th call of each kind; then each other operation, acquire, release'
  each_n killed_acquire_at "$@"
}
killed_acquire_at() {
  begin killed_acquire "$1" "$2" "$2" 1
  new_lease
  request acquire "$LEASE" >"$W/request"
  if ! killed_call "$1" "$2"; then
    RC=0
    read_answer acquire
    end_lease "$LEASE"
    return 1
  fi
  still_known "$LEASE"
  # A call that had not begun leaves nothing to mend.
  if [[ ! -e $SEEN/leases/$LEASE && ! $(lease_files "$LEASE") ]]; then
    nothing_left "$LEASE"
    return
  fi
  rotate "$2" "$LEASE"
  if [[ $ROTATED != release ]] && must_lease "$LEASE"; then
    # The one that answers, and the job that Slurm shows, are the same.
    [[ $CLOUD_ID == "slurm/job/$(live_jobs "$LEASE" | head -n 1 | cut -d '|' -f 1)" ]] \
      || bad lost "acquire answers with $CLOUD_ID, but there lives $(live_jobs "$LEASE" | tr '\n' ' ')"
  fi
  end_lease "$LEASE"
}

killed_release() {
  row 1.2 'killed anywhere: release' 'the same, of a lease in use; then each other operation, release'
  each_n killed_release_at "$@"
}
killed_release_at() {
  begin killed_release "$1" "$2" "$2" 1
  new_lease
  must_lease "$LEASE" || return 0
  after_killed_release "$1" "$2"
}

# A job that waits costs less to make, and is cancelled in another way.
killed_release_queued() {
  row 1.3 'killed anywhere: release of a queued job' 'the same, of a lease whose job waits'
  set_fault sched pause
  each_n killed_release_queued_at "$@"
  fake-slurm clear sched
}
killed_release_queued_at() {
  begin killed_release_queued "$1" "$2" "$2" 1
  new_lease
  call acquire "$LEASE" ',"acquireTimeoutSeconds":1' ',"keep":true'
  [[ $CODE == timed-out ]] || bad answer "a kept acquire answers $OUT"
  after_killed_release "$1" "$2" queued
}

after_killed_release() {
  local survived=0
  request release "$LEASE" >"$W/request"
  killed_call "$1" "$2" || survived=1
  still_known "$LEASE"
  if ((!survived)); then
    rotate "$2" "$LEASE"
    # A lease that is being released is not handed out.
    [[ ! $CLOUD_ID || $ROTATED != resolve || ${3:-} ]] || [[ $(permit_of "$LEASE") ]] || bad lies "resolve hands out what has no permit"
    # An acquire after it makes a new one.
    if [[ $ROTATED == acquire && ! ${3:-} ]]; then must_lease "$LEASE"; fi
  fi
  end_lease "$LEASE"
  return "$survived"
}

# The operations that change nothing about a lease in use: one lease lives through all kills.
killed_beside() {
  local operation=$1 options=()
  row 1.4 'killed anywhere: resolve, list, touch, cleanup, doctor' 'the same, beside a lease in use, which must stay as it is'
  begin killed_beside "$@"
  new_lease
  must_lease "$LEASE" || return
  KEPT=$LEASE KEPT_ID=$CLOUD_ID
  # touch writes in a thread of its own.
  [[ $operation != touch ]] || options=(-f)
  BESIDE=("$operation" "${options[@]}")
  each_n killed_beside_at "${@:2}"
  end_lease "$KEPT"
}
killed_beside_at() {
  local operation=${BESIDE[0]} survived=0
  begin killed_beside "$operation" "$1" "$2" "$2" 1
  request "$operation" "$KEPT" >"$W/request"
  killed_call "$1" "$2" "${BESIDE[@]:1}" || survived=1
  call "$operation" "$KEPT"
  [[ ! $ERROR ]] || bad stuck "$operation fails after it was killed: $ERROR"
  case $((($2 + survived) % 3)) in
    0) must_resolve "$KEPT" "$KEPT_ID" ;;
    1)
      is_listed "$KEPT"
      [[ $CLOUD_ID == "$KEPT_ID" ]] || bad lost "list shows $OUT"
      ;;
    2)
      call touch "$KEPT"
      [[ $MESSAGE ]] || bad lost "touch says $OUT"
      ;;
  esac
  return "$survived"
}

# list and cleanup finish what a killed release has left.
killed_settling() {
  row 1.5 'killed anywhere: list and cleanup that finish a release' 'the same, while a half-done release has to be finished; then again until it is'
  each_n "killed_settling_${1}" "${@:2}"
}
killed_settling_list() { killed_settling_at list "$@"; }
killed_settling_cleanup() { killed_settling_at cleanup "$@"; }
killed_settling_at() {
  local survived=0
  begin killed_settling "$1" "$2" "$3" "$3" 1
  new_lease
  must_lease "$LEASE" || return 0
  # Killed where the intent to release has just become durable.
  request release "$LEASE" >"$W/request"
  killed_call fsync 2 || killed_call unlinkat 1
  request "$1" "$LEASE" >"$W/request"
  killed_call "$2" "$3" || survived=1
  still_known "$LEASE"
  if grep -q '"phase": "releasing"' "$SEEN/leases/$LEASE/record.json" 2>/dev/null; then
    wait_for 45 settled "$1" || bad stuck "$1 does not finish the release: $OUT"
    nothing_left "$LEASE"
  else
    end_lease "$LEASE"
  fi
  return "$survived"
}
settled() {
  call "$1" "$LEASE"
  [[ ! -e $SEEN/leases/$LEASE ]]
}

# The moments that no system call of ours marks: right before and right after a command of Slurm has taken effect.
killed_by_command() { # OPERATION COMMAND MOMENT
  local operation=$1 command=$2 moment=$3 pid
  row 1.6 "killed around Slurm's commands" 'killed before and after sbatch, squeue, scancel, sacct have done their work, with and without the group'
  begin killed_by_command "$@"
  new_lease
  if [[ $operation != acquire ]]; then must_lease "$LEASE" || return; fi
  set_fault "$command" kill-parent "$moment" --times 1
  request "$operation" "$LEASE" ',"acquireTimeoutSeconds":20' >"$W/request"
  in_group "$BIN" --state-dir "$STATE" <"$W/request" >"$W/out" 2>"$W/err" &
  pid=$!
  wait "$pid" 2>/dev/null
  kill -KILL -- "-$pid" 2>/dev/null
  clear_faults
  still_known "$LEASE"
  if [[ $operation == acquire ]]; then must_lease "$LEASE"; fi
  end_lease "$LEASE"
}
