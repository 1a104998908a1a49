# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# What is done to a real Slurm: its daemons, network, nodes and jobs. Runs on the campus only.

# break_it FAULT, mend_it FAULT
break_it() {
  case $1 in
    frozen | frozen-killed) svc ctl freeze slurmctld ;;
    dead) svc ctl stop slurmctld ;;
    unplugged) campus net ctl cut ;;
    munge-login) svc login stop munged ;;
    munge-ctl) svc ctl stop munged ;;
    *) svc ctl stop "$1" ;;
  esac
}
mend_it() {
  case $1 in
    frozen) svc ctl thaw slurmctld ;;
    frozen-killed)
      svc ctl kill slurmctld
      svc ctl start slurmctld
      ;;
    dead) svc ctl start slurmctld ;;
    unplugged) campus net ctl heal ;;
    munge-login) svc login start munged ;;
    munge-ctl) svc ctl start munged ;;
    *) svc ctl start "$1" ;;
  esac
  wait_for 60 controller_answers || die "the controller does not answer after $1 was mended"
}
controller_answers() { on login alice 'squeue -h -t all >/dev/null 2>&1'; }

# real_fault FAULT OPERATION: the operation runs while it is broken.
real_fault() {
  local fault=$1 operation=$2 before='' answered='' said=''
  row 3.6 'controller, munge, database' 'slurmctld frozen and thawed, frozen and killed, dead, unplugged; munge down on login host and controller; slurmdbd or its database down; during acquire, resolve, list, release; mended; then the same, release'
  begin real_fault "$@"
  new_lease
  if [[ $operation != acquire && $operation != life ]]; then
    must_lease "$LEASE" || return
    before=$CLOUD_ID
    # A controller that is killed forgets what it learned in the last seconds.
    [[ $fault != frozen-killed ]] || sleep 6
  fi
  break_it "$fault"
  if [[ $operation == life ]]; then
    must_lease "$LEASE"
    must_resolve "$LEASE" "$CLOUD_ID"
    is_listed "$LEASE" || bad lost "not listed: $OUT"
  else
    call "$operation" "$LEASE" ',"acquireTimeoutSeconds":14,"resolveWaitSeconds":5'
    answered=$CLOUD_ID said=$MESSAGE
    case $operation in
      list) [[ $OUT == *"$LEASE"* ]] || bad lost "list does not show the lease: $OUT" ;;
      resolve) [[ ! $said ]] || bad lost "resolve: $said" ;;
    esac
  fi
  mend_it "$fault"
  if [[ $said == *'its job has ended'* ]]; then honest "$LEASE"; fi
  case $operation in
    acquire) after_failed_acquire ;;
    list | resolve) must_resolve "$LEASE" "$before" ;;
  esac
  end_lease "$LEASE"
}

row_of_jobs() {
  row 3.7 'jobs under an operator, a scheduler, a clock' 'requeued by force, suspended, preempted by cancel and by requeue, past its wall time, ignoring TERM; then resolve, list, release'
}
job_of() { printf '%s' "${1#slurm/job/}"; }
state_of() { on ctl root "squeue -h -t all -j $(job_of "$1") -o %T" 2>/dev/null; }

requeued() {
  local before
  row_of_jobs
  begin requeued
  new_lease
  must_lease "$LEASE" || return
  before=$CLOUD_ID
  on ctl root "scontrol update jobid=$(job_of "$before") requeue=1; scontrol requeue $(job_of "$before")" >/dev/null 2>&1
  call resolve "$LEASE" ',"resolveWaitSeconds":5'
  [[ ! $CLOUD_ID ]] || [[ $(state_of "$before") == RUNNING ]] || bad lies "resolve hands out a requeued job: $OUT"
  still_known "$LEASE"
  end_lease "$LEASE"
}

suspended() {
  local before
  row_of_jobs
  begin suspended
  new_lease
  must_lease "$LEASE" || return
  before=$CLOUD_ID
  on ctl root "scontrol suspend $(job_of "$before")" || die 'a job cannot be suspended here'
  call resolve "$LEASE" ',"resolveWaitSeconds":3'
  [[ ! $CLOUD_ID ]] || bad lies "resolve hands out a suspended job"
  call list "$LEASE"
  [[ $OUT == *'"state":"suspended"'* ]] || bad lost "list shows $OUT"
  on ctl root "scontrol resume $(job_of "$before")"
  must_resolve "$LEASE" "$before"
  # What is suspended gets no TERM from Slurm, so its runner cannot remove the work directory.
  on ctl root "scontrol suspend $(job_of "$before")"
  KILLED_AT_ONCE=yes
  end_lease "$LEASE"
  KILLED_AT_ONCE=''
}

