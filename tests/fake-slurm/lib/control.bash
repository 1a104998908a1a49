# shellcheck shell=bash
# The verbs of the control command.

change_conf() {
  local pair name lines=() line kept=()
  [[ -e $CONF ]] || default_conf >"$CONF"
  if (($# == 0)); then
    cat "$CONF"
    return
  fi
  for pair in "$@"; do
    [[ $pair == *=* ]] || die "not NAME=VALUE: $pair"
    name=${pair%%=*}
    # `PartitionName=... Key=value ...` in one argument replaces that partition.
    if [[ $pair == PartitionName=* ]]; then
      name="PartitionName=${pair#*=}"
      name=${name%% *}
    else
      check_setting "$name" "${pair#*=}"
    fi
    mapfile -t lines <"$CONF"
    kept=()
    for line in "${lines[@]}"; do
      [[ $line == "$name="* || $line == "$name" || $line == "$name "* ]] || kept+=("$line")
    done
    printf '%s\n' "${kept[@]}" "$pair" >"$CONF.new" && mv -f "$CONF.new" "$CONF"
  done
}

# Unknown names are refused: a misspelt fault would make a test pass for the wrong reason.
set_fault() {
  local command=${1:-} fault=${2:-} value='' times=- word known=''
  (($# >= 2)) || usage
  shift 2
  while (($#)); do
    case $1 in
      --times)
        times=${2:-}
      [[ $times == +([0-9]) && $times != 0 ]] || die "--times needs a number, not: $times"
        shift 2
        ;;
      *)
        value=$1
        shift
        ;;
    esac
  done
  [[ ${FAULTS_OF[$command]+x} && $command != any ]] || die "unknown command: $command"
  for word in ${FAULTS_OF[$command]}; do [[ $word == "$fault" ]] && known=1; done
  if [[ $command != node && $command != sched ]]; then
    for word in ${FAULTS_OF[any]}; do [[ $word == "$fault" ]] && known=1; done
  fi
  [[ $known ]] || die "unknown fault of $command: $fault"
  check_fault_value "$fault" "$value"
  mkdir -p "$STATE/faults/$command"
  printf '%s\n%s\n' "$times" "${value//$NL/ }" >"$STATE/faults/$command/.$fault.new"
  mv -f "$STATE/faults/$command/.$fault.new" "$STATE/faults/$command/$fault"
}

check_fault_value() {
  local n='+([0-9])?(.+([0-9]))'
  # shellcheck disable=SC2053 # patterns on purpose
  case $1 in
    timeout | zero-bytes) [[ ! $2 || $2 == @(lost|done|thaw) || $2 == $n ]] ;;
    hang | frozen | truncate) [[ ! $2 || $2 == $n ]] ;;
    delay) [[ $2 == real || $2 == $n ]] ;;
    exit) [[ $2 == +([0-9])?(:*) ]] ;;
    kill-parent) [[ ! $2 || $2 == @(before|after)?(-group) ]] ;;
    db-down) [[ ! $2 || $2 == @(refused|database) ]] ;;
    wrong-user) [[ ! $2 || $2 == *:+([0-9]) ]] ;;
    pending) [[ $2 ]] ;;
    *) true ;;
  esac || die "bad value for $1: '$2'"
}

# Clearing a knob is the thaw: what it held back takes effect in the order of arrival, or never did.
clear_faults() {
  local f name held wait
  for f in "$STATE"/faults/${1:-*}/${2:-*}; do
    [[ -e $f ]] || continue
    name=${f#"$STATE/faults/"}
    wait=
    { read -r && read -r wait; } <"$f"
    rm -f "$f"
    release_held "$name" "$wait"
  done
  # Knobs with --times are gone by themselves; their requests are released by name.
  for f in "$STATE"/deferred/*/held-by; do
    read -r held <"$f"
    [[ ! ${1:-} || ${held%%/*} == "$1" ]] && [[ ! ${2:-} || ${held#*/} == "$2" ]] && release_held "$held" ''
  done
  for name in "${SITE[ClusterName]}" ${SITE[Clusters]//,/ }; do
    use_cluster "$name"
    lock
    schedule_pass
    unlock
  done
}

