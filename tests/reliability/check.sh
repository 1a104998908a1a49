# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# Calls of the binary, and what must be true after each. Knows nothing of where Slurm is: that is fake.sh or campus.sh,
# which give run_binary, live_jobs, lease_files, age_record and at_rest.

say() { printf 'reliability: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 2
}

# A release is killed by its client after 30 s.
RELEASE_LIMIT_MS=30000

# new_lease: a lease id of its own in LEASE.
new_lease() {
  LEASE_COUNT=$((${LEASE_COUNT:-0} + 1))
  printf -v LEASE 'cbx_%02x%06x%04x' "$WORKER" "$((SRANDOM & 0xffffff))" "$LEASE_COUNT"
}

# request OPERATION LEASE [CONFIG MEMBERS [REQUEST MEMBERS]]; both start with a comma.
request() {
  printf '{"protocolVersion":1,"operation":"%s","config":{"readyCheck":"true"%s},' "$1" "${3:-}"
  printf '"desired":{"leaseId":"%s","slug":"s","name":"n"},"lease":{"leaseId":"%s"},"id":"%s"%s}\n' "$2" "$2" "$2" "${4:-}"
}

# call OPERATION LEASE [CONFIG [MEMBERS]]: runs it and reads its answer. CALL_LIMIT bounds it in seconds.
call() {
  local began=${EPOCHREALTIME/[.,]/}
  request "$@" >"$W/request"
  run_binary <"$W/request" >"$W/out" 2>"$W/err"
  RC=$?
  MS=$(((${EPOCHREALTIME/[.,]/} - began) / 1000))
  read_answer "$1"
}

# read_answer OPERATION: leaves MESSAGE, ERROR, CODE, CLOUD_ID; each is empty where the answer has none.
read_answer() {
  OUT=$(<"$W/out")
  MESSAGE='' ERROR='' CODE='' CLOUD_ID=''
  if ((RC == 137)); then
    bad answer "$1 took more than ${CALL_LIMIT:-100} s: $(tail -n 2 "$W/err")"
    return
  fi
  if [[ $OUT != '{"protocolVersion":1,'*'}' || $OUT == *$'\n'* ]]; then
    bad answer "$1 answered with something else than one JSON value (exit $RC): $OUT / $(tail -n 2 "$W/err")"
    return
  fi
  [[ $OUT =~ ^'{"protocolVersion":1,"message":"'([^\"]*) ]] && MESSAGE=${BASH_REMATCH[1]}
  [[ $OUT =~ '"cloudId":"'([^\"]*)\" ]] && CLOUD_ID=${BASH_REMATCH[1]}
  [[ $OUT =~ '"code":"'([a-z-]*)\" ]] && CODE=${BASH_REMATCH[1]}
  if [[ $OUT == '{"protocolVersion":1,"error":"'* ]]; then
    CLOUD_ID='' ERROR=${OUT#'{"protocolVersion":1,"error":"'} ERROR=${ERROR%%'","code":'*}
    # What and what to do, and never a message that only a programmer can use.
    [[ $ERROR == *'; '* && $OUT == *'"remedy":"'?* && $CODE != internal ]] || bad answer "$1 gave a useless message: $OUT"
  fi
}

# wait_for SECONDS COMMAND...
wait_for() {
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < until)) || return 1
    sleep 0.2
  done
}

# must_lease LEASE [CONFIG]: acquire gives the lease; another identity than before (the third word) is a lost lease.
must_lease() {
  call acquire "$1" "${2:-}"
  if [[ ! $CLOUD_ID ]]; then
    bad stuck "acquire gives no lease after the fault: $ERROR"
    return 1
  fi
  one_job "$1"
}

# must_resolve LEASE CLOUD_ID
must_resolve() {
  call resolve "$1"
  [[ $CLOUD_ID == "$2" ]] || bad lost "resolve gives '$CLOUD_ID' for $2: $ERROR$MESSAGE"
}

# one_job LEASE: exactly one job may run, the one that the permit names.
one_job() {
  local id state comment permitted=0 permit
  permit=$(permit_of "$1")
  while IFS='|' read -r id state comment; do
    [[ ! $id ]] || [[ ! $permit || $comment != *":$permit:"* ]] || permitted=$((permitted + 1))
  done <<<"$(live_jobs "$1")"
  ((permitted == 1)) || bad leaked "$permitted live jobs with the permit '$permit': $(live_jobs "$1" | tr '\n' ' ')"
}

# is_listed LEASE: asks list.
is_listed() {
  call list "$1"
  [[ $OUT == *"\"leaseId\":\"$1\""* ]]
}

is_not_listed() { ! is_listed "$1"; }

# still_known LEASE: a lease whose job lives is in list.
still_known() {
  is_listed "$1" && return
  [[ ! $(live_jobs "$1") ]] || bad lost "a job lives and list does not show its lease: $(live_jobs "$1" | tr '\n' ' ')"
}

no_jobs() { [[ ! $(live_jobs "$1") ]]; }
no_files() { [[ ! $(lease_files "$1") ]]; }

# honest LEASE: `released` was said, so nothing may live.
honest() {
  local living
  living=$(live_jobs "$1")
  [[ ! $living ]] || bad lies "'$MESSAGE' while there lives ${living//$'\n'/ }"
}

# release_once LEASE: one release and the truth of its answer; 0 when the lease is gone.
release_once() {
  call release "$1"
  ((MS <= RELEASE_LIMIT_MS)) || bad answer "a release took $MS ms"
  case $MESSAGE in
    *'its job has ended'* | *'does not exist'*) honest "$1" ;;
    *'is ending'*)
      if live_jobs "$1" | grep -qv '|COMPLETING|'; then honest "$1"; fi
      wait_for 45 is_not_listed "$1" || bad stuck "released, but listed for 45 s more: $OUT"
      ;;
    *) return 1 ;;
  esac
}

# end_lease LEASE: whatever was done to it, it can be released, and then nothing is left.
end_lease() { release_all "$1" && nothing_left "$1"; }

# release_all LEASE: until there is nothing more to release.
release_all() {
  local lease=$1 try
  for ((try = 1; ; try++)); do
    ! release_once "$lease" || break
    if ((try == 4)); then
      bad stuck "not releasable: $ERROR"
      return 1
    fi
    [[ $CODE == releasing || $CODE == busy ]] || bad stuck "release fails: $ERROR"
    [[ ! $(live_jobs "$lease") ]] || still_known "$lease"
    # A submission that nobody answered is kept for a quarter of an hour; that time passes here.
    [[ $ERROR != *'may still appear'* ]] || age_record "$lease"
  done
  return 0
}

# nothing_left LEASE
nothing_left() {
  wait_for 15 no_jobs "$1" || bad leaked "after its release there lives $(live_jobs "$1" | tr '\n' ' ')"
  wait_for 5 no_files "$1" || bad left "after its release there is $(lease_files "$1" | tr '\n' ' ')"
}
