# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# Damage and change: files of the state dir are broken, missing, of another version, or not to be written.

DAMAGES=(truncated empty binary not-an-object other-lease future-fields future-format no-record no-identity neither directory link
  no-key no-known-hosts no-events wrong-mode wrong-uid)

# damaged KIND PHASE: in use, or queued.
damaged() {
  local dir job before listed
  row 7.1 'damaged records' 'truncated, empty, binary, of a later version, of another lease, missing, a link or a directory; identity or key missing; in use and queued; then list, resolve, touch, cleanup, acquire, release'
  begin damaged "$@"
  new_lease
  if [[ $2 == queued ]]; then
    set_fault sched pause
    call acquire "$LEASE" ',"acquireTimeoutSeconds":1' ',"keep":true'
  else
    must_lease "$LEASE" || return
  fi
  dir=$STATE/leases/$LEASE job=$(live_jobs "$LEASE")
  cp "$dir/record.json" "$W/record"
  case $1 in
    truncated) head -c 200 "$W/record" >"$dir/record.json" ;;
    empty) : >"$dir/record.json" ;;
    binary) head -c 3000 /dev/urandom >"$dir/record.json" ;;
    not-an-object) printf '[]' >"$dir/record.json" ;;
    other-lease) sed "s/$LEASE/cbx_ffffffffffff/" "$W/record" >"$dir/record.json" ;;
    future-fields) sed '2i "future": {"a": [1, 2]},' "$W/record" >"$dir/record.json" ;;
    future-format) sed 's/"format": 1/"format": 99/' "$W/record" >"$dir/record.json" ;;
    no-record) rm "$dir/record.json" ;;
    no-identity) rm "$dir/identity.json" ;;
    neither) rm "$dir/identity.json" "$dir/record.json" ;;
    directory) rm "$dir/record.json" && mkdir "$dir/record.json" ;;
    link) mv "$dir/record.json" "$W/record" && ln -s "$W/record" "$dir/record.json" ;;
    no-key) rm "$dir/id_ed25519" ;;
    no-known-hosts) rm -f "$dir/known_hosts" ;;
    no-events) rm -f "$dir/events.jsonl" && mkdir "$dir/events.jsonl" ;;
    wrong-mode) chmod 777 "$dir" "$dir/record.json" ;;
    wrong-uid) sed "s/\"uid\": $UID/\"uid\": 4242/" "$W/record" >"$dir/record.json" ;;
  esac
  clear_faults
  call list "$LEASE"
  listed=$OUT
  [[ $listed == *"\"leaseId\":\"$LEASE\",\"slug\":\""?* ]] || bad lost "list does not show a lease with a damaged record: $listed"
  for before in resolve touch cleanup acquire list; do
    call "$before" "$LEASE" ',"resolveWaitSeconds":3,"acquireTimeoutSeconds":5' ',"keep":true'
    ((MS < 90000)) || bad answer "$before took $MS ms"
  done
  [[ $OUT == *"\"leaseId\":\"$LEASE\""* ]] || bad lost "a lease with a damaged record has left the list: $OUT"
  [[ $(live_jobs "$LEASE") ]] || bad lost "its job was ended: $job"
  case $1 in
    # A later version wrote it: it is not written by this one, but its job can be ended with that version, or by hand.
    future-format)
      call release "$LEASE"
      [[ $MESSAGE || $ERROR == *newer* ]] || bad answer "release of a later version's lease: $OUT"
      [[ ! $MESSAGE ]] || honest "$LEASE"
      [[ $(live_jobs "$LEASE") ]] || bad wrong "the job of a later version's lease was ended: $OUT"
      cp "$W/record" "$dir/record.json"
      ;;
    wrong-uid) cp "$W/record" "$dir/record.json" ;;
  esac
  end_lease "$LEASE"
}

