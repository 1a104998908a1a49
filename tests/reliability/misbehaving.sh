# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# Slurm misbehaves: a fault is set, an operation runs under it, the fault is cleared, and everything must come right.

# Faults of one command; they bear on the operations that use it. `~` stands for a space.
FAULTS_SBATCH=(down unplugged 'frozen 3' frozen-then-killed 'timeout lost' 'timeout done' 'timeout thaw' 'zero-bytes done'
  'zero-bytes lost' munge-here munge-there 'hang 3' 'delay 3' 'exit 1:sbatch:~error:~slurm_receive_msg:~something~new'
  'exit 127' 'reject Invalid~account~or~account/partition~combination~specified')
FAULTS_SQUEUE=(down unplugged frozen 'timeout lost' munge-here munge-there 'hang 3' 'delay 3' 'exit 1' 'omit all'
  'unknown-state EXPEDITING' 'wrong-user somebody:4242')
FAULTS_SCANCEL=(down 'frozen 3' 'timeout lost' 'timeout done' 'zero-bytes thaw' munge-there noeffect 'hang 3' 'exit 1')
FAULTS_ALL=(down unplugged frozen frozen-then-killed munge-here munge-there db-down)

# slurm_fault OPERATION COMMAND FAULT [VALUE]
slurm_fault() {
  local operation=$1
  row "3.$(row_of "$2")" "Slurm: $2 fails" 'each way of failing while acquire, resolve, list, touch, cleanup, release run; mended; then the same, release'
  begin slurm_fault "$@"
  under_fault "$operation" "${@:2}"
}

# What sbatch says on a bad day, as `exit` has it: known refusals, known not-sent, and words that nobody knows.
BAD_DAYS=('fatal:~--mem,~--mem-per-cpu,~and~--mem-per-gpu~are~mutually~exclusive.' 'fatal:~Unable~to~process~configuration~file'
  'error:~Batch~job~submission~failed:~Slurm~controller~in~standby~mode' 'error:~Batch~job~submission~failed:~Slurm~backup~controller~in~standby~mode'
  'error:~Batch~job~submission~failed:~Unexpected~message~received' 'error:~RPC~rate~limit~exceeded' 'error:~Batch~job~submission~failed:~Zero~Bytes'
  'error:~Slurm~temporarily~unable~to~accept~job,~sleeping~and~retrying' 'error:~something~that~nobody~has~read~before'
  'error:~Munge~encode~failed:~Failed~to~access~"/run/munge/munge.socket.2":~No~such~file~or~directory'
  'error:~Batch~job~submission~failed:~Protocol~authentication~error' 'error:~cli_filter~plugin~terminated~with~error')

# bad_day TEXT|numbers: for one submission, and for as long as the acquire lasts.
bad_day() {
  local times
  row 3.17 'Slurm: sbatch on a bad day' 'fatal texts, rate limit, standby controller, munge and plugins that fail, unknown words, once and all along; two numbers, of jobs and of none; then acquire, release'
  for times in once always; do
    begin bad_day "$@"
    new_lease
    case $1 in
      numbers) set_fault sbatch banner-after "${2:-5000}" ;;
      bystander) set_fault sbatch banner-after "${BYSTANDERS%%[[:space:]]*}" ;;
      *) set_fault sbatch exit "1:sbatch: ${1//\~/ }" ;;
    esac
    if [[ $times == once && $1 != @(numbers|bystander) ]]; then
      fake-slurm clear sbatch
      set_fault sbatch exit "1:sbatch: ${1//\~/ }" --times 1
    fi
    call acquire "$LEASE" ',"acquireTimeoutSeconds":25'
    [[ ! $CLOUD_ID ]] || one_job "$LEASE"
    # A number beside the id hides nothing: the job is there and runs.
    [[ $1 != @(numbers|bystander) || $CLOUD_ID ]] || bad stuck "a number beside the id: $OUT"
    clear_faults
    after_failed_acquire
    end_lease "$LEASE"
  done
}

row_of() {
  case $1 in
    sbatch) echo 11 ;; squeue) echo 12 ;; scancel) echo 13 ;; sacct) echo 14 ;; all) echo 15 ;; *) echo 16 ;;
  esac
}

# under_fault OPERATION COMMAND FAULT [VALUE]
under_fault() {
  local operation=$1 command=$2 fault=$3 value=${4:-} before='' answered=''
  value=${value//\~/ }
  new_lease
  if [[ $operation != acquire ]]; then
    must_lease "$LEASE" || return
    before=$CLOUD_ID
  fi
  set_fault "$command" "$fault" ${value:+"$value"}
  call "$operation" "$LEASE" ',"acquireTimeoutSeconds":6,"resolveWaitSeconds":3'
  answered=$CLOUD_ID
  # What an answer says must be true at that moment, whatever Slurm does.
  case $operation in
    acquire) [[ ! $answered ]] || one_job "$LEASE" ;;
    release) [[ $MESSAGE != *'its job has ended'* ]] || honest "$LEASE" ;;
    resolve) [[ $MESSAGE != 'no lease'* ]] || bad lost "resolve does not know the lease: $MESSAGE" ;;
    list) [[ $OUT == *"$LEASE"* ]] || bad lost "list does not show the lease: $OUT" ;;
  esac
  clear_faults
  if [[ $operation != release && $before ]]; then
    # Nothing was learned, so nothing has changed.
    [[ $(live_jobs "$LEASE") == *'|RUNNING|'* ]] || bad lost "$operation has ended the job of a lease in use"
    must_resolve "$LEASE" "$before"
  elif [[ $operation == acquire ]]; then
    after_failed_acquire
  fi
  # What was held back by the fault appears now, without a permit.
  end_lease "$LEASE"
}

