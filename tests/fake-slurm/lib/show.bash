# shellcheck shell=bash
# scontrol's views: job, configuration, partition, node, reservation, and the pids of a job.

. "$FAKE_LIB/table.bash"

show() {
  local entity=${1:-} word
  (($#)) && shift
  for word in "$@"; do case $word in -o | --oneliner) ONELINE=1 ;; esac done
  case $entity in
    job | jobs) show_jobs "${1:-}" ;;
    config | configuration) show_config ;;
    partition | partitions) show_partitions "${1:-}" ;;
    node | nodes) show_nodes "${1:-}" ;;
    reservation | reservations) show_reservations "${1:-}" ;;
    hostnames)
      say "${1//,/$NL}"
      finish 0
      ;;
    step | steps | topology | daemons | assoc_mgr | burstbuffer | bbstat | dwstat | federation | frontend | hostlist | hostlistsorted | aliases | licenses | slurmd)
      not_imitated "scontrol show $entity" ;;
    *) refuse 1 "invalid entity:$entity for keyword:show " ;;
  esac
}

# One record: lines of fields, or all of them on one line with -o.
emit() {
  local line record=''
  if [[ $ONELINE ]]; then
    for line in "$@"; do record+=${record:+ }${line#"${line%%[! ]*}"}; done
    say "$record"
  else
    say "$@"
  fi
}

show_jobs() {
  local asked=$1 id
  if [[ $asked && $asked != +([0-9]) ]]; then refuse 1 'scontrol_print_job error: Invalid job id specified'; fi
  ask 'slurm_load_jobs error: %s' 'REQUEST_FED_INFO REQUEST_JOB_INFO_SINGLE'
  if [[ $asked ]]; then
    if ! known_job "$asked" || [[ ${SITE[PrivateData]} == jobs && ${J[_uid]} != "$UID" ]]; then
      warn 'slurm_load_jobs error: Invalid job id specified'
      finish 1
    fi
    one_job
    finish 0
  fi
  all_ids
  local seen=()
  for id in "${IDS[@]}"; do seen[id]=1; done
  for id in "${!seen[@]}"; do known_job "$id" && one_job; done
  ((${#seen[@]})) || say 'No jobs in the system'
  finish 0
}

stamp() { # NAME=TIME of an epoch
  show_time "$2" "${3:-Unknown}"
  STAMP="$1=$TIME"
}

one_job() {
  local lines=() limit submit eligible start end runtime mem name comment
  name=${J[_name]//$RS/$NL} comment=${J[_comment]//$RS/$NL}
  elapsed_seconds
  long_span "$ELAPSED"
  runtime=$SPAN
  limit_of_row
  long_span "$LIMIT_SECONDS"
  limit=$SPAN
  stamp SubmitTime "${J[_submit]}"
  submit=$STAMP
  start=${J[_start]} end=${J[_end]} eligible=${J[_eligible]}
  [[ ${J[_state]} == PENDING && ${J[_begin]:-0} -gt 0 ]] && start=${J[_begin]} eligible=${J[_begin]} end=
  stamp EligibleTime "$eligible"
  eligible=$STAMP
  stamp StartTime "$start"
  start=$STAMP
  [[ ${J[_state]} == PENDING ]] && end=
  stamp EndTime "$end"
  end=$STAMP
  mem=$((J[_mem] * (${#J[_memper]} == 3 ? J[_cpus] : 1)))
  show_memory "$mem"
  shown_dependency
  lines=("JobId=${J[_id]} JobName=$name"
    "   UserId=${J[_user]}(${J[_uid]}) GroupId=${J[_group]}(${J[_gid]}) MCS_label=N/A"
    "   Priority=${J[_prio]} Nice=${J[_nice]} Account=${J[_account]} QOS=${J[_qos]}"
    "   JobState=${J[_state]} Reason=${J[_reason]// /_} Dependency=$DEPENDENCY"
    "   Requeue=${J[_requeue]} Restarts=${J[_restarts]} BatchFlag=1 Reboot=0 ExitCode=${J[_xcode]:-0}:${J[_xsig]:-0}"
    "   RunTime=$runtime TimeLimit=$limit TimeMin=N/A"
    "   $submit $eligible"
    "   AccrueTime=${eligible#*=}")
  stamp Deadline "${J[_deadline]}" N/A
  lines+=("   $start $end $STAMP"
    "   SuspendTime=None SecsPreSuspend=0 LastSchedEval=${submit#*=}$(said job-scheduler ' Scheduler=Main')"
    "   Partition=${J[_partition]} AllocNode:Sid=${J[_host]}:0"
    "   ReqNodeList=${J[_reqnodes]:-(null)} ExcNodeList=${J[_excnodes]:-(null)}"
    "   NodeList=${J[_nodelist]}")
  [[ ${J[_node]} ]] && lines+=("   BatchHost=${J[_node]}")
  lines+=("   NumNodes=${J[_nnodes]} NumCPUs=${J[_cpus]} NumTasks=${J[_ntasks]} CPUs/Task=${J[_cpt]} ReqB:S:C:T=0:0:*:*"
    "   $(said job-req-tres Req)TRES=cpu=${J[_cpus]},mem=$MEMORY,node=${J[_nnodes]},billing=${J[_cpus]}")
  speaks job-req-tres && lines+=("   AllocTRES=$([[ ${J[_node]} ]] && echo "cpu=${J[_cpus]},mem=$MEMORY,node=${J[_nnodes]},billing=${J[_cpus]}" || echo '(null)')")
  lines+=("   Socks/Node=* NtasksPerN:B:S:C=0:0:*:* CoreSpec=*")
  show_memory "${J[_mem]}"
  if [[ ${J[_memper]} == cpu ]]; then mem="MinMemoryCPU=$MEMORY"; else mem="MinMemoryNode=$MEMORY"; fi
  lines+=("   MinCPUsNode=${J[_cpt]} $mem MinTmpDiskNode=${J[_tmpdisk]:-0}"
    "   Features=${J[_features]:-(null)} DelayBoot=00:00:00"
    "   OverSubscribe=$([[ ${J[_excl]} ]] && echo NO || echo OK)$(said job-exclusive " Exclusive=$([[ ${J[_excl]} ]] && echo NODE || echo NO)") Contiguous=0 Licenses=${J[_licenses]:-(null)}$(said job-submit-line ' LicensesAlloc=(null)') Network=(null)"
    "   Command=${J[_command]}")
  speaks job-submit-line && lines+=("   SubmitLine=sbatch")
  lines+=("   WorkDir=${J[_workdir]}")
  [[ $comment ]] && lines+=("   Comment=$comment ")
  lines+=("   StdErr=${J[_stderr]}" "   StdIn=${J[_stdin]}" "   StdOut=${J[_stdout]}")
  speaks job-power && lines+=('   Power=')
  if ((J[_gpus])); then
    if [[ ${J[_gres]} ]]; then lines+=("   TresPerNode=${J[_gres]}"); else lines+=("   TresPerJob=gres:gpu:${J[_gpus]}"); fi
  fi
  [[ $ONELINE ]] || lines+=('   ' '')
  emit "${lines[@]}"
}

show_config() {
  local next=1
  ask "slurm_load_ctl_conf error:$(said config-error-without-blank '' ' ')%s" REQUEST_BUILD_INFO
  [[ -s $HOME_OF_JOBS/next ]] && read -r next <"$HOME_OF_JOBS/next"
  printf -v REPLY 'Configuration data as of %(%Y-%m-%dT%H:%M:%S)T' -1
  say "$REPLY"
  local storage=accounting_storage/slurmdbd host=${SITE[ControlHost]}
  [[ ${SITE[Accounting]} == off ]] && storage=accounting_storage/none host=localhost
  while read -r key value; do
    printf -v REPLY '%-23s = %s' "$key" "$value"
    say "$REPLY"
  done <<CONFIG
AccountingStorageHost $host
AccountingStorageType $storage
AccountingStoreFlags (null)
BatchStartTimeout 10 sec
ClusterName $CLUSTER
DefMemPerCPU ${SITE[DefMemPerCPU]}
EnforcePartLimits ${SITE[EnforcePartLimits]}
FirstJobId ${SITE[FirstJobId]}
JobRequeue ${SITE[JobRequeue]}
KillWait ${SITE[KillWait]%.*} sec
MaxJobCount 10000
MaxJobId ${SITE[MaxJobId]}
MessageTimeout ${SITE[MessageTimeout]%.*} sec
MinJobAge ${SITE[MinJobAge]} sec
NEXT_JOB_ID $next
OverTimeLimit 0 min
PreemptMode REQUEUE
PreemptType preempt/partition_prio
PrivateData ${SITE[PrivateData]}
ProctrackType proctrack/${SITE[ProctrackType]}
PropagateResourceLimits ALL
ReturnToService 2
SchedulerType sched/backfill
SelectType select/cons_tres
SlurmctldHost[0] ${SITE[ControlHost]}
SlurmctldPort 6817
SlurmctldTimeout 120 sec
SlurmdTimeout ${SITE[SlurmdTimeout]} sec
SLURM_CONF $CONF
SLURM_VERSION ${SITE[Version]}
SrunPortRange 0-0
TaskPlugin $(said task-plugin-null '(null)' task/none)
TmpFS /tmp
UnkillableStepTimeout 60 sec
CONFIG
  say '' "Slurmctld(primary) at ${SITE[ControlHost]} is UP"
  finish 0
}

show_partitions() {
  local name max def mode n=${#NODES[@]}
  ask 'slurm_load_partitions error: %s' REQUEST_PARTITION_INFO
  if [[ $1 && ! ${PART[$1]+x} ]]; then
    say "Partition $1 not found"
    finish 1
  fi
  for name in "${PARTITIONS[@]}"; do
    [[ ! $1 || $1 == "$name" ]] || continue
    partition_facts "$name"
    if [[ $P_MAX == UNLIMITED ]]; then max=UNLIMITED; else long_span "$((P_MAX * 60))" && max=$SPAN; fi
    if [[ $P_DEFSHOWN == @(NONE|UNLIMITED) ]]; then def=$P_DEFSHOWN; else long_span "$((P_DEFTIME * 60))" && def=$SPAN; fi
    mode=$P_PREEMPT
    emit "PartitionName=$name" \
      '   AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL' \
      "   AllocNodes=ALL Default=$P_DEFAULT QoS=N/A" \
      "   DefaultTime=$def DisableRootJobs=NO $(said partition-exclusive-user ExclusiveUser Exclusive)=NO$(said partition-topo ' ExclusiveTopo=NO') GraceTime=$P_GRACE Hidden=NO" \
      "   MaxNodes=UNLIMITED MaxTime=$max MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED$(said partition-nodesets ' MaxCPUsPerSocket=UNLIMITED')" \
      "   $(said partition-nodesets 'NodeSets=ALL ')Nodes=${SITE[NodeName]}" \
      "   PriorityJobFactor=1 PriorityTier=$P_TIER RootOnly=NO ReqResv=NO OverSubscribe=NO" \
      "   OverTimeLimit=NONE PreemptMode=$mode" \
      "   State=$P_STATE TotalCPUs=$((n * SITE[CPUs])) TotalNodes=$n SelectTypeParameters=NONE" \
      '   JobDefaults=(null)' \
      '   DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED' \
      "   $(said partition-tres "TRES=cpu=$((n * SITE[CPUs])),mem=$((n * SITE[RealMemory]))M,node=$n,billing=$((n * SITE[CPUs]))")"
    [[ $ONELINE ]] || say ''
  done
  finish 0
}

# State and load of a node by what the alloc names say: NODE_STATE, NODE_CPUS, NODE_MB.
node_load() {
  local f cpus mb
  NODE_CPUS=0 NODE_MB=0
  for f in "$HOME_OF_JOBS/alloc"/*@"$1"@*; do
    IFS=@ read -r _ _ cpus mb _ <<<"${f##*/}"
    NODE_CPUS=$((NODE_CPUS + cpus)) NODE_MB=$((NODE_MB + mb))
  done
  if [[ -e $STATE/nodes-off/$1 ]]; then
    NODE_STATE=down\*
  elif ((NODE_CPUS == 0)); then
    NODE_STATE=idle
  elif ((NODE_CPUS >= SITE[CPUs])); then
    NODE_STATE=allocated
  else
    NODE_STATE=mixed
  fi
}

show_nodes() {
  local node parts
  ask 'slurm_load_node error: %s' REQUEST_NODE_INFO
  if [[ $1 ]] && ! in_list "$1" "${SITE[NodeName]}"; then
    warn "Node $1 not found"
    finish 1
  fi
  printf -v parts '%s,' "${PARTITIONS[@]}"
  for node in "${NODES[@]}"; do
    [[ ! $1 || $1 == "$node" ]] || continue
    node_load "$node"
    emit "NodeName=$node Arch=x86_64 CoresPerSocket=1 " \
      "   CPUAlloc=$NODE_CPUS $(said node-effective-cpus "CPUEfctv=${SITE[CPUs]} ")CPUTot=${SITE[CPUs]} CPULoad=0.00" \
      "   AvailableFeatures=${SITE[Features]:-(null)}" \
      "   ActiveFeatures=${SITE[Features]:-(null)}" \
      "   Gres=gpu:${SITE[GPUs]}" \
      "   NodeAddr=$node NodeHostName=$node Version=${SITE[Version]}" \
      '   OS=Linux 6.1.0 #1 SMP ' \
      "   RealMemory=${SITE[RealMemory]} AllocMem=$NODE_MB FreeMem=$((SITE[RealMemory] - NODE_MB)) Sockets=${SITE[CPUs]} Boards=1" \
      "   State=${NODE_STATE^^} ThreadsPerCore=1 TmpDisk=${SITE[TmpDisk]} Weight=1 Owner=N/A MCS_label=N/A" \
      "   Partitions=${parts%,} " \
      "   BootTime=2026-01-01T00:00:00 SlurmdStartTime=2026-01-01T00:00:00" \
      "   $(said node-last-busy 'LastBusyTime=2026-01-01T00:00:00 ')$(said node-resume-after 'ResumeAfterTime=None ')$(said node-suspend-time SuspendTime=None)" \
      "   CfgTRES=cpu=${SITE[CPUs]},mem=${SITE[RealMemory]}M,billing=${SITE[CPUs]}" \
      "   AllocTRES=" \
      "   $(said node-cap-watts 'CapWatts=n/a ')CurrentWatts=0 AveWatts=0" \
      "   $(said node-cap-watts 'ExtSensorsJoules=n/s ExtSensorsWatts=0 ExtSensorsTemp=n/s')$(said node-comment ' Comment=(null)')" ''
  done
  finish 0
}

show_reservations() {
  local name
  ask 'slurm_load_reservations error: %s' REQUEST_RESERVATION_INFO
  if [[ $1 ]] && ! in_list "$1" "${SITE[Reservations]}"; then
    warn "Reservation $1 not found"
    finish 1
  fi
  [[ ${SITE[Reservations]} ]] || say 'No reservations in the system'
  for name in ${SITE[Reservations]//,/ }; do
    [[ ! $1 || $1 == "$name" ]] && emit "ReservationName=$name StartTime=2020-01-01T00:00:00 EndTime=2099-01-01T00:00:00" \
      "   Nodes=${SITE[NodeName]} NodeCnt=${#NODES[@]} PartitionName=(null) State=ACTIVE" ''
  done
  finish 0
}

# Answered by the node, not by the controller: works under every fault of the latter, and only where the job runs.
list_pids() {
  local asked=${1:-} id spool pid n=0
  . "$FAKE_LIB/process.bash"
  say 'PID      JOBID    STEPID   LOCALID GLOBALID'
  for spool in "$HOME_OF_JOBS/spool/"${asked:-*}; do
    id=${spool##*/}
    { load_job "$id" && [[ ${J[_state]} == @(RUNNING|COMPLETING|SUSPENDED) ]]; } || continue
    SCRIPT_PID='' KNOWN=()
    scan_job
    for pid in "${PIDS[@]}"; do
      printf -v REPLY '%-8s %-8s batch    -       -' "$pid" "$id"
      say "$REPLY"
      n=$((n + 1))
    done
  done
  if ((n == 0)) && [[ $asked ]]; then
    warn "JobId=$asked does not exist on node ${NODES[0]}."
    finish 1
  fi
  finish 0
}
