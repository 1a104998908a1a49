# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# What is run: one task a line, for the workers. A task is a function of this directory with its arguments.

# faults_of OPERATION COMMAND TASK LIST...: a task for each fault.
faults_of() {
  local operation=$1 command=$2 task=$3 fault
  shift 3
  for fault; do printf '%s %s %s %s\n' "$task" "$operation" "$command" "$fault"; done
}

# Of spares, those that mostly wait.
plan_spares_waiting() {
  local step
  for step in claim unseen fill release cleanup pool drain; do printf 'spare_frozen %s\n' "$step"; done
  printf '%s\n' spare_over\ {1..3}
}

plan_spares() {
  local calls kind file
  for calls in "${CALLS[@]}"; do
    case $calls in
      openat | *poll | statx) printf 'spare_killed_claim again %s 1 300 7\n' "$calls" ;;
      *) printf 'spare_killed_claim again %s 1 300 1\n' "$calls" ;;
    esac
  done
  # The refill goes on in a thread of its own: these are its calls, where it makes more of them than the claim.
  printf '%s\n' 'spare_killed_claim again mkdirat 1 300 1 -f -b execve' 'spare_killed_claim again fsync 13 300 2 -f -b execve' \
    'spare_killed_claim again renameat 12 300 2 -f -b execve' 'spare_killed_claim again write 13 300 2 -f -b execve'
  for calls in renameat fsync wait4; do printf 'spare_killed_claim dead %s 3 300 2\n' "$calls"; done
  for calls in mkdirat renameat fsync flock write '?clone,?clone3,?vfork,?fork' '?unlinkat' wait4; do
    printf 'spare_killed_refill acquire %s 60 2\nspare_killed_refill cleanup %s 300 2\n' "$calls" "$calls"
    printf 'spare_killed_drain %s 1 300 2\n' "$calls"
  done
  for calls in mkdirat renameat fsync flock write '?unlinkat' wait4; do printf 'spare_killed_change %s 1 300 2\n' "$calls"; done
  for kind in renameat fsync write mkdirat; do printf 'spare_error claim %s 300 1\nspare_error refill %s 60 2\n' "$kind" "$kind"; done
  printf '%s\n' 'spare_error claim openat 300 5' 'spare_error refill openat 200 9'
  for kind in cancel runner node; do printf 'spare_race %s 6\n' "$kind"; done
  for kind in "${SEAT_FORGERIES[@]}"; do
    for file in endpoint.json ending.json answered; do printf 'spare_hostile %s %s\n' "$kind" "$file"; done
  done
  for kind in attempt-link attempt-gone attempt-file lease-link lease-gone lease-file permit-link permit-dir permit-other \
    attempt-locked jobs-link neighbour; do
    printf 'spare_hostile %s -\n' "$kind"
  done
}

