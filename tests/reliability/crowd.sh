# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# Several at once: one lease wanted by many, calls that work against each other, many leases, held locks, a long outage.

# crowd COUNT OPERATION LEASE [CONFIG [MEMBERS]]: so many calls at once; their answers in $W/crowd/*.
crowd() {
  local count=$1 i
  shift
  for ((i = 0; i < count; i++)); do
    request "$@" | run_binary >"$W/crowd/$1.$BASHPID.$i" 2>/dev/null &
    CROWD+=("$!")
  done
}
gather() {
  local pid
  for pid in "${CROWD[@]}"; do wait "$pid"; done
  CROWD=()
}
# answers OPERATION: those that the calls of the crowd gave.
answers() { cat -- "$W/crowd/$1."* 2>/dev/null; }
new_crowd() {
  CROWD=()
  rm -rf -- "$W/crowd"
  mkdir "$W/crowd"
}
# orderly: each answer is one JSON value and none is a bug.
orderly() {
  local file text
  for file in "$W"/crowd/*; do
    text=$(<"$file")
    [[ $text == '{"protocolVersion":1,'*'}' && $text != *$'\n'* && $text != *'"code":"internal"'* ]] || bad answer "${file##*/}: $text"
  done
}

acquires_of_one() {
  local ids
  row 5.1 'ten acquires of one lease' 'at once; all get the same job'
  begin acquires_of_one "$@"
  new_lease
  new_crowd
  crowd 10 acquire "$LEASE"
  gather
  orderly
  ids=$(answers acquire | grep -o '"cloudId":"[^"]*"' | sort | uniq -c)
  [[ $ids =~ ^' '*'10 "cloudId":"slurm/job/'[0-9]+\"$ ]] || bad leaked "ten acquires gave ${ids//$'\n'/, }: $(answers acquire | grep -m 1 error)"
  one_job "$LEASE"
  end_lease "$LEASE"
}

# acquire_against OPERATION: each against the other, in a moment that is never the same.
acquire_against() {
  row 5.2 'acquire against release, list, cleanup, touch, resolve' 'at once, from different moments of an acquire on; then acquire, release'
  begin acquire_against "$@"
  new_lease
  new_crowd
  crowd 1 acquire "$LEASE"
  sleep "0.$((RANDOM % 6))$((RANDOM % 10))"
  crowd 3 "$1" "$LEASE"
  crowd 1 list "$LEASE"
  gather
  orderly
  still_known "$LEASE"
  if [[ $1 != release ]]; then
    [[ $(answers acquire) == *'"cloudId"'* ]] || bad stuck "$1 made an acquire fail: $(answers acquire)"
  elif answers release | grep -q 'its job has ended' && [[ ! $(permit_of "$LEASE") ]]; then
    nothing_left "$LEASE"
  fi
  must_lease "$LEASE"
  end_lease "$LEASE"
}

# Ten callers with ten leases each, while list and cleanup go on.
hundred_leases() {
  local caller i lease rounds=0 pids=() pid
  new_lease
  row 5.3 'a hundred leases by ten callers' 'acquire and release of each, while list and cleanup go on'
  new_crowd
  for ((caller = 0; caller < 10; caller++)); do
    for ((i = 0; i < $1 / 10; i++)); do
      begin hundred_leases "$@"
    done
    (
      trap - TERM
      for ((i = 0; i < $1 / 10; i++)); do
        printf -v lease 'cbx_%06x%02x%04x' "$((SRANDOM & 0xffffff))" "$caller" "$i"
        request acquire "$lease" ',"acquireTimeoutSeconds":120' | run_binary >"$W/crowd/acquire.$lease" 2>/dev/null
        request release "$lease" | run_binary >"$W/crowd/release.$lease" 2>/dev/null
      done
    ) &
    pids+=("$!")
  done
  while kill -0 "${pids[@]}" 2>/dev/null; do
    call list "$LEASE"
    [[ $OUT == *'"leases":['* ]] || bad answer "list among a hundred leases: $OUT"
    ((rounds++ % 5)) || call cleanup "$LEASE"
    sleep 1
  done 2>/dev/null
  for pid in "${pids[@]}"; do wait "$pid"; done
  orderly
  for lease in "$W"/crowd/acquire.*; do
    grep -q '"cloudId"' "$lease" || bad stuck "an acquire among a hundred: $(<"$lease")"
    LEASE=${lease##*.}
    grep -q 'its job has ended' "$W/crowd/release.$LEASE" || bad stuck "a release among a hundred: $(<"$W/crowd/release.$LEASE")"
    nothing_left "$LEASE"
  done
}

# locked OPERATION: somebody else holds the lease's lock and does not let go.
locked() {
  local holder before
  row 5.4 'a held lock' 'another process holds the lease'\''s lock while each operation runs; then it lets go, release'
  begin locked "$@"
  new_lease
  must_lease "$LEASE" || return
  before=$CLOUD_ID
  [[ -p $W/never ]] || mkfifo "$W/never"
  # Without a child, so that the lock ends with it.
  (
    trap - EXIT TERM
    exec 8<>"$STATE/leases/$LEASE/lock" 7<>"$W/never"
    flock 8
    read -r -t 120 -u 7
  ) &
  holder=$!
  sleep 0.3
  call "$1" "$LEASE" ',"acquireTimeoutSeconds":4,"resolveWaitSeconds":4'
  case $1 in
    release)
      [[ $CODE == releasing && $MS -lt $RELEASE_LIMIT_MS ]] || bad answer "release of a locked lease ($MS ms): $OUT"
      ;;
    acquire) [[ $CODE == busy || $CLOUD_ID == "$before" ]] || bad answer "acquire of a locked lease: $OUT" ;;
    touch) [[ $MESSAGE ]] || bad answer "touch waits for no lock: $OUT" ;;
    list) [[ $CLOUD_ID == "$before" ]] || bad lost "list of a locked lease: $OUT" ;;
  esac
  kill "$holder" 2>/dev/null
  wait "$holder" 2>/dev/null
  end_lease "$LEASE"
}

