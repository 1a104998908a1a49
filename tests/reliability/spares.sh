# shellcheck shell=bash disable=SC2034,SC2153,SC2016 # the files of this directory share their variables; what is quoted is for others
# Spares: an acquire that takes one, the calls that make and end them, killed and failing at each step; spares that end while they
# are taken; code in a lease that has taken one. A spare is in spares/, in exactly one lease, or it has ended. On the fake alone.

# What an acquire of these rows is configured with.
SPARES=',"spares":1,"timeLimit":"00:20:00"'
# The same pool, of which three may exist.
THREE=${SPARES/'"spares":1'/'"spares":3'}

# pool CONFIG WORD...: a verb of pool, with what the requests have; leaves SAID.
pool() {
  printf '{"readyCheck":"true"%s}' "$1" >"$W/pool.json"
  shift
  SAID=$(cli --config "$W/pool.json" "$@" 2>&1)
}

# filled COUNT [CONFIG]: so many spares that a login has succeeded on, and none else.
filled() {
  pool "${2:-$SPARES}" pool fill "$1"
  [[ $SAID == *"$1 spare(s) are ready"* ]] && return
  bad stuck "the pool is not filled: $SAID"
  return 1
}

# spare_jobs: `id|state|owner|nonce` of each job that lives, of spares and of leases that were made beside them.
spare_jobs() {
  fake-slurm jobs | awk -F '|' '
    $6 ~ /^pool:/ && $2 ~ /^(PENDING|CONFIGURING|RUNNING|SUSPENDED|COMPLETING|REQUEUED|REQUEUE_HOLD|STOPPED)$/ {
      split($6, word, ":"); print $1 "|" $2 "|" word[2] "|" word[3] }'
}

# seat_of LEASE: the seat that it has taken; empty where it has none.
seat_of() {
  local text=''
  [[ ! -f $STATE/pooled/$1/seat/identity.json ]] || text=$(<"$STATE/pooled/$1/seat/identity.json")
  [[ ! $text =~ '"leaseId":"'(cbx_[0-9a-f]{12}) ]] || printf '%s' "${BASH_REMATCH[1]}"
}

# places_of SEAT: where it or the lease of that id lies.
places_of() {
  local lease
  for lease in "$STATE/spares/$1" "$STATE/pooled/$1"; do [[ ! -e $lease ]] || printf '%s\n' "${lease#"$STATE/"}"; done
  for lease in "$STATE"/pooled/cbx_*; do
    [[ ! -d $lease ]] || [[ $(seat_of "${lease##*/}") != "$1" ]] || printf '%s\n' "${lease#"$STATE/"}/seat"
  done
}

# accounted: each job that may run is one spare's or one lease's.
accounted() {
  local id state owner nonce places
  while IFS='|' read -r id state owner nonce; do
    [[ $id && $state != COMPLETING ]] || continue
    places=$(places_of "$owner")
    if [[ ! $places ]]; then
      # It has lost its permit, and ends by itself.
      [[ ! -e $STATE/shared/$owner/permit && ! -e $STATE/shared/seats/$owner/permit ]] \
        || bad lost "job $id of $owner lives, and no spare and no lease knows it"
    elif [[ $places == *$'\n'* ]]; then
      bad wrong "job $id is that of ${places//$'\n'/ and of }"
    fi
  done < <(spare_jobs)
}

