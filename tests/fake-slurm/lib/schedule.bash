# shellcheck shell=bash
# Which job may run: reasons for waiting, what a node has left, starting, cancelling, ending.
#
# There is no daemon. Whoever changes something that a waiting job may wait for (a job ends, is cancelled, is released)
# runs schedule_pass; a job that waits for a time has its own supervisor asleep. Everything here runs under the lock.

# A frozen or dead controller starts nothing; `sched pause` does the same without any command failing.
scheduling_stopped() {
  local f
  for f in all/frozen all/frozen-then-killed all/down all/unplugged sched/pause; do
    [[ -e $STATE/faults/$f ]] && return 0
  done
  return 1
}

# --dependency: DEP becomes ok, wait or never.
dependency_state() {
  local term kind id f ids any=
  DEP=ok
  [[ ${J[_dep]} ]] || return 0
  [[ ${J[_dep]} == *\?* ]] && any=1 DEP='wait'
  for term in ${J[_dep]//[,?]/ }; do
    if [[ $term == singleton ]]; then
      live_name
      for f in "$HOME_OF_JOBS"/live/*@"${LIVE#*@}"; do
        id=${f##*/} id=${id%%@*}
        [[ $id == "${J[_id]}" ]] && continue
        singleton_blocks "$id" && DEP='wait'
      done
      continue
    fi
    kind=${term%%:*}
    IFS=: read -ra ids <<<"${term#*:}"
    for id in "${ids[@]}"; do
      one_dependency "$kind" "${id%%+*}"
      if [[ $any ]]; then
        [[ $ONE == ok ]] && DEP=ok
      elif [[ $ONE == never || ($ONE == wait && $DEP == ok) ]]; then
        DEP=$ONE
      fi
    done
  done
}

singleton_blocks() {
  local id=$1 row
  mapfile -t row 2>/dev/null <"$HOME_OF_JOBS/jobs/$id" || return 1
  [[ ${row[_name]} == "${J[_name]//$NL/$RS}" ]] || return 1
  if [[ ${row[_state]} == PENDING ]]; then
    ((id < J[_id]))
  else
    ! is_finished "${row[_state]}"
  fi
}

one_dependency() {
  local row
  ONE=ok
  mapfile -t row 2>/dev/null <"$HOME_OF_JOBS/jobs/$2" || return 0
  ((${#row[@]} == FIELD_COUNT)) || return 0
  case $1 in
    after) [[ ${row[_state]} == PENDING ]] && ONE='wait' ;;
    afterany) is_finished "${row[_state]}" || ONE='wait' ;;
    afterok | aftercorr)
      if ! is_finished "${row[_state]}"; then
        ONE='wait'
      elif [[ ${row[_state]} != COMPLETED ]]; then
        ONE=never
      fi
      ;;
    afternotok)
      if ! is_finished "${row[_state]}"; then
        ONE='wait'
      elif [[ ${row[_state]} == COMPLETED ]]; then
        ONE=never
      fi
      ;;
  esac
  return 0
}

