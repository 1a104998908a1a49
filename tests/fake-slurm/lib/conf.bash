# shellcheck shell=bash
# The site: what fake-slurm.conf may say, its defaults, and the partitions, nodes and users that follow from it.

declare -A SITE=(
  [ClusterName]=campus [Clusters]='' [ControlHost]=ctl [Version]=22.05.8 [Package]=slurm
  [MinJobAge]=300 [KillWait]=30 [StartDelay]=0 [RequeueDelay]=120 [SecondsPerMinute]=60 [SignalEarly]=0
  [EpilogTime]=0 [SlurmdTimeout]=300 [MessageTimeout]=10 [FirstJobId]=1 [MaxJobId]=67043328 [MaxSubmitJobs]=0
  [NodeName]=localhost [CPUs]=64 [RealMemory]=65536 [GPUs]=2 [DefMemPerCPU]=16 [TmpDisk]=0
  [Features]='' [Licenses]='' [Reservations]='' [Accounts]=lab [DefaultAccount]=lab [QOS]=normal [DefaultQOS]=normal
  [Accounting]=on [AccountingLag]=0 [EnforcePartLimits]=NO [ProctrackType]=cgroup [JobRequeue]=1
  [PrivateData]=none [Operator]=no [Users]='' [UsedPercent]=50
)
# One row per partition: name default(YES|NO) state default-minutes max-minutes tier preempt-mode grace-seconds
PARTITIONS=()
declare -A PART=()

default_conf() {
  cat <<'CONF'
# Settings of the fake scheduler, one Name=value a line; the README lists them.
PartitionName=batch Default=YES DefaultTime=00:30:00 MaxTime=02:00:00 PriorityTier=10
PartitionName=short DefaultTime=00:01:00 MaxTime=00:01:00 PriorityTier=10
PartitionName=scavenge MaxTime=02:00:00 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=scavkill MaxTime=02:00:00 PriorityTier=1 PreemptMode=CANCEL GraceTime=5
PartitionName=closed State=DOWN
CONF
}

# `PartitionName=... Key=value ...`, as in slurm.conf.
add_partition() {
  local word name='' default=NO state=UP deftime='' max=UNLIMITED tier=1 mode=OFF grace=0
  for word in $1; do
    case $word in
      PartitionName=*) name=${word#*=} ;;
      Default=*) default=${word#*=} ;;
      State=*) state=${word#*=} ;;
      DefaultTime=*) parse_minutes "${word#*=}" && deftime=$MINUTES ;;
      MaxTime=*) parse_minutes "${word#*=}" && max=$MINUTES ;;
      PriorityTier=*) tier=${word#*=} ;;
      PreemptMode=*) mode=${word#*=} ;;
      GraceTime=*) grace=${word#*=} ;;
      Nodes=ALL) ;;
      *) die "$CONF: unknown partition setting: $word" ;;
    esac
  done
  case $state in UP | DOWN | DRAIN | INACTIVE) ;; *) die "$CONF: unknown partition state: $state" ;; esac
  PARTITIONS+=("$name")
  PART[$name]="$default $state ${deftime:-$max} $max $tier $mode $grace ${deftime:-NONE}"
  [[ $default == YES ]] && DEFAULT_PARTITION=$name
  return 0
}

check_setting() {
  local name=$1 value=$2
  [[ ${SITE[$name]+x} ]] || die "unknown setting: $name"
  case $name in
    MinJobAge | KillWait | RequeueDelay | SlurmdTimeout | FirstJobId | MaxJobId | MaxSubmitJobs | CPUs | RealMemory | GPUs | TmpDisk | DefMemPerCPU | UsedPercent)
      [[ $value == +([0-9]) ]] || die "$name needs a whole number, not: $value" ;;
    StartDelay | SecondsPerMinute | SignalEarly | EpilogTime | AccountingLag | MessageTimeout)
      [[ $value == +([0-9])?(.+([0-9])) ]] || die "$name needs a number, not: $value" ;;
    Version) [[ $value == +([0-9]).+([0-9])?(.+([0-9])) ]] || die "Version is such as 24.11.5, not: $value" ;;
    Accounting) [[ $value == @(on|off) ]] || die "Accounting is on or off, not: $value" ;;
    Operator) [[ $value == @(yes|no) ]] || die "Operator is yes or no, not: $value" ;;
    PrivateData) [[ $value == @(none|jobs) ]] || die "PrivateData is none or jobs, not: $value" ;;
    ProctrackType) [[ $value == @(cgroup|linuxproc|pgid) ]] || die "ProctrackType is cgroup, linuxproc or pgid, not: $value" ;;
    EnforcePartLimits) [[ $value == @(NO|YES|ALL|ANY) ]] || die "EnforcePartLimits is NO, ANY or ALL, not: $value" ;;
  esac
}

read_conf() {
  local line name lines=()
  DEFAULT_PARTITION=
  [[ -e $CONF ]] && mapfile -t lines <"$CONF"
  for line in "${lines[@]}"; do
    line=${line%%#*}
    line=${line%"${line##*[![:space:]]}"}
    [[ $line ]] || continue
    case $line in
      PartitionName=*) add_partition "$line" ;;
      *=*)
        name=${line%%=*}
        check_setting "$name" "${line#*=}"
        SITE[$name]=${line#*=}
        ;;
      *) die "$CONF: not Name=value: $line" ;;
    esac
  done
  if ((${#PARTITIONS[@]} == 0)); then
    while read -r line; do
      [[ $line == PartitionName=* ]] && add_partition "$line"
    done < <(default_conf)
  fi
  choose_dialect "${SITE[Version]}"
  IFS=, read -ra NODES <<<"${SITE[NodeName]}"
  CLUSTER=${SITE[ClusterName]}
  use_cluster "$CLUSTER"
}

partition_facts() {
  # shellcheck disable=SC2034
  read -r P_DEFAULT P_STATE P_DEFTIME P_MAX P_TIER P_PREEMPT P_GRACE P_DEFSHOWN <<<"${PART[$1]}"
}

known_cluster() {
  local c
  [[ $1 == "${SITE[ClusterName]}" ]] && return 0
  for c in ${SITE[Clusters]//,/ }; do [[ $c == "$1" ]] && return 0; done
  return 1
}

use_cluster() {
  CLUSTER=$1
  HOME_OF_JOBS=$STATE/c/$CLUSTER
  [[ -d $HOME_OF_JOBS/jobs ]] || mkdir -p "$HOME_OF_JOBS"/{jobs,spool,live,alloc,acct}
}

# `-M NAME`: every client asks the database for the cluster first.
select_cluster() {
  local name=$1 why="'$1' can't be reached now, or it is an invalid entry for --cluster.  Use 'sacctmgr list clusters' to see available clusters."
  if [[ ${SITE[Accounting]} == off || -v FAULT[db-down] ]]; then
    refuse 1 "$CMD: error: Problem talking to database" "$CMD: error: $why"
  fi
  if ! known_cluster "$name"; then
    warn "$CMD: error: No cluster '$name' known by database." "$CMD: error: $why"
    [[ $CMD == @(squeue|scancel) ]] && speaks cluster-fatal && warn "$CMD: fatal: Could not get cluster information"
    refuse_now 1
  fi
  use_cluster "$name"
  CLUSTER_ASKED=1
}

in_list() {
  local item
  for item in ${2//,/ }; do [[ ${item%%[:*]*} == "$1" ]] && return 0; done
  return 1
}