# Tasks that mostly wait, for Slurm or for us.
plan_waiting() {
  local operation event fault when
  faults_of acquire sbatch slurm_fault "${FAULTS_SBATCH[@]}"
  for operation in acquire release resolve list cleanup; do faults_of "$operation" squeue slurm_fault "${FAULTS_SQUEUE[@]}"; done
  faults_of release scancel slurm_fault "${FAULTS_SCANCEL[@]}"
  for operation in acquire release resolve list cleanup touch; do faults_of "$operation" all slurm_fault "${FAULTS_ALL[@]}"; done
  for event in node-fail oom deadline power-off preempt-cancel; do printf 'job_event %s ends\n' "$event"; done
  for event in preempt-requeue requeue requeue-hold suspend; do printf 'job_event %s waits\n' "$event"; done
  printf 'job_event slurmd-off lives\n'
  for fault in 'node prolog-fail' 'node launch-fail' 'node disk-full' 'sched pause' 'sched pending BadConstraints' \
    'sched pending JobHeldAdmin' 'sched pending QOSMaxCpuPerUserLimit'; do
    printf 'start_fault %s\n' "$fault"
  done
  for fault in other-user own-job other-lease; do printf 'recycled %s\n' "$fault"; done
  printf 'forgotten %s\n' accounted unaccounted
  faults_of acquire sbatch output_fault "${FAULTS_OUTPUT[@]}"
  for operation in acquire release resolve list cleanup; do faults_of "$operation" squeue output_fault "${FAULTS_OUTPUT[@]}"; done
  faults_of release scancel output_fault "${FAULTS_OUTPUT[@]}"
  for fault in "${BAD_DAYS[@]}" numbers bystander; do printf 'bad_day %s\n' "$fault"; done
  for operation in acquire release resolve list touch cleanup; do
    for when in '' 50 300; do printf 'hung %s %s\n' "$operation" "$when"; done
  done
  for operation in parent reader full closed; do printf 'caller_dies %s\n' "$operation"; done
  for operation in list cleanup acquire; do printf 'acquire_dies %s\n' "$operation"; done
  printf '%s\n' 'two_patiences 2 25' 'two_patiences 6 20' 'race 5 2' 'race 6 1' 'race 8 3'
  for operation in list cleanup resolve touch; do printf 'overtaken %s\n' "$operation"; done
  for fault in -7200 7200; do printf 'behind %s\n' "$fault"; done
  for fault in 60 -60 100000; do printf 'set_between %s\n' "$fault"; done
  for operation in list cleanup release touch; do printf 'twins %s %s\n' own "$operation" shared "$operation"; done
  for fault in truncated empty no-record; do
    for operation in list cleanup forget another release away; do printf 'damaged_far %s %s\n' "$fault" "$operation"; done
  done
  for fault in squeue sbatch scancel slurm zone gone bash; do printf 'surroundings %s\n' "$fault"; done
  plan_spares_waiting
}

plan_rest() {
  local operation fault file when
  printf 'acquires_of_one %s\n' {1..8}
  for operation in release list cleanup touch resolve; do
    for fault in {1..6}; do printf 'acquire_against %s %s\n' "$operation" "$fault"; done
  done
  for operation in release acquire touch list cleanup resolve; do printf 'locked %s\n' "$operation"; done
  for fault in "${FORGERIES[@]}"; do
    printf 'forged_before %s\n' "$fault"
    for file in endpoint.json ending.json answered deadline authorized_keys output; do
      [[ $file == endpoint.json || $fault != @(port-shell|user|key|host-keys|deep|device) ]] || continue
      printf 'forged_after %s %s\n' "$fault" "$file"
    done
  done
  for fault in "${REPLACED[@]}"; do
    for when in before after; do printf 'replaced %s %s\n' "$fault" "$when"; done
  done
  for fault in "${FORGED_ROWS[@]}"; do
    for operation in list resolve cleanup release; do printf 'forged_job %s %s\n' "$fault" "$operation"; done
  done
  for fault in list cleanup touch resolve acquire later releasing adopt; do printf 'copied %s\n' "$fault"; done
  printf '%s\n' root_replaced secrets
  for fault in "${DAMAGES[@]}"; do printf 'damaged %s in-use\ndamaged %s queued\n' "$fault" "$fault"; done
  for fault in mode file dangling later strange leases-link; do printf 'unusable %s\n' "$fault"; done
  for fault in -86400 -3600 3600 86400; do
    for when in plain denied releasing; do printf 'clock %s %s\n' "$fault" "$when"; done
  done
}

