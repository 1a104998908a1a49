# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# A worker's own site on the fake scheduler: its Slurm, its home, its state dir, and jobs of others that nobody may touch.

# make_site: W is the worker's directory.
make_site() {
  WHERE=fake STATE=$W/state SEEN=$W/state TRACE=$W/strace ME=$(id -un) KILLED_AT_ONCE=''
  export HOME=$W/home SLURM_CONF=$W/site/fake-slurm.conf XDG_STATE_HOME=$W/home/state
  mkdir -p "$W/site" "$HOME" || die "cannot make $W"
  # Finished jobs are forgotten soon, or listings of thousands would be all that is measured.
  fake-slurm conf MinJobAge=60 RequeueDelay=2 SlurmdTimeout=3 MessageTimeout=1 || die 'the fake does not work'
  BYSTANDERS=$(
    # Another job of this user, one that bears a lease's name, and one of another state dir.
    sbatch --parsable --job-name=mine --output=/dev/null --wrap 'exec sleep 86400'
    sbatch --parsable --job-name=cbx-ffffffffffff --output=/dev/null --wrap 'exec sleep 86400'
    sbatch --parsable --job-name=cbx-fffffffffffe --comment=cbx:cbx_fffffffffffe:0123456789abcdef:01234567 \
      --output=/dev/null --wrap 'exec sleep 86400'
  )
  [[ $(wc -w <<<"$BYSTANDERS") == 3 ]] || die "the bystanders cannot be submitted"
}

# clean_state: a state dir of its own for the next rows.
clean_state() { rm -rf -- "$STATE"; }

# end_site: only what was started from this site.
end_site() {
  # Jobs end their own sshd when they are told to.
  SLURM_CONF=$W/site/fake-slurm.conf scancel -u "$ME" >/dev/null 2>&1
  wait_for 10 no_processes
  fake-slurm down >/dev/null 2>&1
}

# in_group COMMAND...: in a process group of its own, which is this process's number.
in_group() { exec setsid "$@"; }

run_binary() { under_shim timeout -s KILL "${CALL_LIMIT:-100}" "$BIN" --state-dir "$STATE"; }

# cli WORD...: a sub-command that people type.
cli() { timeout -s KILL "${CALL_LIMIT:-100}" "$BIN" --state-dir "$STATE" "$@"; }

# on_client COMMAND: a shell string, as the user, where the program runs.
on_client() { bash -c "$1"; }

# SHARED names the shared dir of a lease that has one outside of the state dir; CLUSTER the cluster that it runs on.
SHARED='' CLUSTER=''

# state_by_id ID: a job's state whatever it is called now; empty when it is not known any more.
state_by_id() { fake-slurm ${CLUSTER:+-M "$CLUSTER"} jobs | awk -F '|' -v id="$1" '$1 == id { print $2 }'; }

# live_jobs LEASE: `id|state|comment` of each job that has not ended, as the controller knows it, whatever knobs are set.
live_jobs() {
  fake-slurm ${CLUSTER:+-M "$CLUSTER"} jobs | awk -F '|' -v name="cbx-${1#cbx_}" -v user="$ME" '
    $5 == name && $4 == user && $2 ~ /^(PENDING|CONFIGURING|RUNNING|SUSPENDED|COMPLETING|REQUEUED|REQUEUE_HOLD|STOPPED)$/ { print $1 "|" $2 "|" $6 }'
}

# permit_of LEASE: the nonce that may run.
permit_of() {
  local nonce=''
  [[ ! -f ${SHARED:-$STATE/shared}/$1/permit ]] || read -r nonce <"${SHARED:-$STATE/shared}/$1/permit"
  printf '%s' "$nonce"
}

# lease_files LEASE: whatever is left of it: record, key, shared files, work directory, trash.
lease_files() {
  local path shared=${SHARED:-$STATE/shared}
  for path in "$STATE/leases/$1" "$STATE/pooled/$1" "$shared/$1" "$shared"/.gone-"$1"* "$STATE"/trash/*"$1"* \
    "$HOME/crabbox-slurm-work/$1" "$HOME"/crabbox-slurm-work/."$1"*; do
    # A job that a dead node took with it cannot remove its work directory any more.
    [[ ! $KILLED_AT_ONCE || $path != "$HOME"/* ]] || continue
    [[ ! -e $path && ! -L $path ]] || printf '%s\n' "$path"
  done
}

# age_record LEASE: lets a quarter of an hour pass for a submission without an answer. It is counted by the time since the boot.
age_record() {
  local place
  for place in leases pooled; do age_submission "$STATE/$place/$1/record.json"; done
}
age_submission() {
  local uptime
  uptime=$(sed -n 's/^ *"uptime": \(-\{0,1\}[0-9]*\).*/\1/p' "$1" 2>/dev/null)
  [[ ! $uptime ]] || sed -i "s/\"uptime\": $uptime/\"uptime\": $((uptime - 1000))/" "$1"
}

# processes: those of jobs of this worker's leases.
processes() { grep -lzsF "CBX_STATE_DIR=$W/" /proc/[0-9]*/environ | tr -cs 0-9 ' '; }
no_processes() { [[ ! $(processes) ]]; }

# at_rest: after a row, nothing runs that a lease has started, and the jobs of others run as before.
at_rest() {
  local id said rows cancelled
  wait_for 20 no_processes || bad left "processes of jobs that have ended: $(ps -o pid=,args= -p "$(processes | xargs | tr ' ' ,)" | tr '\n' ' ')"
  rows=$(fake-slurm jobs) cancelled=$(fake-slurm calls scancel --list | cut -f 6- | grep -v -e --clusters=)
  for id in $BYSTANDERS; do
    grep -q "^$id|RUNNING|" <<<"$rows" || bad wrong "job $id of somebody else was touched: $(grep "^$id|" <<<"$rows")"
    said=$(grep -w -- "$id" <<<"$cancelled") && bad wrong "somebody else's job $id was cancelled: $said"
  done
  [[ ! -s $W/site/fake.log ]] || die "the fake complains: $(head -n 3 "$W/site/fake.log")"
}

# set_fault COMMAND FAULT [VALUE]: a misspelt fault would prove nothing.
set_fault() { fake-slurm set "$@" || die "the fake does not know: $*"; }
clear_faults() { fake-slurm clear || die 'the fake does not clear its faults'; }
