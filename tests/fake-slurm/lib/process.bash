# shellcheck shell=bash
# A job's processes on this machine: its environment, its start, finding all of them, ending them.

# OUTFILE and ERRFILE as the node opens them; without the directory the script never runs.
open_output() {
  local file
  OUTFILE=${J[_stdout]} ERRFILE=${J[_stderr]:-${J[_stdout]}}
  CMD=node load_faults
  if has disk-full; then
    OUTFILE=/dev/full ERRFILE=/dev/full
    return 0
  fi
  for file in "$OUTFILE" "$ERRFILE"; do
    if [[ ${J[_openmode]} == append || ${J[_restarts]} -gt 0 ]]; then
      : 2>/dev/null >>"$file" || return 1
    else
      : 2>/dev/null >"$file" || return 1
    fi
  done
  # Open from the start to the end, as in slurmstepd: a link that the job puts there later is not followed.
  exec {ERRFD}>>"$ERRFILE"
}

# ENVIRONMENT: what was submitted, then what Slurm adds; of a name that occurs twice the last one counts.
build_environment() {
  local spool=$HOME_OF_JOBS/spool/${J[_id]} item export=${J[_export]:-ALL} gpus=${J[_gpuidx]} mb
  ENVIRONMENT=()
  case $export in
    ALL | ALL,*) mapfile -d '' -t ENVIRONMENT <"$spool/env" ;;
    *) login_environment ;;
  esac
  case $export in
    ALL | NONE | NIL) ;;
    *)
      for item in ${export//,/ }; do
        case $item in
          ALL) ;;
          *=*) ENVIRONMENT+=("$item") ;;
          *) submitted_value "$spool/env" "$item" && ENVIRONMENT+=("$item=$REPLY") ;;
        esac
      done
      ;;
  esac
  [[ $export == ALL ]] || ENVIRONMENT+=("SLURM_EXPORT_ENV=$export")
  ENVIRONMENT+=(
    ENVIRONMENT=BATCH HOSTNAME="${HOSTNAME:-localhost}" SLURM_CONF="$CONF" SLURMD_NODENAME="${J[_node]}"
    SLURM_CLUSTER_NAME="$CLUSTER" SLURM_JOB_ID="${J[_id]}" SLURM_JOBID="${J[_id]}" SLURM_JOB_NAME="${J[_name]}"
    SLURM_JOB_USER="${J[_user]}" SLURM_JOB_UID="${J[_uid]}" SLURM_JOB_GID="${J[_gid]}"
    SLURM_JOB_PARTITION="${J[_partition]}" SLURM_JOB_ACCOUNT="${J[_account]}" SLURM_JOB_QOS="${J[_qos]}"
    SLURM_JOB_NODELIST="${J[_nodelist]}" SLURM_NODELIST="${J[_nodelist]}" SLURM_JOB_NUM_NODES="${J[_nnodes]}"
    SLURM_NNODES="${J[_nnodes]}" SLURM_CPUS_ON_NODE="$((J[_cpus] / J[_nnodes]))"
    SLURM_JOB_CPUS_PER_NODE="$((J[_cpus] / J[_nnodes]))" SLURM_SUBMIT_DIR="${J[_submitdir]}" SLURM_SUBMIT_HOST="${J[_host]}"
    SLURM_TASKS_PER_NODE="${J[_ntasks]}" SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_GTIDS=0 SLURM_PRIO_PROCESS=0
    SLURM_TASK_PID="$BASHPID" SLURM_TOPOLOGY_ADDR="${J[_node]}" SLURM_TOPOLOGY_ADDR_PATTERN=node TMPDIR=/tmp)
  speaks env-node-aliases && ENVIRONMENT+=("SLURM_NODE_ALIASES=(null)")
  speaks env-working-cluster && ENVIRONMENT+=("SLURM_WORKING_CLUSTER=$CLUSTER:${SITE[ControlHost]}:6817:9728:101")
  speaks env-times && ENVIRONMENT+=("SLURM_JOB_START_TIME=${J[_start]}" "SLURM_JOB_END_TIME=${J[_end]}")
  speaks env-oom-kill-step && ENVIRONMENT+=(SLURM_OOM_KILL_STEP=0)
  speaks env-exclusive && ENVIRONMENT+=(SLURM_JOB_EXCLUSIVE=NO SLURM_JOB_OVERSUBSCRIBE=OK)
  speaks env-sluid && ENVIRONMENT+=("SLURM_JOB_SLUID=s${J[_id]}")
  speaks env-batch-step && ENVIRONMENT+=(SLURM_STEP_ID=4294967291 SLURM_STEPID=4294967291)
  if submitted_value "$spool/env" TMPDIR; then ENVIRONMENT+=("TMPDIR=$REPLY"); fi
  [[ ${J[_cpt]} == 1 ]] || ENVIRONMENT+=("SLURM_CPUS_PER_TASK=${J[_cpt]}")
  mb=${J[_mem]}
  if [[ ${J[_memper]} == cpu ]]; then ENVIRONMENT+=("SLURM_MEM_PER_CPU=$mb"); else ENVIRONMENT+=("SLURM_MEM_PER_NODE=$mb"); fi
  ((J[_restarts] > 0)) && ENVIRONMENT+=("SLURM_RESTART_COUNT=${J[_restarts]}")
  if [[ $gpus ]]; then
    ENVIRONMENT+=("SLURM_JOB_GPUS=$gpus" "CUDA_VISIBLE_DEVICES=$gpus" "GPU_DEVICE_ORDINAL=$gpus"
      "ROCR_VISIBLE_DEVICES=$gpus" "ZE_AFFINITY_MASK=$gpus" "SLURM_GPUS_ON_NODE=${J[_gpus]}" "SLURM_GPUS=${J[_gpus]}")
  fi
  return 0
}

