# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# Several state dirs of one user, copies of one, views that are older than a record, and clocks that differ.

# in_state DIR COMMAND...: with another state dir, whose shared dir is the one that its leases name.
in_state() {
  local STATE=$1
  shift
  "$@"
}

row_of_twins() {
  row 5.6 'the same lease in several state dirs' 'the same lease id in two state dirs, each with a shared dir of its own or with a common one: acquire, list, cleanup, release in the second; then resolve in the first, release'
}
# twins own|shared OPERATION
twins() {
  local other=$STATE.other config='' before operation
  row_of_twins
  begin twins "$@"
  new_lease
  [[ $1 == own ]] || config=",\"sharedDir\":\"$STATE.common\""
  [[ $1 == own ]] || SHARED=$STATE.common
  must_lease "$LEASE" "$config" || return
  before=$CLOUD_ID
  in_state "$other" call acquire "$LEASE" "$config,\"acquireTimeoutSeconds\":2" ',"keep":true'
  [[ ! $CLOUD_ID ]] || bad lies "two state dirs have one lease: $OUT"
  for operation in "$2" list; do
    in_state "$other" call "$operation" "$LEASE" ',"resolveWaitSeconds":3'
    [[ $operation == list || $CLOUD_ID != "$before" ]] || bad lies "$operation in another state dir: $OUT"
  done
  [[ $(state_by_id "${before#slurm/job/}") == RUNNING ]] || bad wrong "$2 in another state dir has ended the lease's job"
  must_resolve "$LEASE" "$before"
  # The other's own job, if it has one: it may still wait for the first to end.
  in_state "$other" call release "$LEASE"
  must_resolve "$LEASE" "$before"
  end_lease "$LEASE"
  in_state "$other" wait_for 45 is_not_listed "$LEASE" || bad stuck "the other state dir still shows it: $OUT"
  SHARED=''
  on_client "rm -rf -- $other $STATE.common"
}

# copied OPERATION [WHAT]: in a copy of the state dir. A lease of the original in use, and one that it makes after the copy.
copied() {
  local copy=$STATE.copy before lease later
  row 5.7 'a copied state dir' 'list, cleanup, touch, acquire, a half-done release, cleanups two minutes apart in the copy, beside leases in use, queued and made later; state adopt; then resolve in the original, release'
  begin copied "$@"
  on_client "rm -rf -- $STATE $copy"
  new_lease
  must_lease "$LEASE" || return
  lease=$LEASE before=$CLOUD_ID
  on_client "cp -a $STATE $copy"
  case $1 in
    later)
      # Looks like an orphan in the copy: no record, and never handed out.
      new_lease
      later=$LEASE
      call acquire "$later" ',"partition":"closed","acquireTimeoutSeconds":3' ',"keep":true'
      [[ $(live_jobs "$later") ]] || die "nothing waits in the partition closed: $OUT"
      in_state "$copy" call cleanup "$lease"
      on_client "sed -i 's/\"uptime\":[0-9]*/\"uptime\":-1000/g' $copy/cache/orphans.json" 2>/dev/null
      in_state "$copy" call cleanup "$lease"
      [[ $(live_jobs "$later") == *PENDING* ]] || bad wrong "cleanup of a copy has ended a job of the original: $OUT"
      LEASE=$later
      end_lease "$later"
      ;;
    releasing | adopt)
      on_client "sed -i 's/\"phase\": \"answered\"/\"phase\": \"releasing\"/' $copy/leases/$lease/record.json"
      if [[ $1 == adopt ]]; then
        in_state "$copy" cli state adopt >"$W/out" 2>&1 || bad stuck "state adopt: $(<"$W/out")"
        LEASE=$lease
        in_state "$copy" wait_for 45 settled_there || bad stuck "an adopted copy does not finish a release: $OUT"
        wait_for 15 no_jobs "$lease" || bad leaked "an adopted lease's job lives on: $(live_jobs "$lease" | tr '\n' ' ')"
        on_client "rm -rf -- $copy"
        end_lease "$lease"
        return
      fi
      in_state "$copy" call list "$lease"
      in_state "$copy" call cleanup "$lease"
      ;;
    *) in_state "$copy" call "$1" "$lease" ',"resolveWaitSeconds":3,"acquireTimeoutSeconds":4' ;;
  esac
  [[ $(state_by_id "${before#slurm/job/}") == RUNNING ]] || bad wrong "$1 in a copy has ended the original's job: $OUT"
  in_state "$copy" call list "$lease"
  [[ $OUT == *"\"leaseId\":\"$lease\""* ]] || bad lost "the copy does not show it: $OUT"
  on_client "rm -rf -- $copy"
  must_resolve "$lease" "$before"
  end_lease "$lease"
}
settled_there() {
  call list "$LEASE"
  [[ $OUT == *'"leases":['* && $OUT != *"\"leaseId\":\"$LEASE\""* ]]
}