# A failed acquire has taken everything back, or says that it could not; then the lease can be had after all.
after_failed_acquire() {
  still_known "$LEASE"
  call acquire "$LEASE" ',"acquireTimeoutSeconds":45'
  if [[ $CLOUD_ID ]]; then
    one_job "$LEASE"
  elif [[ $CODE == never-runs ]]; then
    # A kept job that the site holds for good was given up by this call.
    must_lease "$LEASE"
  elif [[ $CODE != releasing ]]; then
    bad stuck "acquire gives no lease after the fault: $ERROR"
  fi
}

# job_event EVENT EXPECTED: what happens to a job in use. EXPECTED: ends (an error at once), lives, waits.
job_event() {
  local event=$1 expected=$2 before
  row 3.2 'Slurm: what happens to jobs' 'node failure, power-off, slurmd dead, out of memory, preemption by cancel and requeue, requeue, hold, suspension, deadline, launch failure of a lease in use; then resolve, list, release'
  begin job_event "$@"
  new_lease
  must_lease "$LEASE" || return
  before=$CLOUD_ID
  fake-slurm hit "${before#slurm/job/}" "$event"
  # A node that lost its power is missed after SlurmdTimeout.
  sleep 1
  call resolve "$LEASE" ',"resolveWaitSeconds":6'
  case $expected in
    ends) [[ ! $CLOUD_ID ]] || ! no_jobs "$LEASE" || bad lies "resolve hands out a job that has ended" ;;
    lives) [[ $CLOUD_ID == "$before" ]] || bad lost "resolve: $ERROR" ;;
    waits) [[ ! $CLOUD_ID ]] || bad lies "resolve hands out a job that does not run: $OUT" ;;
  esac
  is_listed "$LEASE" || bad lost "not listed after $event: $OUT"
  call cleanup "$LEASE"
  [[ ! $(live_jobs "$LEASE") ]] || still_known "$LEASE"
  [[ $event != @(node-fail|power-off|oom) ]] || KILLED_AT_ONCE=yes
  case $event in suspend) fake-slurm hit "${before#slurm/job/}" resume ;; slurmd-off) fake-slurm hit "${before#slurm/job/}" slurmd-on ;; esac
  if [[ $expected == lives ]]; then must_resolve "$LEASE" "$before"; fi
  end_lease "$LEASE"
  KILLED_AT_ONCE=''
}

# start_fault COMMAND FAULT [VALUE]: what keeps a job from its start.
start_fault() {
  row 3.3 'Slurm: what keeps a job from its start' 'prolog failure, launch failure, full node, held, reasons that never pass, a queue that does not move, with and without keep; then acquire, release'
  begin start_fault "$@"
  under_fault acquire "$@"
  begin start_fault "$@"
  new_lease
  set_fault "$1" "$2" ${3:+"$3"}
  call acquire "$LEASE" ',"acquireTimeoutSeconds":3' ',"keep":true'
  clear_faults
  still_known "$LEASE"
  after_failed_acquire
  end_lease "$LEASE"
}

# recycled USER: another job got the id, while nobody looked.
recycled() {
  local id before
  row 3.4 'Slurm: recycled ids' "the lease's id belongs to a job of another user, to another job of this one, to another lease; then each operation, release"
  begin recycled "$@"
  new_lease
  must_lease "$LEASE" || return
  id=${CLOUD_ID#slurm/job/}
  scancel "$id"
  wait_for 20 no_jobs "$LEASE"
  fake-slurm purge "$id"
  case $1 in
    other-user) fake-slurm inject id="$id" user=somebody:4242 name="cbx-${LEASE#cbx_}" state=RUNNING ;;
    own-job) fake-slurm inject id="$id" user="$(id -un):$UID" name=mine state=RUNNING ;;
    other-lease)
      fake-slurm inject id="$id" user="$(id -un):$UID" name=cbx-fffffffffffd state=RUNNING \
        comment=cbx:cbx_fffffffffffd:0123456789abcdef:01234567
      ;;
  esac >/dev/null
  before=$(fake-slurm calls scancel)
  call resolve "$LEASE" ',"resolveWaitSeconds":3'
  [[ ! $CLOUD_ID ]] || bad lies "resolve hands out another's job: $OUT"
  call list "$LEASE"
  call cleanup "$LEASE"
  end_lease "$LEASE"
  fake-slurm jobs | grep -q "^$id|RUNNING|" || bad wrong "the job that got the id was touched: $(fake-slurm jobs | grep "^$id|")"
  ! fake-slurm calls scancel --list | tail -n "+$((before + 1))" | cut -f 6- | grep -qw -- "$id" || bad wrong "scancel $id after the id was another's"
  fake-slurm purge "$id"
}

# forgotten: the controller has purged the job, with and without accounting.
forgotten() {
  row 3.5 'Slurm: purged jobs' 'the controller has forgotten the job, with and without accounting; then each operation, release'
  begin forgotten "$@"
  new_lease
  must_lease "$LEASE" || return
  [[ $1 == accounted ]] || fake-slurm conf Accounting=off
  scancel "${CLOUD_ID#slurm/job/}"
  wait_for 10 no_jobs "$LEASE"
  fake-slurm purge "${CLOUD_ID#slurm/job/}"
  call resolve "$LEASE" ',"resolveWaitSeconds":14'
  [[ $ERROR ]] || bad lies "resolve hands out a job that is gone: $OUT"
  is_listed "$LEASE" || bad lost 'a lease whose job is gone stays listed until it is released'
  end_lease "$LEASE"
  fake-slurm conf Accounting=on
}