# All but --export=ALL loads the user's login environment, slow profiles included.
login_environment() {
  local home=$HOME
  mapfile -d '' -t ENVIRONMENT < <(cd "$home" && env -i HOME="$home" USER="${J[_user]}" LOGNAME="${J[_user]}" SHELL=/bin/bash \
    PATH=/usr/local/bin:/usr/bin:/bin /bin/bash -l -c 'exec env -0' 2>/dev/null)
  ENVIRONMENT+=("SLURM_GET_USER_ENV=1")
}

submitted_value() {
  local item items
  mapfile -d '' -t items <"$1"
  for item in "${items[@]}"; do
    [[ $item == "$2="* ]] || continue
    REPLY=${item#*=}
    return 0
  done
  return 1
}

# The script runs in a session of its own; a waiter beside it reports its pid and its exit code on the fifo.
launch() {
  local spool=$HOME_OF_JOBS/spool/${J[_id]} args=() dir=${J[_workdir]}
  : >"$spool/tag"
  [[ -s $spool/args ]] && mapfile -d '' -t args <"$spool/args"
  (
    trap '' TERM
    (
      trap - HUP INT PIPE TERM
      exec 7>&- 219<"$spool/tag"
      if ! cd "$dir" 2>/dev/null; then
        echo "slurmstepd-${J[_node]}: error: couldn't chdir to \`$dir': No such file or directory: going to /tmp instead" >&2
        cd /tmp || exit 1
      fi
      unset OLDPWD
      exec setsid env "${FRESH_SIGNALS[@]}" -i "${ENVIRONMENT[@]}" "PWD=$PWD" "$spool/script" "${args[@]}"
    ) </dev/null >>"$OUTFILE" 2>>"$ERRFILE" {ERRFD}>&- &
    echo "pid $!" >&7
    wait $!
    echo "exit $?" >&7
  ) </dev/null >/dev/null 2>&1 &
  # Signals need the pid, so nothing else is done before it is known.
  EVENT=
  until [[ $EVENT == pid* ]]; do read -r -t 10 -u 7 EVENT || break; done
  SCRIPT_PID=${EVENT#pid }
}

# PIDS: every process of the job. Found by the job's id in its environment, by an open descriptor on the job's tag (which
# outlives `env -i setsid`), by the batch script's session, and as children of those; whoever was found once stays in
# KNOWN, because a session of an sshd can lose all of these marks.
scan_job() {
  local files=() f line pid ppid session changed=1 start tag=
  local -A parent=() born=() mine=()
  PIDS=()
  if [[ ${SITE[ProctrackType]} == cgroup ]]; then
    tag=$HOME_OF_JOBS/spool/${J[_id]}/tag
    mapfile -t files < <(grep -lzsxF -e "SLURM_JOB_ID=${J[_id]}" /proc/[0-9]*/environ 2>/dev/null)
    # Tests run side by side with ids of their own: the state directory and the cluster tell them apart.
    ((${#files[@]})) && mapfile -t files < <(grep -lzsxF -e "SLURM_CONF=$CONF" "${files[@]}" 2>/dev/null)
    ((${#files[@]})) && mapfile -t files < <(grep -lzsxF -e "SLURM_CLUSTER_NAME=$CLUSTER" "${files[@]}" 2>/dev/null)
  fi
  for f in "${files[@]}"; do
    pid=${f#/proc/}
    mine[${pid%/environ}]=1
  done
  for f in /proc/[0-9]*/stat; do
    { read -r line; } 2>/dev/null <"$f" || continue
    pid=${f#/proc/}
    pid=${pid%/stat}
    read -r line ppid _ session _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ start _ <<<"${line##*) }"
    [[ $line == Z ]] && continue
    parent[$pid]=$ppid
    born[$pid]=$start
    if [[ $pid == "$SCRIPT_PID" || ($session == "$SCRIPT_PID" && ${SITE[ProctrackType]} != linuxproc) ]]; then mine[$pid]=1; fi
    [[ ${KNOWN[pid]:-} == "$start" ]] && mine[$pid]=1
    [[ $tag && /proc/$pid/fd/219 -ef $tag ]] && mine[$pid]=1
  done
  while [[ $changed ]]; do
    changed=
    for pid in "${!parent[@]}"; do
      [[ ${mine[$pid]:-} ]] && continue
      [[ ${mine[${parent[$pid]}]:-} ]] && mine[$pid]=1 changed=1
    done
  done
  for pid in "${!mine[@]}"; do
    [[ ${born[$pid]:-} && $pid != "$BASHPID" && $pid != 1 ]] || continue
    PIDS+=("$pid")
    KNOWN[pid]=${born[$pid]}
  done
}

signal_all() {
  ((${#PIDS[@]})) && kill -s "$1" "${PIDS[@]}" 2>/dev/null
  return 0
}

# Steps are what srun started: their environment names them.
signal_steps() {
  local pid
  scan_job
  for pid in "${PIDS[@]}"; do
    grep -qzs '^SLURM_STEP_ID=' "/proc/$pid/environ" && kill -s "$1" "$pid" 2>/dev/null
  done
  return 0
}

# With cgroup tracking nothing survives its job, which is COMPLETING for as long as something does; the others leave alone
# what they lost sight of. What starts another process in the moment of a scan can be missed by it, so that after a find
# one empty scan does not count.
end_processes() {
  local empty=0 needed=1
  [[ ${SITE[ProctrackType]} == cgroup || $VANISHED ]] || return 0
  while [[ -d $SPOOL ]]; do
    scan_job
    if ((${#PIDS[@]} == 0)); then
      empty=$((empty + 1))
      ((empty < needed)) || return 0
      continue
    fi
    ((needed == 2)) || completing
    empty=0 needed=2
    signal_all KILL
    sleep 0.02
  done
}

# kill_job MODE for the job J, which is loaded and under the lock: `end`, or `signal N WHOM` for scancel --signal.
kill_job() {
  case $1 in
    end) cancel_job ;;
    *) request "${J[_id]}" "$1" ;;
  esac
}