# outage COUNT: so many jobs end while the controller is away, half of them being released, and half of them are purged
# before it is back. Their number must not show in what is asked then, nor in the time that it takes.
outage() {
  local count=$1 i id lease nonce template instance user phase queries cancels left rounds=0 until
  row 5.5 'an outage with 1,000 leases' 'their jobs end while the controller is away, half of them being released, half of them purged; it comes back, then list and cleanup until all are gone, within 90 s: a handful of listings, and for what is purged one question each, two seconds of them a call'
  begin outage "$@"
  clean_state
  new_lease
  must_lease "$LEASE" || return
  template=$LEASE nonce=$(permit_of "$LEASE") instance=$(<"$STATE/instance") user=$(id -un):$UID
  for ((i = 1; i <= count; i++)); do
    printf -v lease 'cbx_%012x' "$((0xabc000000 + i))"
    id=$((100000 + i)) phase=answered
    ((i % 2)) || phase=releasing
    mkdir -p "$STATE/leases/$lease" "$STATE/shared/$lease/$nonce"
    sed -e "s/$template/$lease/g; s/\"id\": [0-9]*/\"id\": $id/; s|slurm/job/[0-9]*|slurm/job/$id|" \
      -e "s/\"phase\": \"answered\"/\"phase\": \"$phase\"/; /\"submitted\":/d" "$STATE/leases/$template/record.json" >"$STATE/leases/$lease/record.json"
    printf '{"leaseId":"%s","slug":"s","name":"n"}' "$lease" >"$STATE/leases/$lease/identity.json"
    ((i % 4 < 2)) || printf '%s\n' "id=$id user=$user name=cbx-${lease#cbx_} state=COMPLETED comment=cbx:$lease:$nonce:$instance"
  done | xargs -P 2 -L 1 "$REPOSITORY/tests/fake-slurm/fake-slurm" inject >/dev/null
  set_fault all down
  call list "$LEASE"
  left=$(rows)
  ((left == count + 1)) || bad lost "list shows $left of $((count + 1)) leases in an outage"
  clear_faults
  queries=$(fake-slurm calls squeue) cancels=$(fake-slurm calls scancel)
  # What was purged is gone with the second denial, ten seconds after the first.
  until=$((SECONDS + 90))
  while ((left > 1 && SECONDS < until)); do
    ((rounds++ == 0)) || sleep 4
    call cleanup "$LEASE"
    call list "$LEASE"
    left=$(rows)
  done
  ((left == 1)) || bad stuck "$left leases are left after $rounds rounds"
  queries=$(($(fake-slurm calls squeue) - queries)) cancels=$(($(fake-slurm calls scancel) - cancels))
  ((queries <= 3 * rounds + count && cancels <= rounds)) || bad answer "$count leases cost $queries queries and $cancels cancellations in $rounds rounds"
  say "$count leases after an outage: $queries squeue, $cancels scancel, the last list took $MS ms"
  LEASE=$template
  must_resolve "$LEASE" "$(sed -n 's/.*"cloudId": "\(.*\)",*/\1/p' "$STATE/leases/$LEASE/record.json")"
  end_lease "$LEASE"
}
rows() { grep -o '"leaseId"' <<<"$OUT" | wc -l; }