release_held() {
  local f held dir
  for f in "$STATE"/deferred/*/held-by; do
    dir=${f%/*}
    [[ $dir == *.taken ]] && continue
    read -r held <"$f"
    [[ $held == "$1" ]] || continue
    case $held in
      */frozen-then-killed) rm -rf "$dir" ;;
      *)
        background replay "$dir" "${2//[!0-9.]/}"
        # One after the other, so that ids follow the order of arrival.
        [[ $2 ]] || wait_gone "$dir"
        ;;
    esac
  done
}

wait_gone() {
  local i
  for ((i = 0; i < 100; i++)); do
    [[ -e $1 ]] || break
    sleep 0.01
  done
}

list_faults() {
  local f times value
  for f in "$STATE"/faults/*/*; do
    value=
    { read -r times && read -r value; } <"$f"
    printf '%s %s %s %s\n' "${f#"$STATE/faults/"}" "$times" "$value" ''
  done
}

list_jobs() {
  local id f
  printf '%s\n' 'ID|STATE|REASON|USER|NAME|COMMENT|NODE|RESTARTS|EXIT'
  all_ids
  for id in "${IDS[@]}"; do
    load_job "$id" || continue
    printf '%s|%s|%s|%s|%s|%s|%s|%s|%s:%s\n' "${J[_id]}" "${J[_state]}" "${J[_reason]}" "${J[_user]}" "${J[_name]}" \
      "${J[_comment]}" "${J[_nodelist]}" "${J[_restarts]}" "${J[_xcode]:-0}" "${J[_xsig]:-0}"
  done | sort -t '|' -k1,1n
}

# calls [COMMAND] counts; with --list it prints one line a call: command, exit code, ms, variables present, arguments.
list_calls() {
  local command='' list='' kind id ms cmd names args line rc took n=0
  local -A codes=() times=()
  local ids=() lines=()
  for line in "$@"; do case $line in --list) list=1 ;; *) command=$line ;; esac done
  [[ -e $STATE/calls.log ]] || : >"$STATE/calls.log"
  while IFS= read -r line; do
    kind=${line%%$'\t'*}
    line=${line#*$'\t'}
    id=${line%%$'\t'*}
    line=${line#*$'\t'}
    if [[ $kind == exit ]]; then
      codes[$id]=${line%%$'\t'*} times[$id]=${line#*$'\t'}
    else
      ids+=("$id") lines+=("$line")
    fi
  done <"$STATE/calls.log"
  for ((i = 0; i < ${#ids[@]}; i++)); do
    line=${lines[i]}
    ms=${line%%$'\t'*} line=${line#*$'\t'}
    cmd=${line%%$'\t'*} line=${line#*$'\t'}
    names=${line%%$'\t'*} args=${line#*$'\t'}
    [[ ! $command || $cmd == "$command" ]] || continue
    n=$((n + 1))
    rc=${codes[${ids[i]}]:--} took=${times[${ids[i]}]:--}
    [[ $list ]] && printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$ms" "$cmd" "$rc" "$took" "$names" "$args"
  done
  [[ $list ]] || printf '%s\n' "$n"
}

show_env() {
  local env=$HOME_OF_JOBS/spool/$1/env
  [[ -e $env ]] || die "no environment of job $1"
  tr '\0' '\n' <"$env"
}

force_state() {
  (($# >= 2)) || usage
  lock
  load_job "$1" || die "no job $1"
  J[_state]=$2
  (($# > 2)) && J[_reason]=$3
  if is_finished "$2"; then
    J[_end]=$EPOCHSECONDS
    unmark_live
  else
    mark_live
  fi
  save_job
}

# What operators, nodes and other jobs do to a job.
hit() {
  local id=${1:-} event=${2:-} mode
  [[ $event ]] || usage
  lock
  load_job "$id" || die "no job $id"
  case $event in
    node-fail | oom | deadline | preempt-cancel)
      case $event in
        node-fail) mode=NODE_FAIL ;;
        oom) mode=OUT_OF_MEMORY ;;
        deadline) mode=DEADLINE ;;
        preempt-cancel) mode=PREEMPTED ;;
      esac
      if [[ $event == node-fail && ${J[_state]} == COMPLETING ]]; then
        request "$id" gone
      elif [[ $event == node-fail && ${J[_requeue]} == 1 ]]; then
        ending REQUEUE-NODE_FAIL
      elif [[ $event == preempt-cancel ]]; then
        partition_facts "${J[_partition]}"
        # During the grace time the job still is RUNNING.
        request "$id" "end PREEMPTED $((P_GRACE > 0 ? P_GRACE : SITE[KillWait]))"
      elif [[ ${J[_state]} == PENDING ]]; then
        cancel_job "$mode"
      else
        ending "$mode"
      fi
      ;;
    requeue | requeue-hold | preempt-requeue)
      # An operator can force what --no-requeue forbids its owner.
      case $event in requeue) mode=REQUEUE ;; requeue-hold) mode=REQUEUE-HELD ;; *) mode=REQUEUE-PREEMPTED ;; esac
      ending "$mode"
      ;;
    power-off)
      request "$id" vanish
      background node-fail "$CLUSTER" "$id"
      ;;
    slurmd-off) request "$id" 'slurmd off' ;;
    slurmd-on) request "$id" 'slurmd on' ;;
    suspend | resume) suspend_job "$event" ;;
    hold)
      J[_held]=admin J[_prio]=0 J[_reason]=JobHeldAdmin
      save_job
      ;;
    launch-failed)
      J[_held]=launch J[_prio]=0 J[_reason]='launch failed requeued held'
      save_job
      ;;
    release)
      J[_held]='' J[_prio]=$((4294901760 - id)) J[_begin]=0
      save_job
      schedule_pass
      ;;
    *) die "unknown event: $event" ;;
  esac
}

ending() { # FINAL, for the job J
  [[ ${J[_state]} == @(RUNNING|SUSPENDED) ]] || die "job ${J[_id]} is ${J[_state]}"
  J[_state]=COMPLETING J[_final]=$1 J[_end]=$EPOCHSECONDS
  save_job
  request "${J[_id]}" "end $1"
}

node_power() {
  local node=${2:-${NODES[0]}} id
  in_list "$node" "${SITE[NodeName]}" || die "unknown node: $node"
  mkdir -p "$STATE/nodes-off"
  case ${1:-} in
    off)
      : >"$STATE/nodes-off/$node"
      all_ids
      for id in "${IDS[@]}"; do
        load_job "$id" && [[ ${J[_state]} == RUNNING && ${J[_node]} == "$node" ]] && hit "$id" power-off
      done
      ;;
    on)
      rm -f "$STATE/nodes-off/$node"
      lock
      schedule_pass
      ;;
    *) usage ;;
  esac
}

# A row without any process: jobs of others, recycled ids, states that are hard to reach.
inject() {
  local pair key value index former id='' submit=$EPOCHSECONDS
  new_row
  J[_name]=injected J[_user]=mallory J[_uid]=4242 J[_gid]=4242 J[_group]=mallory J[_state]=RUNNING J[_reason]=None
  J[_partition]=$DEFAULT_PARTITION J[_account]=${SITE[DefaultAccount]} J[_qos]=${SITE[DefaultQOS]} J[_cpus]=1 J[_ntasks]=1
  J[_cpt]=1 J[_mem]=${SITE[DefMemPerCPU]} J[_memper]=cpu J[_gpus]=0 J[_nnodes]=1 J[_limit]=30 J[_nice]=0 J[_requeue]=0
  J[_restarts]=0 J[_workdir]=/ J[_command]='(null)' J[_notbefore]=0 J[_prio]=4294901000
  for pair in "$@"; do
    [[ $pair == *=* ]] || die "not KEY=VALUE: $pair"
    key=${pair%%=*} value=${pair#*=}
    case $key in
      id) id=$value ;;
      user) J[_user]=${value%%:*} J[_group]=${value%%:*} J[_uid]=${value#*:} J[_gid]=${value#*:} ;;
      state)
        # A strange word is what a newer Slurm would say, so it is allowed.
        [[ $value == +([A-Z_]) ]] || die "bad state: $value"
        J[_state]=$value
        ;;
      cluster)
        known_cluster "$value" || die "unknown cluster: $value"
        use_cluster "$value"
        ;;
      name | comment | reason | partition | account | qos | nodelist | node | limit | submit | start | end | requeue | restarts | workdir | held | dep)
        index=_$key
        J[${!index}]=$value
        ;;
      *) die "unknown key: $key" ;;
    esac
  done
  lock
  if [[ ! $id ]]; then
    next_id
    id=$ID
  elif [[ -e $HOME_OF_JOBS/jobs/$id ]]; then
    # The id is recycled: its former life is known to accounting only. No id comes again within a second.
    former=$(load_job "$id" && printf '%s' "${J[_submit]}")
    ((submit > former)) || submit=$((former + 1))
    to_accounting "$id"
    rm -f "$HOME_OF_JOBS/live/$id@"*
  fi
  rm -rf "${HOME_OF_JOBS:?}/spool/$id"
  J[_id]=$id J[_cluster]=$CLUSTER J[_submit]=${J[_submit]:-$submit}
  if [[ ${J[_state]} != PENDING ]]; then
    J[_node]=${J[_node]:-${NODES[0]}} J[_nodelist]=${J[_nodelist]:-${J[_node]}} J[_start]=${J[_start]:-$EPOCHSECONDS}
    if is_finished "${J[_state]}"; then J[_end]=${J[_end]:-$EPOCHSECONDS}; else J[_end]=${J[_end]:-$((EPOCHSECONDS + 1800))}; fi
  fi
  is_finished "${J[_state]}" || mark_live
  save_job
  printf '%s\n' "$id"
}

# The controller forgets a job; accounting does not.
purge() {
  lock
  load_job "$1" || die "no job $1"
  unmark_live
  to_accounting "$1"
}

# Makes finished jobs older, so that MinJobAge need not be waited for.
advance() {
  local id
  [[ $1 == +([0-9]) ]] || die "advance needs seconds, not: $1"
  lock
  all_ids
  for id in "${IDS[@]}"; do
    { load_job "$id" && is_finished "${J[_state]}"; } || continue
    J[_end]=$((J[_end] - $1))
    save_job
  done
}

# Ends what this state directory started, and nothing else: every process carries the path of its settings, or is a
# child of one that does. An sshd has an environment of its own, and may stand still when its job is ended.
down() {
  local files=() f pid tries mine=() line ppid changed
  local -A parent=() ours=()
  for ((tries = 0; tries < 50; tries++)); do
    mapfile -t files < <(grep -lzsxF -e "SLURM_CONF=$CONF" /proc/[0-9]*/environ 2>/dev/null)
    parent=() ours=()
    for f in "${files[@]}"; do
      pid=${f#/proc/} pid=${pid%/environ}
      is_started_by_us "$pid" && ours[$pid]=1
    done
    ((${#ours[@]})) || break
    for f in /proc/[0-9]*/stat; do
      { read -r line; } 2>/dev/null <"$f" || continue
      read -r _ ppid _ <<<"${line##*) }"
      pid=${f#/proc/} pid=${pid%/stat} parent[$pid]=$ppid
    done
    for ((changed = 1; changed; )); do
      changed=0
      for pid in "${!parent[@]}"; do
        [[ ! ${ours[$pid]:-} && ${ours[${parent[$pid]}]:-} && $pid != "$$" && $pid != "$BASHPID" ]] && ours[$pid]=1 changed=1
      done
    done
    mine=("${!ours[@]}")
    kill -KILL "${mine[@]}" 2>/dev/null
    sleep 0.02
  done
}

# A supervisor, or a process of a job whose supervisor is ours; a test that merely has SLURM_CONF set is neither.
is_started_by_us() {
  local words=() pairs=() word id='' cluster=''
  [[ $1 != "$$" && $1 != "$BASHPID" ]] || return 1
  mapfile -d '' -t words 2>/dev/null <"/proc/$1/cmdline" || return 1
  [[ ${words[2]:-} == */lib/supervise ]] && return 0
  mapfile -d '' -t pairs 2>/dev/null <"/proc/$1/environ" || return 1
  for word in "${pairs[@]}"; do
    case $word in SLURM_JOB_ID=*) id=${word#*=} ;; SLURM_CLUSTER_NAME=*) cluster=${word#*=} ;; esac
  done
  [[ $id && $cluster && -d $STATE/c/$cluster/spool/$id ]]
}