# overtaken OPERATION: its view of Slurm is older than a release and a new acquire.
overtaken() {
  local first
  row 5.8 'a view that is older than the record' 'list, cleanup, resolve, touch wait for a slow squeue while the lease is released and acquired again; then resolve, release'
  begin overtaken "$@"
  new_lease
  must_lease "$LEASE" || return
  first=$CLOUD_ID
  set_fault squeue hang 6 --times 1
  request "$1" "$LEASE" ',"resolveWaitSeconds":9' | run_binary >"$W/beside" 2>/dev/null &
  local pid=$!
  sleep 0.7
  call release "$LEASE"
  must_lease "$LEASE" || return
  local second=$CLOUD_ID
  wait "$pid"
  clear_faults
  [[ $first != "$second" ]] || bad lies "a released lease is handed out again: $second"
  [[ $1 != resolve ]] || ! grep -q "\"cloudId\":\"$first\"" "$W/beside" || bad lies "resolve hands out what was released: $(<"$W/beside")"
  sleep 1
  one_job "$LEASE"
  must_resolve "$LEASE" "$second"
  end_lease "$LEASE"
}

# behind SECONDS: the caller's time of day is not the site's, with a time to live.
behind() {
  local before operation
  row 7.5 'clocks that differ' 'the time of day of the client two hours behind or ahead, with a time to live of 90 minutes; set between two denials; then each operation, release'
  begin behind "$@"
  need_shim || return
  new_lease
  SHIMMED=(SHIM_CLOCK="$1")
  must_lease "$LEASE" || return
  before=$CLOUD_ID
  printf '{"protocolVersion":1,"operation":"touch","lease":{"leaseId":"%s","labels":{"ttl_secs":"5400"}},"state":"running"}\n' "$LEASE" >"$W/request"
  run_binary <"$W/request" >"$W/out" 2>"$W/err"
  RC=$?
  MS=0
  read_answer touch
  [[ $MESSAGE ]] || bad lost "touch with another clock: $OUT"
  sleep 12
  for operation in list cleanup resolve; do call "$operation" "$LEASE" ',"resolveWaitSeconds":5'; done
  [[ $CLOUD_ID == "$before" ]] || bad lost "with another clock resolve gives '$CLOUD_ID': $ERROR"
  SHIMMED=()
  must_resolve "$LEASE" "$before"
  end_lease "$LEASE"
}

# set_between SECONDS: a moment of denials, in which the time of day is set.
set_between() {
  local before operation
  row 7.5 'clocks that differ' 'the time of day of the client two hours behind or ahead, with a time to live of 90 minutes; set between two denials; then each operation, release'
  begin set_between "$@"
  need_shim || return
  new_lease
  must_lease "$LEASE" || return
  before=$CLOUD_ID
  set_fault squeue omit all
  set_fault all db-down
  call list "$LEASE"
  SHIMMED=(SHIM_CLOCK="$1")
  for operation in cleanup resolve list; do call "$operation" "$LEASE" ',"resolveWaitSeconds":2'; done
  SHIMMED=()
  clear_faults
  [[ $(live_jobs "$LEASE") == *RUNNING* ]] || bad lost 'two denials within ten seconds ended a job, by a clock that was set'
  must_resolve "$LEASE" "$before"
  end_lease "$LEASE"
}
