# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# The site on the campus, a real Slurm: alice on its login host. Sourced over fake.sh, whose functions it replaces.

CAMPUS=$REPOSITORY/tests/campus/campus

campus() { "$CAMPUS" --root "$W/campus" "$@"; }
# on HOST USER COMMAND...: a shell string.
on() { campus exec "$@"; }

make_site() {
  WHERE=real STATE=/home/alice/.local/state/slurm-sandbox ME=alice TRACE=/dev/null KILLED_AT_ONCE=''
  # Longer than any fault lasts: a controller that reaches no node for so long ends their jobs, those of others as well.
  campus_up --acct slurmdbd --slurmd-timeout 120
}

# campus_up OPTION...
campus_up() {
  local said
  said=$(campus up "$@" 2>&1) || die "the campus does not come up (it needs root on Debian 12 and namespaces): $said"
  campus put "$ROOT/slurm-sandbox" >/dev/null || die 'the campus takes no files'
  BIN=/opt/slurm-sandbox/slurm-sandbox ALICE=$W/campus/home/alice SEEN=$W/campus$STATE
  SLURM_VERSION="Slurm $(on login alice 'sinfo --version' | cut -d ' ' -f 2)"
  printf '%s\n' "$SLURM_VERSION" >"$ROOT/slurm-version"
  wait_for 30 campus_works || die 'the campus runs no jobs'
  BYSTANDERS=$(
    on login alice 'cd; sbatch --parsable -o /dev/null -J mine --wrap "exec sleep 86400"
      sbatch --parsable -o /dev/null -J cbx-ffffffffffff --wrap "exec sleep 86400"
      sbatch --parsable -o /dev/null -J cbx-fffffffffffe --comment=cbx:cbx_fffffffffffe:0123456789abcdef:01234567 --wrap "exec sleep 86400"'
    on login bob 'cd; sbatch --parsable -o /dev/null -J mine --wrap "exec sleep 86400"'
  )
  [[ $(wc -w <<<"$BYSTANDERS") == 4 ]] || die 'the bystanders cannot be submitted'
}
campus_works() { on login alice 'srun -Q -t 1 true' 2>/dev/null; }

end_site() { campus down >/dev/null 2>&1; }

in_group() { exec setsid "$CAMPUS" --root "$W/campus" exec login alice "exec $(printf '%q ' "$@")"; }

run_binary() {
  timeout -s KILL "${CALL_LIMIT:-100}" "$CAMPUS" --root "$W/campus" exec login alice "exec $BIN --state-dir $STATE"
}

cli() { on login alice "exec timeout -s KILL ${CALL_LIMIT:-100} $BIN --state-dir $STATE $*"; }
on_client() { on login alice "$1"; }
state_by_id() { on ctl root "squeue -h -t all -j $1 -o %T" 2>/dev/null; }

# Slurm is asked on its own host, with the whole listing; while it cannot answer, nothing is known.
live_jobs() {
  on ctl root "squeue -h -t all -n cbx-${1#cbx_} -o '%i|%T|%k'" 2>/dev/null \
    | grep -E '\|(PENDING|CONFIGURING|RUNNING|SUSPENDED|COMPLETING|REQUEUED|REQUEUE_HOLD|STOPPED|RESIZING)\|'
}

permit_of() {
  local nonce=''
  [[ ! -f $W/campus${SHARED:-$STATE/shared}/$1/permit ]] || read -r nonce <"$W/campus${SHARED:-$STATE/shared}/$1/permit"
  printf '%s' "$nonce"
}

lease_files() {
  local path shared=$W/campus${SHARED:-$STATE/shared}
  for path in "$SEEN/leases/$1" "$shared/$1" "$shared"/.gone-"$1"* "$SEEN"/trash/*"$1"* \
    "$ALICE/crabbox-slurm-work/$1" "$ALICE"/crabbox-slurm-work/."$1"*; do
    [[ ! $KILLED_AT_ONCE || $path != "$ALICE"/crabbox* ]] || continue
    [[ ! -e $path && ! -L $path ]] || printf '%s\n' "$path"
  done
}

# In place: the file stays alice's.
age_record() {
  local uptime
  uptime=$(sed -n 's/^ *"uptime": \(-\{0,1\}[0-9]*\).*/\1/p' "$SEEN/leases/$1/record.json" 2>/dev/null)
  [[ ! $uptime ]] || on login alice "sed -i 's/\"uptime\": $uptime/\"uptime\": $((uptime - 1000))/' $STATE/leases/$1/record.json"
}

# processes: alice's on the nodes, but for those of the bystanders.
processes() {
  local node
  for node in n1 n2; do campus pids "$node" alice 2>/dev/null | grep -v 'sleep 86400\|slurm_script\|slurmstepd' | sed "s/^/$node /"; done
}
no_processes() { [[ ! $(processes) ]]; }

at_rest() {
  local id
  wait_for 40 no_processes || bad left "processes of jobs that have ended: $(processes | tr '\n' ';')"
  for id in $BYSTANDERS; do
    on ctl root "squeue -h -j $id -o %T" 2>/dev/null | grep -q RUNNING || bad wrong "job $id of somebody else was touched"
  done
}

# What the fake does with knobs is done to real daemons here.
svc() { campus svc "$@" >/dev/null || die "campus svc $* failed"; }
clear_faults() { :; }

# A file system of the client's host, for all that runs there.
hung_place() { printf /home/alice/hung; }
hang() {
  if [[ ${2:-} ]]; then campus fs login slow "$1" "$2"; else campus fs login hang "$1"; fi || die "campus fs $* failed"
}
heal() { campus fs login heal "$1" || die "campus fs heal $1 failed"; }
need_shim() { :; }