# taken LEASE [CONFIG]: acquire gives the lease, which answers, and its job is its alone.
taken() {
  call acquire "$1" "${2:-$SPARES}"
  answers_alone "$1"
}
# answers_alone LEASE: the same of an acquire that was made.
answers_alone() {
  local job=${CLOUD_ID#slurm/job/} seen owner seat permitted=0 id state nonce
  if [[ ! $CLOUD_ID ]]; then
    bad stuck "acquire gives no lease: $ERROR"
    return 1
  fi
  seen=$(cli ssh "$1" -- 'echo $SLURM_JOB_ID $CBX_LEASE_ID' 2>"$W/err")
  [[ $seen == "$job $1" ]] || bad lies "a session in the lease on job $job says '$seen': $(tail -n 2 "$W/err")"
  seat=$(seat_of "$1")
  while IFS='|' read -r id state owner nonce; do
    [[ $owner == "$1" || $owner == "$seat" ]] || continue
    grep -qsx "$nonce" "$STATE/shared/$owner/permit" "$STATE/shared/seats/$owner/permit" && permitted=$((permitted + 1))
  done < <(spare_jobs)
  ((permitted == 1)) || bad leaked "$permitted jobs of the lease may run: $(spare_jobs | tr '\n' ' ')"
  accounted
}

# known LEASE: it is listed where a job of it lives; nothing is two leases'.
known() {
  local seat
  accounted
  is_listed "$1" && return
  seat=$(seat_of "$1")
  if [[ $seat ]] || spare_jobs | grep -qF "|$1|"; then bad lost "a lease with a job is not in list: $(spare_jobs | tr '\n' ' ')"; fi
}

# drained: all spares end. A submission that nobody answered may be one until its horizon, which passes here.
drained() {
  local try file
  for ((try = 1; ; try++)); do
    pool "$SPARES" pool drain
    [[ $SAID != *'spare(s) ended in '* && $SAID != *'no spare to end'* ]] || break
    if ((try == 4)); then
      bad stuck "not drained: $SAID"
      return
    fi
    [[ $SAID == *'sbatch gave no answer'* || $SAID == *'may still appear'* || $SAID == *'its job is ending'* ]] || bad stuck "a drain fails: $SAID"
    for file in "$STATE"/spares/*/record.json; do age_submission "$file"; done
  done
}

no_spare_jobs() { [[ ! $(spare_jobs) ]]; }
spare_files() {
  find "$STATE/leases" "$STATE/pooled" "$STATE/spares" "$STATE/trash" "$STATE/shared" "$HOME/crabbox-slurm-work" \
    -maxdepth 2 -name '*cbx_*' 2>/dev/null
}
no_spare_files() { [[ ! $(spare_files) ]]; }

# all_ended LEASE...: whatever was done, they can be released, the spares can be ended, and then nothing is left.
all_ended() {
  local lease
  for lease; do release_all "$lease"; done
  drained
  wait_for 20 no_spare_jobs || bad leaked "after release and drain there lives $(spare_jobs | tr '\n' ' ')"
  wait_for 5 no_spare_files || bad left "after release and drain there is $(spare_files | tr '\n' ' ')"
}

# dead_goes LEASE: the acquire of a lease was killed, nobody repeats it; once its death is noted and the thirty seconds have passed
# the lease goes by itself. One that was prepared and no more, before it was noted where its acquire lives, has two minutes.
dead_goes() {
  local died=$STATE/pooled/$1/acquirer-died created
  [[ -e $STATE/pooled/$1 ]] || return 0
  # One that has been handed out stays, as always.
  ! grep -q '"phase": "answered"' "$STATE/pooled/$1/record.json" 2>/dev/null || return 0
  call list "$1"
  [[ -s $died ]] || call cleanup "$1" "$SPARES"
  sed -i 's/"at":[0-9]*/"at":0/' "$died" 2>/dev/null
  created=$(sed -n 's/^ *"created": \([0-9]*\).*/\1/p' "$STATE/pooled/$1/record.json" 2>/dev/null)
  [[ ! $created ]] || sed -i "s/\"created\": $created/\"created\": $((created - 130))/" "$STATE/pooled/$1/record.json"
  wait_for 30 gone_by_itself "$1" || bad leaked "nothing ends what a killed acquire left: $(find "$STATE/pooled/$1" -maxdepth 1 | tr '\n' ' ')"
}
gone_by_itself() {
  call cleanup "$1" "$SPARES"
  [[ ! -e $STATE/pooled/$1 ]]
}

# ---------------------------------------------------------------- killed

# spare_killed_claim again|dead CALLS FROM TO STEP [STRACE OPTION...]: with `-f -b execve` the n goes on to the calls of the thread
# that looks after the spares meanwhile.
spare_killed_claim() {
  row 8.1 'spares: killed anywhere while one is taken' 'SIGKILL to the group at the n-th call of each kind of an acquire that takes one; then acquire of the same lease; or list and cleanup, once its death is noted; release, drain'
  local after=$1
  CLAIM_OPTIONS=("${@:6}")
  each_n "spare_killed_claim_$after" "${@:2:4}"
}
spare_killed_claim_again() { spare_killed_claim_at again "$@"; }
spare_killed_claim_dead() { spare_killed_claim_at dead "$@"; }
spare_killed_claim_at() {
  local survived=0 first
  begin spare_killed_claim "$1" "$2" "$3" "$3" 1 "${CLAIM_OPTIONS[@]}"
  filled 1 || { all_ended; return 0; }
  first=$(spare_jobs)
  new_lease
  request acquire "$LEASE" "$SPARES" >"$W/request"
  if ! killed_call "$2" "$3" "${CLAIM_OPTIONS[@]}"; then
    survived=1 RC=0
    read_answer acquire
    answers_alone "$LEASE"
    [[ ${first%%|*} == "${CLOUD_ID#slurm/job/}" ]] || bad stuck "an acquire does not take the spare that is ready: $CLOUD_ID, not $first"
  else
    known "$LEASE"
    # However far it came: the spare is there.
    [[ $(places_of "$(cut -d '|' -f 3 <<<"$first")") ]] || bad lost "the spare is nowhere: $first"
    if [[ $1 == again ]]; then taken "$LEASE"; else dead_goes "$LEASE"; fi
    known "$LEASE"
  fi
  all_ended "$LEASE"
  return "$survived"
}

# spare_killed_refill acquire|cleanup CALLS COUNT STEP [FROM]: an acquire without a spare from the moment on in which it looks after them; a
# cleanup that finds one missing, which is the same with nothing before it.
spare_killed_refill() {
  local from=${5:-1}
  row 8.2 'spares: killed anywhere while one is made' 'the same, of an acquire that finds none, from the moment on in which it looks after the spares, and of a cleanup that finds one missing; then acquire, release, drain'
  [[ $1 != acquire || ${5:-} ]] || from=$(first_of_refill "$2")
  REFILL=$1
  each_n spare_killed_refill_at "$2" "$from" "$((from + $3))" "$4"
}
# first_of_refill CALLS: how many calls of a kind an acquire makes before that, and the next.
first_of_refill() {
  local from
  new_lease
  request acquire "$LEASE" "$SPARES" >"$W/request"
  # The lock of who looks after the spares is opened with O_CREAT, the directory is not.
  strace -qq -o "$W/strace" -e "trace=$1,openat" "$BIN" --state-dir "$STATE" <"$W/request" >/dev/null 2>&1
  sed -i '/"spares", O_RDWR|O_CREAT/,$d' "$W/strace"
  if [[ $1 == openat ]]; then from=$(wc -l <"$W/strace"); else from=$(grep -vc '^openat(' "$W/strace"); fi
  all_ended "$LEASE" >&2
  # Acquires differ by a few waits.
  printf '%s' "$((from > 2 ? from - 1 : 1))"
}
# one_missing: an acquire has asked for a spare, and there is none.
one_missing() {
  new_lease
  set_fault sched pause
  taken_and_kept "$LEASE"
  KEPT=$LEASE
  pool "$SPARES" pool
  local job
  while IFS='|' read -r job _; do [[ ! $job ]] || scancel "$job"; done < <(spare_jobs | grep -vF "|$KEPT|")
  wait_for 10 none_but_kept || bad leaked "a cancelled spare lives: $(spare_jobs | tr '\n' ' ')"
}
taken_and_kept() { call acquire "$1" "$SPARES,\"acquireTimeoutSeconds\":1" ',"keep":true'; }
none_but_kept() { ! spare_jobs | grep -qvF "|$KEPT|"; }
spare_killed_refill_at() {
  local survived=0
  begin spare_killed_refill "$REFILL" "$1" 0 1 "$2"
  KEPT=''
  if [[ $REFILL == cleanup ]]; then one_missing; fi
  new_lease
  request "$REFILL" "$LEASE" "$SPARES" >"$W/request"
  killed_call "$1" "$2" || survived=1
  fake-slurm clear sched
  known "$LEASE"
  if ((survived)); then
    RC=0
    read_answer "$REFILL"
    [[ ! $ERROR ]] || bad stuck "$REFILL fails: $ERROR"
  fi
  # What was begun is finished or cleared away, and one spare comes, at most.
  taken "$LEASE"
  call cleanup "$LEASE" "$SPARES"
  accounted
  (($(spare_jobs | grep -vc -e "|$LEASE|" -e "|$KEPT|" -e "|$(seat_of "$LEASE")|" -e COMPLETING) <= 1)) \
    || bad leaked "more than one spare: $(spare_jobs | tr '\n' ' ')"
  all_ended "$LEASE" ${KEPT:+"$KEPT"}
  return "$survived"
}

# spare_killed_drain CALLS FROM TO STEP
spare_killed_drain() {
  row 8.3 'spares: killed anywhere while they are ended' 'the same, of a drain of two spares beside a lease on a third; then an acquire, which takes none of those that were to end, release, drain'
  each_n spare_killed_drain_at "$@"
}
spare_killed_drain_at() {
  local pid status before kept
  begin spare_killed_drain "$1" "$2" "$2" 1
  filled 1 || { all_ended; return 0; }
  new_lease
  taken "$LEASE" || { all_ended "$LEASE"; return 0; }
  KEPT=$LEASE kept=$CLOUD_ID
  filled 2 "$THREE" || { all_ended "$KEPT"; return 0; }
  in_group strace -qq -o "$TRACE" -e "trace=$1" -e "inject=$1:signal=SIGKILL:when=$2" \
    "$BIN" --state-dir "$STATE" pool drain >"$W/out" 2>"$W/err" </dev/null &
  pid=$!
  wait "$pid" 2>/dev/null
  status=$?
  kill -KILL -- "-$pid" 2>/dev/null
  known "$KEPT"
  before=$(grep -l '"phase": "releasing"' "$STATE"/spares/*/record.json 2>/dev/null)
  new_lease
  taken "$LEASE" "$THREE"
  [[ ! $before || ! $(seat_of "$LEASE") || $before != *"$(seat_of "$LEASE")"* ]] || bad wrong "a lease takes a spare that was to end: $before"
  must_resolve "$KEPT" "$kept"
  all_ended "$LEASE" "$KEPT"
  ((status == 137))
}

# spare_killed_change CALLS FROM TO STEP
spare_killed_change() {
  row 8.4 'spares: killed anywhere while a lease in the queue takes one' 'the same, of an acquire whose own job is held when a spare becomes free; then acquire, release, drain'
  each_n spare_killed_change_at "$@"
}
spare_killed_change_at() {
  local survived=0 own seat
  begin spare_killed_change "$1" "$2" "$2" 1
  new_lease
  set_fault sched pause
  taken_and_kept "$LEASE"
  own=$(live_jobs "$LEASE" | cut -d '|' -f 1)
  [[ $own ]] || bad stuck "a kept acquire leaves no job: $OUT"
  fake-slurm hit "$own" hold
  clear_faults
  filled 1 || { all_ended "$LEASE"; return 0; }
  request acquire "$LEASE" "$SPARES,\"acquireTimeoutSeconds\":30" >"$W/request"
  if ! killed_call "$1" "$2"; then
    survived=1 RC=0
    read_answer acquire
    answers_alone "$LEASE"
  else
    known "$LEASE"
    call acquire "$LEASE" "$SPARES,\"acquireTimeoutSeconds\":30"
    answers_alone "$LEASE"
  fi
  [[ ${CLOUD_ID#slurm/job/} != "$own" && $(seat_of "$LEASE") ]] || bad stuck "it has not taken the spare that became free: $OUT"
  all_ended "$LEASE"
  return "$survived"
}

# ---------------------------------------------------------------- errors of the file system

# spare_error claim|refill CALL COUNT STEP [FROM]
spare_error() {
  local what=$1 call=$2 n from=${5:-1} survived=0 errnos=(ENOSPC EDQUOT EIO)
  row 8.5 'spares: full disk, full quota, broken disk' 'ENOSPC, EDQUOT, EIO at the n-th renameat, fsync, write, mkdirat, openat of an acquire that takes a spare, and of one that makes one, once and from there on; then acquire, release, drain'
  # Before the first file of ours the loader and libc open theirs.
  if [[ ${5:-} ]]; then :; elif [[ $what == refill ]]; then from=$(first_of_refill "$call"); elif [[ $call == openat ]]; then from=$(first_own_open claim); fi
  for ((n = from; n <= from + $3; n += $4)); do
    ERRNO=${errnos[n % 3]} MORE=''
    ((n % 2)) || [[ $call == openat ]] || MORE=+
    if spare_error_at "$what" "$call" "$n"; then survived=0; elif ((++survived == 2)); then break; fi
  done
}
spare_error_at() {
  local what=$1 call=$2 n=$3 hit
  begin spare_error "$what" "$call" 0 1 "$n"
  if [[ $what == claim ]]; then filled 1 || { all_ended; return 0; }; fi
  new_lease
  request acquire "$LEASE" "$SPARES,\"acquireTimeoutSeconds\":20" >"$W/request"
  timeout -s KILL 100 strace -qq -o "$W/strace" -e "trace=$call,openat" -e "inject=$call:error=$ERRNO:when=$n$MORE" \
    "$BIN" --state-dir "$STATE" <"$W/request" >"$W/out" 2>"$W/err"
  RC=$?
  hit=$(grep -m 1 INJECTED "$W/strace")
  if ! grep -q '^write(1,.*INJECTED' "$W/strace"; then
    read_answer acquire
    if [[ $ERROR && $hit ]]; then
      # What the C library reads of users is not ours to explain.
      [[ $hit == *'"/etc/'* ]] || told acquire
      # The spare that it would have left is of no consequence to it. Its own files come before the lock of who looks after spares.
      sed '/"spares", O_RDWR|O_CREAT/,$d' "$W/strace" | grep -q INJECTED || bad stuck "an acquire fails for a spare that it would have left: $ERROR"
    elif [[ ! $ERROR ]]; then
      answers_alone "$LEASE"
    fi
  elif ((RC == 0)); then
    bad answer 'acquire exits with 0 although its answer could not be written'
  fi
  known "$LEASE"
  taken "$LEASE"
  all_ended "$LEASE"
  [[ $hit ]]
}

# ---------------------------------------------------------------- spares that end while they are taken

# spare_race cancel|runner|node TIMES: three spares end in some moment of three acquires.
spare_race() {
  local i
  row 8.6 'spares: ended while they are taken' 'cancelled, their runner killed, their node failed, their time over (of which the acquire does not know), in a moment of three acquires that is never the same; then each lease answers, release, drain'
  for ((i = 1; i <= $2; i++)); do
    begin spare_race "$1" 1
    if filled 3 "$THREE"; then three_acquires "$1" "0.$((RANDOM % 3))$((RANDOM % 10))"; else all_ended; fi
  done
}
# spare_over: the same at the end of the spares' time; on record they have more.
spare_over() {
  local time=${THREE},'"spareSeconds":120' began
  row 8.6 'spares: ended while they are taken' 'cancelled, their runner killed, their node failed, their time over (of which the acquire does not know), in a moment of three acquires that is never the same; then each lease answers, release, drain'
  began=$SECONDS
  begin spare_over "$@"
  filled 3 "$time" || { all_ended; return; }
  sed -i 's/"seconds":120/"seconds":1800/' "$STATE"/spares/*/spare.json
  sleep "$((119 - SECONDS + began)).$((RANDOM % 10))"
  call list cbx_000000000000
  three_acquires over 0 "$time"
}
# three_acquires HOW PAUSE [CONFIG]
three_acquires() {
  local jobs job leases=() lease i config=${3:-$THREE}
  mapfile -t jobs < <(spare_jobs | cut -d '|' -f 1)
  new_crowd
  for i in 1 2 3; do
    new_lease
    leases+=("$LEASE")
    request acquire "$LEASE" "$config" | run_binary >"$W/crowd/acquire.$LEASE" 2>/dev/null &
    CROWD+=("$!")
    [[ $1 != over ]] || sleep "0.$((RANDOM % 10))"
  done
  sleep "$2"
  case $1 in
    cancel) scancel "${jobs[@]}" ;;
    runner) for job in "${jobs[@]}"; do kill_runner "$job"; done ;;
    node) for job in "${jobs[@]}"; do fake-slurm hit "$job" node-fail; done ;;
  esac 2>/dev/null
  gather
  orderly
  for lease in "${leases[@]}"; do
    CLOUD_ID='' ERROR=$(<"$W/crowd/acquire.$lease")
    [[ ! $ERROR =~ '"cloudId":"'([^\"]*)\" ]] || CLOUD_ID=${BASH_REMATCH[1]}
    # One that was handed out just before may have ended since.
    if [[ $CLOUD_ID && $1 != over ]] && [[ " ${jobs[*]} " == *" ${CLOUD_ID#slurm/job/} "* ]]; then
      accounted
    else
      answers_alone "$lease"
    fi
  done
  all_ended "${leases[@]}"
}
# kill_runner JOB: its batch script, with a signal that it cannot catch.
kill_runner() {
  local spool pid
  for pid in $(grep -lzsxF "SLURM_JOB_ID=$1" /proc/[0-9]*/environ | tr -cs 0-9 ' '); do
    ! tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q slurm_script || kill -KILL "$pid"
  done
}

# ---------------------------------------------------------------- code in the sandbox of a lease on a seat

SEAT_FORGERIES=(fifo link-file link-dir directory huge user host)

# spare_hostile KIND FILE: a file of its seat, or with `-` a directory, is replaced after the answer.
spare_hostile() {
  local seat attempt other kept spare before file=$2
  row 8.7 "spares: files of a lease's seat rewritten" "endpoint.json, ending.json, answered, permit, attempt, seat: links, FIFO, directory, gone, huge, another's; beside a lease and a spare, whose jobs live on; then resolve, list, touch, cleanup, release, drain"
  begin spare_hostile "$@"
  prepare_outside
  filled 3 "$THREE" || { all_ended; return; }
  new_lease
  taken "$LEASE" "$THREE" || { all_ended "$LEASE"; return; }
  KEPT=$LEASE kept=$CLOUD_ID
  new_lease
  taken "$LEASE" "$THREE" || { all_ended "$LEASE" "$KEPT"; return; }
  seat=$(seat_of "$LEASE") other=$(seat_of "$KEPT") before=$CLOUD_ID
  [[ $seat && $other ]] || bad stuck "these have taken no spares: $(find "$STATE/pooled")"
  spare=$(spare_jobs | grep -v -e "|$seat|" -e "|$other|" | head -n 1)
  attempt=$STATE/shared/seats/$seat/$(<"$STATE/shared/seats/$seat/permit")
  if [[ $file == - && $1 == neighbour ]]; then
    # Its own permit and attempt are those of the other lease, by links.
    rm -rf -- "$STATE/shared/seats/$seat" && ln -s "$STATE/shared/seats/$other" "$STATE/shared/seats/$seat"
  elif [[ $file == - ]]; then
    replace "$1" "$attempt" "$STATE/shared/seats/$seat"
  else
    forge "$1" "$attempt/$file"
  fi
  all_operations
  release_all "$LEASE"
  wait_for 15 spare_is_over "$seat" || bad leaked "after its release there lives $(spare_jobs | grep -F "|$seat|" | tr '\n' ' ')"
  nothing_escaped
  spare_jobs | grep -qF "|RUNNING|$other|" || bad wrong "the job of another lease has ended: $(spare_jobs | tr '\n' ' ')"
  spare_jobs | grep -qxF "$spare" || bad wrong "the job of a spare has ended: $spare"
  must_resolve "$KEPT" "$kept"
  # A link in its place is not what a release removes.
  rm -rf -- "$STATE/shared/seats/$seat"
  all_ended "$KEPT"
  nothing_escaped
}
spare_is_over() { ! spare_jobs | grep -F "|$1|" | grep -qv '|COMPLETING|'; }

# ---------------------------------------------------------------- a controller that is frozen

# spare_frozen STEP
spare_frozen() {
  local before
  row 8.8 'spares: a frozen controller' 'before an acquire that takes a spare, with an answer that is younger than a minute and without one; before fill, release, cleanup, pool, drain; it goes on; then the same, release, drain'
  begin spare_frozen "$@"
  new_lease
  case $1 in
    fill)
      set_fault all frozen
      pool "$SPARES" pool fill 1
      ;;
    *)
      filled 1 || { all_ended; return; }
      before=$(spare_jobs | cut -d '|' -f 1)
      [[ $1 != release ]] || taken "$LEASE"
      call list "$LEASE"
      [[ $1 != unseen ]] || rm -f -- "$STATE"/cache/squeue-*
      set_fault all frozen
      case $1 in
        claim)
          call acquire "$LEASE" "$SPARES"
          [[ ${CLOUD_ID#slurm/job/} == "$before" ]] || bad stuck "a claim needs the controller: $OUT"
          ;;
        unseen) call acquire "$LEASE" "$SPARES,\"acquireTimeoutSeconds\":8" ',"keep":true' ;;
        release | cleanup) call "$1" "$LEASE" "$SPARES" ;;
        pool) pool "$SPARES" pool ;;
        drain) pool "$SPARES" pool drain ;;
      esac
      ;;
  esac
  clear_faults
  accounted
  case $1 in
    fill | drain | pool) pool "$SPARES" pool ;;
    cleanup) call cleanup "$LEASE" "$SPARES" ;;
    # It is ended, or listed as what is being ended.
    release) release_all "$LEASE" ;;
  esac
  taken "$LEASE"
  all_ended "$LEASE"
}