# preempted PARTITION: a job of a better partition wants all that the node has for it.
preempted() {
  local before id node others
  row_of_jobs
  begin preempted "$@"
  new_lease
  must_lease "$LEASE" ",\"partition\":\"$1\"" || return
  before=$CLOUD_ID
  node=$(on ctl root "squeue -h -j $(job_of "$before") -o %N")
  others=$(on ctl root "squeue -h -t RUNNING -w $node -p batch" | wc -l)
  id=$(on login bob "cd; sbatch --parsable -o /dev/null -p batch -w $node --cpus-per-task=$((64 - others)) -t 5 --wrap 'exec sleep 300'")
  wait_for 60 not_running "$before" || bad answer "nothing was preempted"
  call resolve "$LEASE" ',"resolveWaitSeconds":3'
  [[ ! $CLOUD_ID ]] || bad lies "resolve hands out a preempted job: $OUT"
  is_listed "$LEASE" || bad lost "not listed: $OUT"
  end_lease "$LEASE"
  on login bob "scancel $id"
}
not_running() { [[ $(state_of "$1") != RUNNING ]]; }

# stubborn: what runs in a session takes no notice of TERM.
stubborn() {
  local host='' port=''
  row_of_jobs
  begin stubborn
  new_lease
  must_lease "$LEASE" || return
  [[ $OUT =~ \"host\":\"([^\"]*)\" ]] && host=${BASH_REMATCH[1]}
  [[ $OUT =~ \"port\":\"([0-9]*)\" ]] && port=${BASH_REMATCH[1]}
  # Its three processes hear neither TERM nor HUP.
  on login alice "cat >~/stubborn" <<<'trap "" TERM HUP INT; while :; do sleep 5; done'
  on login alice "timeout 30 ssh -n -i $STATE/leases/$LEASE/id_ed25519 -o UserKnownHostsFile=$STATE/leases/$LEASE/known_hosts -p $port $host \
    'for i in 1 2 3; do bash ~/stubborn >/dev/null 2>&1 </dev/null & done'" \
    || bad lost 'no login to a lease in use'
  end_lease "$LEASE"
}

# wall_time: a job of a minute.
wall_time() {
  local before
  row_of_jobs
  begin wall_time
  new_lease
  must_lease "$LEASE" ',"partition":"short","timeLimit":1' || return
  before=$CLOUD_ID
  wait_for 150 not_running "$before" || bad leaked 'a job lives past its wall time'
  call resolve "$LEASE" ',"resolveWaitSeconds":3'
  [[ ! $CLOUD_ID ]] || bad lies "resolve hands out a job past its wall time: $OUT"
  is_listed "$LEASE" || bad lost "not listed: $OUT"
  end_lease "$LEASE"
}

# read_only: the state dir may not be written, which root would not notice.
read_only() {
  local operation before
  row 7.4 'read-only state dir' 'mode 0500 for state dir, leases, trash, the lease; each operation says so; mended: acquire, resolve, release'
  begin read_only
  new_lease
  must_lease "$LEASE" || return
  before=$CLOUD_ID
  on login alice "chmod 500 $STATE $STATE/leases $STATE/trash $STATE/leases/$LEASE"
  for operation in list resolve touch cleanup acquire release; do
    call "$operation" "$LEASE" ',"resolveWaitSeconds":3,"acquireTimeoutSeconds":4'
    [[ $operation != release || $CODE == storage ]] || bad answer "release with a read-only state dir: $OUT"
    [[ $operation != release ]] || [[ ! $MESSAGE ]] || honest "$LEASE"
  done
  on login alice "chmod 700 $STATE $STATE/leases $STATE/trash $STATE/leases/$LEASE"
  still_known "$LEASE"
  end_lease "$LEASE"
}

row_of_nodes() {
  row 3.8 'nodes' 'slurmd killed, slurmd frozen, power off under a lease in use; resolve, list, release; mended'
}
# daemon_of_node kill|freeze: the job lives, but nobody can reach it.
daemon_of_node() {
  local node before
  row_of_nodes
  begin daemon_of_node "$@"
  new_lease
  must_lease "$LEASE" || return
  before=$CLOUD_ID
  node=$(on ctl root "squeue -h -j $(job_of "$before") -o %N")
  svc "$node" "$1" slurmd
  must_resolve "$LEASE" "$before"
  is_listed "$LEASE" || bad lost "not listed: $OUT"
  # Without its daemon the job cannot end, so it is ending until that is back.
  call release "$LEASE"
  [[ $MESSAGE != *'its job has ended'* ]] || honest "$LEASE"
  [[ $MESSAGE == *'is ending'* || $CODE == releasing ]] || bad answer "release without slurmd: $OUT"
  case $1 in kill) svc "$node" start slurmd ;; freeze) svc "$node" thaw slurmd ;; esac
  wait_for 120 nodes_are_up || die "the nodes do not come back: $(on ctl root 'sinfo -N')"
  end_lease "$LEASE"
}
nodes_are_up() {
  # A node that was drained because its processes could not be killed stays so until an operator looks.
  on ctl root 'scontrol update nodename=n1,n2 state=resume' >/dev/null 2>&1
  ! on ctl root 'sinfo -h -N -o %T' | grep -qv '^\(idle\|mixed\|allocated\)$'
}

node_off() {
  local node before
  row_of_nodes
  begin node_off
  new_lease
  # Where no bystander runs there is nothing else to lose.
  must_lease "$LEASE" || return
  before=$CLOUD_ID
  node=$(on ctl root "squeue -h -j $(job_of "$before") -o %N")
  # The controller gives the node up while the release waits.
  campus reconf SlurmdTimeout=15 >/dev/null
  campus power "$node" off
  call resolve "$LEASE" ',"resolveWaitSeconds":5'
  [[ ! $CLOUD_ID ]] || bad lies "resolve hands out a lease on a node without power"
  is_listed "$LEASE" || bad lost "not listed: $OUT"
  KILLED_AT_ONCE=yes
  release_once "$LEASE" || [[ $CODE == releasing ]] || bad answer "release of a job on a dead node: $OUT"
  campus power "$node" on
  wait_for 120 nodes_are_up || die "the nodes do not come back: $(on ctl root 'sinfo -N')"
  end_lease "$LEASE"
  KILLED_AT_ONCE=''
  # The bystanders on that node are gone with it.
  BYSTANDERS=''
}

# purged: the controller has forgotten the job.
purged() {
  campus reconf MinJobAge=2 >/dev/null
  forget_job purged
}

# unaccounted: the same on a site without accounting, and a life of a lease there.
unaccounted() {
  campus down >/dev/null 2>&1
  campus_up --acct none --min-job-age 2 --kill-wait 5
  forget_job unaccounted
  begin unaccounted
  new_lease
  must_lease "$LEASE" && must_resolve "$LEASE" "$CLOUD_ID"
  end_lease "$LEASE"
}

forget_job() {
  row 3.9 'purged jobs' 'MinJobAge=2: the controller has forgotten the job, with and without accounting; then resolve, list, release'
  begin "$1"
  new_lease
  must_lease "$LEASE" || return
  on login alice "scancel $(job_of "$CLOUD_ID")"
  wait_for 60 is_purged "$CLOUD_ID" || die 'the controller does not forget the job'
  call resolve "$LEASE" ',"resolveWaitSeconds":14'
  [[ $ERROR ]] || bad lies "resolve hands out a job that is gone: $OUT"
  is_listed "$LEASE" || bad lost "not listed before its release: $OUT"
  end_lease "$LEASE"
}
is_purged() { [[ $(on ctl root "squeue -h -t all -j $(job_of "$1")" 2>&1) == *'Invalid job id'* ]]; }

# federated OPERATION: the job runs on a cluster of the federation, which goes away and comes back.
federated() {
  local operation=$1
  row 3.91 'a federation' 'the job runs on a sibling cluster, whose controller goes away during list, cleanup, resolve, release, twice eleven seconds apart; it comes back; then release'
  campus down >/dev/null 2>&1
  campus_up --acct slurmdbd --annex --kill-wait 5
  on ctl root 'sacctmgr -i add federation fed clusters=campus,annex' >/dev/null 2>&1
  wait_for 30 federation_is_up || die 'no federation comes up'
  on ctl root 'scontrol update nodename=n1,n2 state=drain reason=test' || die 'the nodes are not drained'
  begin federated "$@"
  new_lease
  call acquire "$LEASE" ',"acquireTimeoutSeconds":80'
  [[ $CLOUD_ID ]] || bad stuck "acquire in a federation: $ERROR"
  runs_there || bad leaked 'the job does not run on the sibling'
  svc actl stop slurmctld
  call "$operation" "$LEASE" ',"resolveWaitSeconds":4'
  # Two looks ten seconds apart would make another job gone.
  sleep 11
  call "$operation" "$LEASE" ',"resolveWaitSeconds":4'
  if [[ $operation == release ]]; then
    [[ ! $MESSAGE ]] || ! runs_there || bad lies "'$MESSAGE' while the job runs on the sibling"
  else
    runs_there || bad lost "$operation has ended the job on a sibling that was away"
    [[ $operation != resolve || ! $MESSAGE ]] || bad lost "resolve of a job on a sibling that is away: $MESSAGE"
  fi
  is_listed "$LEASE" || ! runs_there || bad lost "a job lives and list does not show its lease: $OUT"
  svc actl start slurmctld
  wait_for 90 released_there || bad stuck "not releasable after the sibling is back: $ERROR"
  wait_for 30 nothing_runs_there || bad leaked 'the job on the sibling lives after its release'
  nothing_left "$LEASE"
  # The next task finds what the others have.
  campus down >/dev/null 2>&1
  make_site
  wait_for 60 bystanders_run || die 'the jobs of others do not start'
}
bystanders_run() {
  local id
  for id in $BYSTANDERS; do [[ $(state_by_id "$id") == RUNNING ]] || return; done
}
federation_is_up() { on ctl root 'scontrol show federation' 2>/dev/null | grep -q annex; }
runs_there() { campus pids a1 alice | grep -q "${LEASE#cbx_}"; }
nothing_runs_there() { ! runs_there; }
released_there() {
  call release "$LEASE"
  [[ $MESSAGE ]]
}
