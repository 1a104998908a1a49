# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# Callers that die, or want different things: nobody keeps a queue place for nobody.

row_of_callers() {
  row 5.9 'callers that die' "the acquire's parent killed, its answer's reader gone, the acquire itself killed while its job waits or starts, found by list, cleanup, another acquire; then nothing is left by itself"
}
# by_itself LEASE: gone without a release.
by_itself() { no_jobs "$1" && no_files "$1"; }

# caller_dies parent|reader|full|closed
caller_dies() {
  row_of_callers
  begin caller_dies "$@"
  new_lease
  request acquire "$LEASE" ',"partition":"closed","acquireTimeoutSeconds":60' >"$W/request"
  case $1 in
    parent)
      # shellcheck disable=SC2016
      bash -c '{ sleep 2; kill -KILL $$; } >/dev/null 2>&1 </dev/null & "$@"; exit' caller "$BIN" --state-dir "$STATE" \
        <"$W/request" >/dev/null 2>&1
      ;;
    reader) run_binary <"$W/request" 2>/dev/null | { sleep 2; } ;;
    # These get their job.
    full) request acquire "$LEASE" | run_binary 2>/dev/null >/dev/full ;;
    closed) request acquire "$LEASE" | run_binary 2>/dev/null >&- ;;
  esac
  if ! wait_for 45 by_itself "$LEASE"; then
    bad leaked "what nobody waits for stays: $(live_jobs "$LEASE" | tr '\n' ' ') $(lease_files "$LEASE" | tr '\n' ' ')"
    end_lease "$LEASE"
  fi
}

# acquire_dies list|cleanup|acquire queued: killed with SIGKILL, so that it takes nothing back itself.
acquire_dies() {
  local pid died
  row_of_callers
  begin acquire_dies "$@"
  new_lease
  request acquire "$LEASE" ',"partition":"closed","acquireTimeoutSeconds":60' >"$W/request"
  "$BIN" --state-dir "$STATE" <"$W/request" >"$W/out" 2>"$W/err" &
  pid=$!
  wait_for 20 a_job_waits || bad stuck 'an acquire submits nothing in 20 s'
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null
  died=$STATE/leases/$LEASE/acquirer-died
  is_listed "$LEASE" || bad lost "an acquire was killed, and at once its lease is not listed: $OUT"
  [[ -s $died ]] || bad leaked 'list does not note that an acquire has died'
  call "${1/acquire/list}" "$LEASE"
  [[ $(live_jobs "$LEASE") ]] || bad wrong 'a lease is ended within seconds of the death of its acquire'
  # The thirty seconds pass here.
  sed -i 's/"at":[0-9]*/"at":0/' "$died" 2>/dev/null
  if [[ $1 == acquire ]]; then
    # A platform that tries again gets the same job.
    call acquire "$LEASE" ',"partition":"closed","acquireTimeoutSeconds":3' ',"keep":true'
    [[ $(live_jobs "$LEASE") == *PENDING* && $CODE == timed-out ]] || bad lost "an acquire that is repeated after its death: $OUT"
    [[ ! -e $died ]] || bad wrong 'the note of a death outlives the next acquire'
    end_lease "$LEASE"
    return
  fi
  wait_for 45 settled "$1" || bad leaked "$1 does not end what a killed acquire left: $(live_jobs "$LEASE" | tr '\n' ' ')"
  wait_for 15 by_itself "$LEASE" || bad left "$(live_jobs "$LEASE" | tr '\n' ' ') $(lease_files "$LEASE" | tr '\n' ' ')"
}
a_job_waits() { [[ $(live_jobs "$LEASE") == *PENDING* ]] && grep -q '"id"' "$STATE/leases/$LEASE/record.json"; }

# two_patiences SHORT LONG
two_patiences() {
  local pid
  row 5.10 'acquires that want different things' 'two of one lease with different patience, the shorter first or last; five leases that race for maxLeases 2; then release'
  begin two_patiences "$@"
  new_lease
  set_fault sched pause
  request acquire "$LEASE" ",\"acquireTimeoutSeconds\":$2" | run_binary >"$W/long" 2>/dev/null &
  pid=$!
  wait_for 20 a_job_waits || bad stuck 'an acquire submits nothing in 20 s'
  call acquire "$LEASE" ",\"acquireTimeoutSeconds\":$1"
  [[ $CODE == timed-out ]] || bad answer "the shorter of two acquires: $OUT"
  [[ $(live_jobs "$LEASE") == *PENDING* ]] || bad lost 'the shorter of two acquires took the job away from the longer'
  clear_faults
  wait "$pid"
  grep -q "\"cloudId\":\"slurm/job/$(live_jobs "$LEASE" | head -n 1 | cut -d '|' -f 1)\"" "$W/long" \
    || bad lost "the longer of two acquires got $(<"$W/long")"
  one_job "$LEASE"
  end_lease "$LEASE"
}

# race LEASES MAXIMUM
race() {
  local i lease leases=() won refused
  row 5.10 'acquires that want different things' 'two of one lease with different patience, the shorter first or last; five leases that race for maxLeases 2; then release'
  begin race "$@"
  clean_state
  new_crowd
  for ((i = 0; i < $1; i++)); do
    new_lease
    leases+=("$LEASE")
    crowd 1 acquire "$LEASE" ",\"maxLeases\":$2"
    sleep "0.0$((RANDOM % 10))"
  done
  gather
  orderly
  won=$(answers acquire | grep -c '"cloudId"') refused=$(answers acquire | grep -c '"code":"limit-reached"')
  ((won == $2)) || bad stuck "$won of $1 won a race for $2 places: $(answers acquire | grep -m 1 error)"
  ((won + refused == $1)) || bad answer "$won won and $refused were refused of $1: $(answers acquire | grep -v limit-reached | grep -m 1 error)"
  for lease in "${leases[@]}"; do end_lease "$lease"; done
}