# WHY a pending job waits, in Slurm's words; success when it may start now, with PLAN as its nodes.
why_pending() {
  WHY=
  case ${J[_held]} in
    '') ;;
    user) WHY=JobHeldUser ;;
    requeued) WHY='job requeued in held state' ;;
    launch) WHY='launch failed requeued held' ;;
    *) WHY=JobHeldAdmin ;;
  esac
  [[ $WHY ]] && return 1
  if [[ -e $STATE/faults/sched/pending ]]; then
    { read -r && read -r WHY; } <"$STATE/faults/sched/pending"
    return 1
  fi
  if ((J[_begin] > EPOCHSECONDS)); then
    WHY=BeginTime
    return 1
  fi
  dependency_state
  case $DEP in wait) WHY=Dependency ;; never) WHY=DependencyNeverSatisfied ;; esac
  [[ $WHY ]] && return 1
  partition_facts "${J[_partition]}"
  case $P_STATE in
    DOWN | DRAIN) WHY=PartitionDown ;;
    INACTIVE) WHY=PartitionInactive ;;
  esac
  if [[ ! $WHY && $P_MAX != UNLIMITED ]]; then
    if [[ ${J[_limit]} == UNLIMITED ]] || ((J[_limit] > P_MAX)); then WHY=PartitionTimeLimit; fi
  fi
  if [[ ! $WHY ]] && ((J[_nnodes] > ${#NODES[@]})); then WHY=PartitionNodeLimit; fi
  if [[ ! $WHY ]] && (((J[_cpus] + J[_nnodes] - 1) / J[_nnodes] > SITE[CPUs])); then WHY=PartitionConfig; fi
  [[ $WHY ]] && return 1
  if ! plan_nodes; then
    [[ ${WHY:=Resources} == Resources ]] && others_wait && WHY=Priority
    return 1
  fi
  now_ms
  ((MS >= J[_notbefore]))
}

# Only the first of those that wait for room says Resources.
others_wait() {
  local f id row
  for f in "$HOME_OF_JOBS"/live/*; do
    id=${f##*/} id=${id%%@*}
    ((id < J[_id])) || continue
    mapfile -t row 2>/dev/null <"$HOME_OF_JOBS/jobs/$id"
    [[ ${row[_state]:-} == PENDING && ${row[_reason]} == Resources && ${row[_partition]} == "${J[_partition]}" ]] && return 0
  done
  return 1
}

# PLAN: one "node cpus mb gpu,gpu" each. A node that is off is not there.
plan_nodes() {
  local node f part held cpus mb used_cpus used_mb used_gpus need_cpus need_mb need_gpus gpu list down=
  PLAN=()
  need_cpus=$(((J[_cpus] + J[_nnodes] - 1) / J[_nnodes]))
  need_gpus=$(((J[_gpus] + J[_nnodes] - 1) / J[_nnodes]))
  [[ ${J[_excl]} ]] && need_cpus=${SITE[CPUs]}
  need_mb=${J[_mem]}
  [[ ${J[_memper]} == cpu ]] && need_mb=$((J[_mem] * need_cpus))
  [[ ${J[_memper]} == node && $need_mb == 0 ]] && need_mb=${SITE[RealMemory]}
  for node in "${NODES[@]}"; do
    in_list "$node" "${J[_excnodes]}" && continue
    [[ ! ${J[_reqnodes]} ]] || in_list "$node" "${J[_reqnodes]}" || continue
    if [[ -e $STATE/nodes-off/$node ]]; then
      down=1
      continue
    fi
    used_cpus=0 used_mb=0 used_gpus=,
    for f in "$HOME_OF_JOBS/alloc"/*@"$node"@*; do
      IFS=@ read -r _ _ cpus mb held <<<"${f##*/}"
      used_cpus=$((used_cpus + cpus)) used_mb=$((used_mb + mb)) used_gpus+=$held,
    done
    ((used_cpus + need_cpus <= SITE[CPUs] && used_mb + need_mb <= SITE[RealMemory])) || continue
    list='' part=0
    for ((gpu = 0; gpu < SITE[GPUs] && part < need_gpus; gpu++)); do
      [[ $used_gpus == *,$gpu,* ]] && continue
      list+=${list:+,}$gpu
      part=$((part + 1))
    done
    ((part == need_gpus)) || continue
    PLAN+=("$node $need_cpus $need_mb $list")
    ((${#PLAN[@]} == J[_nnodes])) && return 0
  done
  [[ $down ]] && WHY="ReqNodeNotAvail, UnavailableNodes:${SITE[NodeName]}"
  return 1
}

# J becomes RUNNING if nothing stands against it; otherwise its reason is brought up to date.
try_start() {
  local entry node cpus mb gpus
  [[ ${J[_state]} == PENDING ]] || return 1
  scheduling_stopped && return 1
  if ! why_pending; then
    if [[ ${J[_reason]} != "${WHY:-None}" ]]; then
      J[_reason]=${WHY:-None}
      save_job
    fi
    return 1
  fi
  J[_nodelist]=
  for entry in "${PLAN[@]}"; do
    read -r node cpus mb gpus <<<"$entry"
    : >"$HOME_OF_JOBS/alloc/${J[_id]}@$node@$cpus@$mb@$gpus"
    [[ ${J[_nodelist]} ]] || J[_node]=$node J[_gpuidx]=$gpus
    J[_nodelist]+=${J[_nodelist]:+,}$node
  done
  J[_state]=RUNNING J[_reason]=None J[_final]='' J[_start]=$EPOCHSECONDS J[_eligible]=$EPOCHSECONDS
  J[_end]='' J[_presusp]=0 J[_suspended]='' J[_preempted]=''
  limit_seconds
  [[ $LIMIT ]] && J[_end]=$((J[_start] + LIMIT))
  save_job
}

# LIMIT: the time limit in seconds as this site counts them, empty without one.
limit_seconds() {
  LIMIT=
  [[ ${J[_limit]} == UNLIMITED ]] && return
  to_ms "${SITE[SecondsPerMinute]}"
  LIMIT=$(((J[_limit] * MSEC + 999) / 1000))
}

schedule_pass() {
  local f id ids=()
  scheduling_stopped && return 0
  # A sparse array hands its indexes back in numeric order.
  for f in "$HOME_OF_JOBS"/live/*; do
    id=${f##*/}
    ids[${id%%@*}]=1
  done
  for id in "${!ids[@]}"; do
    { load_job "$id" && [[ ${J[_state]} == PENDING ]]; } || continue
    try_start && background run "$CLUSTER" "$id"
  done
  return 0
}

# A line for the job's supervisor. It reads the file when poked, and once a second in any case.
request() {
  local id=$1 spool=$HOME_OF_JOBS/spool/$1
  shift
  [[ -d $spool ]] || mkdir -p "$spool"
  printf '%s\n' "$*" >>"$spool/requests"
  # Opened for both directions, or a supervisor that is gone would make us wait.
  [[ -p $spool/fifo ]] && printf 'look\n' 1<>"$spool/fifo"
  return 0
}

# The job J is on its way out with the given end state; what is pending ends here and now.
cancel_job() {
  local final=${1:-CANCELLED}
  # A request that was held back may come when all is over.
  ! is_finished "${J[_state]}" || return 0
  if [[ ${J[_state]} == PENDING ]]; then
    J[_state]=$final J[_end]=$EPOCHSECONDS J[_start]=$EPOCHSECONDS
    save_job
    unmark_live
    return 0
  fi
  J[_state]=COMPLETING J[_final]=$final J[_end]=$EPOCHSECONDS
  save_job
  if [[ -e $HOME_OF_JOBS/spool/${J[_id]}/script ]]; then
    request "${J[_id]}" "end $final"
  else
    # An injected row has no process and no supervisor.
    settle_job "$final" "${J[_reason]}" 0 0
  fi
}

# The last word on the job J: what it held is free again.
settle_job() {
  local final=$1 f
  J[_state]=$final J[_reason]=$2 J[_xcode]=$3 J[_xsig]=$4 J[_final]=''
  [[ ${J[_end]} && ${J[_end]} -le $EPOCHSECONDS ]] || J[_end]=$EPOCHSECONDS
  save_job
  unmark_live
  for f in "$HOME_OF_JOBS/alloc/${J[_id]}"@*; do rm -f "$f"; done
}

# suspend or resume the job J; time asleep does not count.
suspend_job() {
  local asleep
  case $1/${J[_state]} in
    suspend/RUNNING) J[_state]=SUSPENDED J[_suspended]=$EPOCHSECONDS ;;
    resume/SUSPENDED)
      asleep=$((EPOCHSECONDS - J[_suspended]))
      J[_state]=RUNNING J[_presusp]=$((J[_presusp] + asleep))
      [[ ${J[_end]} ]] && J[_end]=$((J[_end] + asleep))
      ;;
    *) return 1 ;;
  esac
  save_job
  request "${J[_id]}" "$1"
}