plan_full() {
  local calls operation command moment kind step
  plan_rest
  plan_spares
  for calls in "${CALLS[@]}"; do
    step=1
    # Most files are only read, and most waits are like the one before.
    case $calls in openat | *poll | statx) step=3 ;; esac
    printf 'killed_acquire %s 1 300 %s\n' "$calls" "$step"
    printf 'killed_release %s 1 300 %s\n' "$calls" "$step"
  done
  for operation in acquire release list; do
    for kind in mkdirat renameat fsync write flock; do printf 'error_at %s %s 1 300 1\n' "$operation" "$kind"; done
    printf 'error_at %s openat 1 300 3\n' "$operation"
  done
  for calls in mkdirat renameat fsync flock '?unlinkat' wait4 '?clone,?clone3,?vfork,?fork'; do
    printf 'killed_settling list %s 1 300 2\nkilled_settling cleanup %s 2 300 2\n' "$calls" "$calls"
    printf 'killed_release_queued %s 1 300 2\n' "$calls"
  done
  for operation in resolve list touch cleanup doctor; do
    for calls in "${CALLS[@]}"; do
      case $operation-$calls in
        doctor-wait4 | doctor-openat | doctor-*poll | doctor-statx) printf 'killed_beside %s %s 1 300 15\n' "$operation" "$calls" ;;
        doctor-* | *-statx | *-getdents64) printf 'killed_beside %s %s 1 300 4\n' "$operation" "$calls" ;;
        *-openat | *-wait4 | *poll) printf 'killed_beside %s %s 1 300 5\n' "$operation" "$calls" ;;
        *) printf 'killed_beside %s %s 1 300 1\n' "$operation" "$calls" ;;
      esac
    done
  done
  for moment in before after before-group after-group; do
    printf 'killed_by_command acquire sbatch %s\nkilled_by_command acquire squeue %s\n' "$moment" "$moment"
    printf 'killed_by_command release scancel %s\nkilled_by_command release squeue %s\n' "$moment" "$moment"
    for command in list resolve cleanup; do printf 'killed_by_command %s squeue %s\n' "$command" "$moment"; done
  done
  # These want the processors for themselves.
  printf '%s\n' 'outage 1000' 'hundred_leases 100'
}

plan_fast() {
  printf '%s\n' \
    'killed_acquire renameat 3 300 5' 'killed_acquire fsync 2 300 5' 'killed_acquire wait4 9 300 9' \
    'killed_release fsync 1 300 4' 'killed_release ?unlinkat 2 300 9' 'killed_settling list renameat 1 300 2' \
    'killed_beside resolve openat 20 300 30' 'killed_beside touch renameat 1 300 1' \
    'killed_by_command acquire sbatch after-group' 'killed_by_command release scancel before-group' \
    'error_at acquire write 1 300 6' 'error_at acquire fsync 8 12 4' 'error_at acquire flock 2 2 1' 'error_at release renameat 1 300 2' \
    'forged_job row release' 'twins own list' 'copied list' 'race 5 2' 'hung resolve'
}

plan_campus() {
  local calls operation
  for calls in mkdirat renameat fsync flock '?clone,?clone3,?vfork,?fork' wait4 write; do
    printf 'killed_acquire %s 2 300 5\n' "$calls"
    printf 'killed_release %s 1 300 5\n' "$calls"
  done
  printf '%s\n' 'killed_acquire openat 40 300 15' 'killed_release ?unlinkat 2 300 5' 'killed_settling list renameat 1 300 5' \
    'killed_settling cleanup fsync 1 300 5' 'killed_beside resolve openat 35 300 20' 'killed_beside touch renameat 1 300 1' \
    'acquires_of_one 1' 'acquire_against release 1' 'acquire_against release 2' 'acquire_against list 1' 'acquire_against cleanup 1'
  for calls in frozen frozen-killed dead unplugged munge-login munge-ctl; do
    for operation in acquire release list resolve; do printf 'real_fault %s %s\n' "$calls" "$operation"; done
  done
  for calls in slurmdbd mariadbd; do printf 'real_fault %s life\n' "$calls"; done
  for calls in 'row list' 'neighbour release' 'end list' 'marks cleanup' 'controls list' 'renamed release'; do printf 'forged_job %s\n' "$calls"; done
  printf '%s\n' 'twins own list' 'twins own cleanup' 'twins shared release' 'copied list' 'copied cleanup' 'copied later' 'copied releasing' 'copied adopt'
  for operation in acquire release resolve list touch cleanup; do printf 'hung %s\nhung %s 100\n' "$operation" "$operation"; done
  for operation in list cleanup resolve release; do printf 'federated %s\n' "$operation"; done
  printf '%s\n' 'requeued' 'suspended' 'preempted scavkill' 'preempted scavenge' 'stubborn' 'read_only' 'daemon_of_node kill' \
    'daemon_of_node freeze' wall_time 'node_off' 'purged' 'unaccounted'
}