# damaged_far KIND CALL: a lease on another cluster, with a shared dir of its own, which only identity.json tells then.
damaged_far() {
  local dir job call=$2
  row 7.6 'damaged records of leases elsewhere' \
    'on another cluster, with a shared dir of its own: record truncated, empty, missing; list, cleanup, forget, release as another lease, release without configuration, away cluster; then release'
  begin damaged_far "$@"
  fake-slurm conf Clusters=annex || die 'the fake takes no second cluster'
  CLUSTER=annex SHARED=$W/far
  new_lease
  if must_lease "$LEASE" ",\"clusters\":\"annex\",\"sharedDir\":\"$SHARED\""; then
    dir=$STATE/leases/$LEASE
    job=$(live_jobs "$LEASE" | head -n 1 | cut -d '|' -f 1)
    case $1 in
      truncated) truncate -s 200 "$dir/record.json" ;;
      empty) : >"$dir/record.json" ;;
      no-record) rm "$dir/record.json" ;;
    esac
    case $call in
      forget)
        if cli forget "$LEASE" --because test >"$W/out" 2>&1; then
          [[ ! $(live_jobs "$LEASE") ]] || bad lies "a damaged lease is forgotten while its job runs: $(<"$W/out")"
        fi
        [[ $(state_by_id "$job") == RUNNING ]] || bad wrong 'forget has ended a job'
        ;;
      another)
        call release "$LEASE" '' ",\"expected\":{\"leaseId\":\"$LEASE\",\"slug\":\"other\",\"cloudId\":\"slurm/job/999\"}"
        [[ $CODE == identity-mismatch ]] || bad wrong "release of another lease by the name of this one: $OUT"
        ;;
      away)
        set_fault all db-down
        call release "$LEASE"
        [[ ! $MESSAGE ]] || honest "$LEASE"
        clear_faults
        ;;
      list | cleanup) call "$call" "$LEASE" ;;
    esac
    if [[ $call != @(release|away) ]]; then
      [[ $(state_by_id "$job") == RUNNING ]] || bad wrong "$call has ended the job of a lease with a damaged record"
      [[ $(permit_of "$LEASE") ]] || bad wrong "$call has taken the permit away"
    fi
    still_known "$LEASE"
    end_lease "$LEASE"
    [[ $(state_by_id "$job") != RUNNING ]] || bad leaked "job $job on the other cluster lives on"
  fi
  CLUSTER='' SHARED=''
  fake-slurm conf Clusters=
}

# unusable KIND: the whole state dir.
unusable() {
  row 7.2 'a state dir that cannot be used' 'wrong mode, a file, a link to nowhere, a later format, a full of strange names; each operation says so; mended: acquire, resolve, release'
  begin unusable "$@"
  local operation before
  clean_state
  new_lease
  must_lease "$LEASE" || return
  before=$CLOUD_ID
  mv "$STATE" "$STATE.was"
  case $1 in
    mode) mv "$STATE.was" "$STATE" && chmod 755 "$STATE" ;;
    file) : >"$STATE" ;;
    dangling) ln -s "$W/nowhere/at/all" "$STATE" ;;
    later) mv "$STATE.was" "$STATE" && printf '2\n' >"$STATE/format" ;;
    strange) mv "$STATE.was" "$STATE" && mkdir -p "$STATE/leases/cbx_" "$STATE/leases/"$'a\nb' "$STATE/leases/cbx_00000000000g" "$STATE/trash/x" && : >"$STATE/leases/cbx_000000000abc" ;;
    leases-link) mv "$STATE.was" "$STATE" && mv "$STATE/leases" "$W/leases.was" && ln -s "$W/leases.was" "$STATE/leases" ;;
  esac
  for operation in list resolve acquire cleanup touch; do
    call "$operation" "$LEASE" ',"resolveWaitSeconds":3,"acquireTimeoutSeconds":5'
    [[ $CODE != not-found ]] || [[ $1 == file || $1 == dangling ]] || bad lost "$operation: $OUT"
    [[ $operation != list ]] || [[ $ERROR || $OUT == *"$LEASE"* ]] || bad lost "list shows nothing: $OUT"
  done
  [[ $(live_jobs "$LEASE") == *RUNNING* ]] || bad lost 'the job was ended'
  case $1 in
    mode) chmod 700 "$STATE" ;;
    file | dangling)
      rm -rf -- "$STATE" "$W/nowhere"
      mv "$STATE.was" "$STATE"
      ;;
    later) printf '1\n' >"$STATE/format" ;;
    strange) rm -rf -- "$STATE/leases/cbx_" "$STATE/leases/"$'a\nb' "$STATE/leases/cbx_00000000000g" "$STATE/leases/cbx_000000000abc" ;;
    leases-link) rm -f -- "$STATE/leases" && mv "$W/leases.was" "$STATE/leases" ;;
  esac
  must_resolve "$LEASE" "$before"
  end_lease "$LEASE"
}

# clock SECONDS PHASE: the clock was moved: times on record lie in the past or in the future.
clock() {
  local record name time before
  row 7.3 'clock jumps' 'all times on record moved by an hour or a day, back and forth; in use and being released; then each operation, release'
  begin clock "$@"
  new_lease
  must_lease "$LEASE" || return
  before=$CLOUD_ID record=$STATE/leases/$LEASE/record.json
  for name in created sent; do
    time=$(sed -n "s/^ *\"$name\": \([0-9]*\).*/\1/p" "$record")
    sed -i "s/\"$name\": $time/\"$name\": $((time + $1))/" "$record"
  done
  case $2 in
    denied) sed -i "s/^  \"attempt\"/  \"denied\": $((EPOCHSECONDS + $1)),\n&/" "$record" ;;
    releasing) sed -i "s/\"phase\": \"answered\"/\"phase\": \"releasing\",\n  \"releasing\": $((EPOCHSECONDS + $1))/" "$record" ;;
  esac
  if [[ $2 == releasing ]]; then
    wait_for 30 settled list || bad stuck "list does not finish the release: $OUT"
    nothing_left "$LEASE"
    return
  fi
  call cleanup "$LEASE"
  must_resolve "$LEASE" "$before"
  end_lease "$LEASE"
}
