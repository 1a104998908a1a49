# shellcheck shell=bash
# A submission: the script, the three places that options come from, their checks, the row made of them.

CLUSTER_ASKED=

# The script is copied, as the real one does; later edits of the file do not matter.
read_script() {
  local file=$SPOOL/script first
  if [[ ${O[wrap]+x} ]]; then
    ((${#COMMAND_ARGS[@]})) && refuse 1 'sbatch: error: Script arguments not permitted with --wrap option'
    printf '#!/bin/sh\n# This script was created by sbatch --wrap.\n\n%s\n' "${O[wrap]}" >"$file"
    SCRIPT_NAME='' COMMAND_PATH='(null)'
  elif ((${#COMMAND_ARGS[@]})); then
    local name=${COMMAND_ARGS[0]}
    [[ -r $name && ! -d $name ]] || refuse 1 "sbatch: error: Unable to open file $name"
    cat "$name" >"$file"
    SCRIPT_NAME=${name##*/} COMMAND_PATH=$name
    [[ $name == /* ]] || COMMAND_PATH=$PWD/$name
    ((${#COMMAND_ARGS[@]} > 1)) && printf '%s\0' "${COMMAND_ARGS[@]:1}" >"$SPOOL/args"
  else
    cat >"$file"
    SCRIPT_NAME=sbatch COMMAND_PATH='(null)'
  fi
  [[ -s $file ]] || refuse 1 'sbatch: error: Batch script is empty!'
  IFS= read -r first <"$file" || true
  [[ $first == '#!'* ]] || refuse 1 'sbatch: error: This does not look like a batch script.  The first' \
    'sbatch: error: line must start with #! followed by the path to an interpreter.' \
    'sbatch: error: For instance: #!/bin/sh'
  if grep -q $'\r$' "$file"; then
    refuse 1 'sbatch: error: Batch script contains DOS line breaks (\r\n)' \
      'sbatch: error: instead of expected UNIX line breaks (\n).'
  fi
  chmod 0700 "$file"
}

from_environment() {
  local pair name
  for pair in SBATCH_ACCOUNT:account SBATCH_CONSTRAINT:constraint SBATCH_CLUSTERS:clusters SLURM_CLUSTERS:clusters \
    SBATCH_EXCLUSIVE:exclusive SBATCH_EXPORT:export SBATCH_GPUS:gpus SBATCH_GRES:gres SBATCH_JOB_NAME:job-name \
    SBATCH_MEM_PER_NODE:mem SBATCH_NO_REQUEUE:no-requeue SBATCH_OPEN_MODE:open-mode SBATCH_OUTPUT:output SBATCH_ERROR:error \
    SBATCH_INPUT:input SBATCH_PARTITION:partition SBATCH_QOS:qos SBATCH_REQUEUE:requeue SBATCH_RESERVATION:reservation \
    SBATCH_SIGNAL:signal SBATCH_TIMELIMIT:time SBATCH_WCKEY:wckey; do
    name=${pair%%:*}
    [[ ${!name+x} ]] && O[${pair#*:}]=${!name}
  done
  for name in SBATCH_ARRAY_INX SBATCH_WAIT; do
    [[ ${!name+x} ]] && not_imitated "$name in the environment"
  done
  [[ ${O[exclusive]+x} ]] && O[exclusive]=
  return 0
}

# `#SBATCH` lines count up to the first line that is a command; quotes group words, ` #` starts a comment.
from_script() {
  local line words=()
  while IFS= read -r line || [[ $line ]]; do
    case $line in
      '#SBATCH'[[:space:]]*)
        split_words "${line#'#SBATCH'}"
        words+=("${WORDS[@]}")
        ;;
      '#'* | '') ;;
      *[![:space:]]*) break ;;
    esac
  done <"$SPOOL/script"
  ((${#words[@]})) || return 0
  parse_options permute "${words[@]}"
  apply_options "${OPT_KEYS[@]}" -- "${OPT_VALUES[@]}"
}

split_words() {
  local text=$1 word='' have='' c quote='' i
  WORDS=()
  for ((i = 0; i < ${#text}; i++)); do
    c=${text:i:1}
    if [[ $quote ]]; then
      if [[ $c == "$quote" ]]; then quote=; else word+=$c; fi
      continue
    fi
    case $c in
      \' | \") quote=$c have=1 ;;
      \\)
        i=$((i + 1))
        word+=${text:i:1} have=1
        ;;
      [[:space:]])
        [[ $have ]] && WORDS+=("$word")
        word='' have=''
        ;;
      '#') if [[ $have ]]; then word+=$c; else break; fi ;;
      *) word+=$c have=1 ;;
    esac
  done
  [[ $have ]] && WORDS+=("$word")
  return 0
}

# apply_options KEY... -- VALUE...
apply_options() {
  local keys=() i
  while [[ $1 != -- ]]; do
    keys+=("$1")
    shift
  done
  shift
  for ((i = 0; i < ${#keys[@]}; i++)); do
    case ${keys[i]} in
      requeue) unset 'O[no-requeue]' ;;
      no-requeue) unset 'O[requeue]' ;;
    esac
    O["${keys[i]}"]=${*:i+1:1}
  done
}

bad_spec() { refuse 255 "sbatch: error: Invalid --$1 specification"; }

number() {
  [[ ${O[$1]:-} ]] || return 0
  [[ ${O[$1]} == +([0-9]) && ${O[$1]} != +(0) ]] || refuse 1 "sbatch: error: Invalid numeric value \"${O[$1]}\" for --$1."
}

megabytes() {
  local text=${O[$1]} n unit
  n=${text%%[!0-9]*} unit=${text#"$n"}
  [[ $n ]] || bad_spec "$1"
  case ${unit^^} in
    K | KB) MB=$(((n + 1023) / 1024)) ;;
    '' | M | MB) MB=$n ;;
    G | GB) MB=$((n * 1024)) ;;
    T | TB) MB=$((n * 1048576)) ;;
    *) bad_spec "$1" ;;
  esac
}

# What the client itself checks, and the row with everything but the id.
fill_row() {
  local nodes sig
  user_of_uid "$UID"
  group_of_gid "$USER_GID"
  J[_user]=$USER_NAME J[_uid]=$UID J[_gid]=$USER_GID J[_group]=$GROUP_NAME
  J[_name]=${O[job-name]-${SCRIPT_NAME:-wrap}}
  J[_state]=PENDING J[_reason]=None
  J[_partition]=${O[partition]:-$DEFAULT_PARTITION}
  J[_account]=${O[account]:-${SITE[DefaultAccount]}} J[_qos]=${O[qos]:-${SITE[DefaultQOS]}}
  for REPLY in cpus-per-task ntasks mincpus ntasks-per-node; do number "$REPLY"; done
  nodes=${O[nodes]:-1}
  [[ $nodes == +([0-9])?(-+([0-9])) ]] || refuse 1 "sbatch: error: \"$nodes\" is not a valid node count"
  J[_nnodes]=${nodes%%-*}
  [[ ${J[_nnodes]} == 0 ]] && BAD_NODES=1 J[_nnodes]=1
  J[_cpt]=${O[cpus-per-task]:-1}
  J[_ntasks]=${O[ntasks]:-$((${O[ntasks-per-node]:-1} * J[_nnodes]))}
  J[_cpus]=$((J[_ntasks] * J[_cpt]))
  ((J[_cpus] < J[_nnodes])) && J[_cpus]=${J[_nnodes]}
  ((J[_cpus] < ${O[mincpus]:-0})) && J[_cpus]=${O[mincpus]}
  J[_mem]=${SITE[DefMemPerCPU]} J[_memper]=cpu
  if [[ ${O[mem]+x} ]]; then megabytes mem; J[_mem]=$MB J[_memper]=node; fi
  if [[ ${O[mem-per-cpu]+x} ]]; then megabytes mem-per-cpu; J[_mem]=$MB J[_memper]=cpu; fi
  if [[ ${O[tmp]+x} ]]; then megabytes tmp; J[_tmpdisk]=$MB; fi
  gpus_asked
  if [[ ${O[time]+x} ]]; then
    parse_minutes "${O[time]}" || bad_spec time
    J[_limit]=$MINUTES
  fi
  if [[ ${O[begin]+x} ]]; then parse_when "${O[begin]}" || refuse 255 "Invalid time specification (pos=0): ${O[begin]}" 'sbatch: error: Invalid --begin specification'; J[_begin]=$WHEN; fi
  if [[ ${O[deadline]+x} ]]; then parse_when "${O[deadline]}" || refuse 255 "Invalid time specification (pos=0): ${O[deadline]}" 'sbatch: error: Invalid --deadline specification'; J[_deadline]=$WHEN; fi
  if [[ ! ${J[_limit]} && ${PART[${J[_partition]}]+x} ]]; then
    partition_facts "${J[_partition]}"
    J[_limit]=$P_DEFTIME
  fi
  if [[ ${O[signal]+x} ]]; then
    sig=${O[signal]}
    sig=${sig%@*}
    [[ $sig == *:* ]] && { [[ ${sig%%:*} == @(B|R|BR|RB) ]] || bad_spec signal; }
    signal_number "${sig#*:}" || bad_spec signal
    [[ ${O[signal]} != *@* || ${O[signal]#*@} == +([0-9]) && ${#O[signal]} -lt 24 ]] || bad_spec signal
    [[ ${O[signal]} == *@* ]] && ((${O[signal]#*@} > 65535)) && bad_spec signal
    J[_signal]=${O[signal]/"${sig#*:}"/$SIGNAL_NUMBER}
  fi
  case ${O[open-mode]:-t} in a | append) J[_openmode]=append ;; t | truncate) J[_openmode]=truncate ;; *) bad_spec open-mode ;; esac
  case ${O[exclusive]-no} in
    no) ;;
    '' | user | mcs) J[_excl]=1 ;;
    topo) speaks exclusive-topo || bad_spec exclusive ;;
    *) bad_spec exclusive ;;
  esac
  case ${O[tres-per-task]-} in '') ;; cpu=+([0-9])) O[cpus-per-task]=${O[tres-per-task]#*=} ;; *) not_imitated "--tres-per-task=${O[tres-per-task]}" ;; esac
  case ,${O[mail-type]:-NONE}, in *,@(NONE|BEGIN|END|FAIL|REQUEUE|ALL|INVALID_DEPEND|STAGE_OUT|TIME_LIMIT?(_+([0-9]))|ARRAY_TASKS),*) ;; *) bad_spec mail-type ;; esac
  J[_nice]=${O[nice]-0}
  [[ ${O[nice]+x} && ! ${O[nice]} ]] && J[_nice]=100
  J[_comment]=${O[comment]:-} J[_dep]=${O[dependency]:-} J[_features]=${O[constraint]:-} J[_licenses]=${O[licenses]:-}
  J[_reservation]=${O[reservation]:-} J[_reqnodes]=${O[nodelist]:-} J[_excnodes]=${O[exclude]:-} J[_export]=${O[export]:-ALL}
  J[_workdir]=${O[chdir]:-$PWD}
  [[ ${J[_workdir]} == /* ]] || J[_workdir]=$PWD/${J[_workdir]}
  J[_stdin]=${O[input]:-/dev/null} J[_stdout]=${O[output]:-slurm-%j.out}
  J[_stderr]=${O[error]:-${J[_stdout]}} J[_command]=$COMMAND_PATH
  J[_requeue]=${SITE[JobRequeue]} J[_restarts]=0 J[_host]=${HOSTNAME:-localhost}
  [[ ${O[requeue]+x} ]] && J[_requeue]=1
  [[ ${O[no-requeue]+x} ]] && J[_requeue]=0
  [[ ${O[hold]+x} ]] && J[_held]=user
  J[_submitdir]=$PWD J[_mark]=.
  return 0
}

# Older clients leave it to the controller, which says it in its own way.
bad_gres() {
  local why='Invalid generic resource (gres) specification'
  speaks gres-checked-by-client && refuse 1 "sbatch: error: $why"
  refuse 1 "sbatch: error: Batch job submission failed: $why"
}

gres_shown() {
  J[_gres]=gres:$1
  speaks gres-bare && J[_gres]=$1
  speaks gres-slash && J[_gres]=gres/$1
  return 0
}

gpus_asked() {
  local spec=${O[gpus]:-} n item
  J[_gpus]=0
  if [[ ${O[gres]:-} ]]; then
    for item in ${O[gres]//,/ }; do
      n=1
      [[ $item == *:+([0-9]) ]] && n=${item##*:}
      { [[ $item == gpu || $item == gpu:* ]] && ((SITE[GPUs])); } || bad_gres
      J[_gpus]=$((J[_gpus] + n * J[_nnodes]))
    done
    gres_shown "${O[gres]}"
  fi
  for REPLY in gpus-per-node gpus-per-task; do
    [[ ${O[$REPLY]:-} ]] || continue
    spec=${O[$REPLY]}
    n=${spec##*:}
    [[ $n == +([0-9]) ]] || bad_spec "$REPLY"
    case $REPLY in *node) spec=$((n * J[_nnodes])) ;; *) spec=$((n * J[_ntasks])) ;; esac
  done
  if [[ $spec ]]; then
    [[ ${spec##*:} == +([0-9]) ]] || bad_spec gpus
    J[_gpus]=${spec##*:}
    [[ ${O[gpus-per-node]:-} ]] && gres_shown "gpu:${O[gpus-per-node]}"
  fi
  return 0
}

refuse_job() {
  if [[ ${O[test-only]+x} ]]; then warn "allocation failure: $1"; else warn "sbatch: error: Batch job submission failed: $1"; fi
  finish 1
}

# What the controller refuses at once; everything else is accepted and may wait for ever.
check_site() {
  local config='Requested node configuration is not available' term item mb

  # Of several partitions the first is taken; real Slurm takes the one that starts the job first.
  for item in ${J[_partition]//,/ }; do
    [[ ${PART[$item]+x} ]] || J[_partition]=$item
  done
  [[ ! ${PART[${J[_partition]%%,*}]+x} ]] || J[_partition]=${J[_partition]%%,*}
  if [[ ! ${PART[${J[_partition]}]+x} ]]; then
    warn "sbatch: error: invalid partition specified: ${J[_partition]}"
    refuse_job 'Invalid partition name specified'
  fi
  if [[ ${SITE[Accounting]} == on ]]; then
    in_list "${J[_account]}" "${SITE[Accounts]}" || refuse_job 'Invalid account or account/partition combination specified'
    in_list "${J[_qos]}" "${SITE[QOS]}" || refuse_job 'Invalid qos specification'
  fi
  [[ ${BAD_NODES:-} ]] && refuse_job 'Node count specification invalid'
  for item in ${J[_reqnodes]//,/ } ${J[_excnodes]//,/ }; do
    in_list "$item" "${SITE[NodeName]}" || refuse_job 'Invalid node name specified'
    in_list "$item" "${J[_reqnodes]}" && in_list "$item" "${J[_excnodes]}" && refuse_job 'Invalid node name specified'
  done
  for item in ${J[_features]//[,&|]/ }; do in_list "$item" "${SITE[Features]}" || refuse_job 'Invalid feature specification'; done
  term=${O[prefer]-}
  for item in ${term//[,&|]/ }; do in_list "$item" "${SITE[Features]}" || refuse_job 'Invalid preferred feature specification'; done
  for item in ${J[_licenses]//,/ }; do in_list "${item%%:*}" "${SITE[Licenses]}" || refuse_job 'Invalid license specification'; done
  [[ ! ${J[_reservation]} ]] || in_list "${J[_reservation]}" "${SITE[Reservations]}" || refuse_job 'Requested reservation is invalid'
  for term in ${J[_dep]//[,?]/ }; do
    [[ $term == singleton || $term == @(after|afterany|afterok|afternotok|aftercorr):+([0-9])*([0-9:+]) ]] || refuse_job 'Job dependency problem'
  done
  mb=${J[_mem]}
  [[ ${J[_memper]} == cpu ]] && mb=$((J[_mem] * J[_cpus] / J[_nnodes]))
  # Where these are refused, nothing else of the request is looked at.
  if speaks impossible-refused; then
    ((J[_nnodes] > ${#NODES[@]})) && refuse_job "$config"
    if (((J[_cpus] + J[_nnodes] - 1) / J[_nnodes] > SITE[CPUs])); then
      [[ ${O[test-only]+x} ]] || warn 'sbatch: error: CPU count per node can not be satisfied'
      refuse_job "$config"
    fi
  fi
  # Too many processors only wait, so they must not be counted as too much memory.
  if ((mb > SITE[RealMemory] && J[_cpus] / J[_nnodes] <= SITE[CPUs])); then
    warn "sbatch: error: Memory specification can not be satisfied"
    refuse_job "$config"
  fi
  if ((J[_tmpdisk] > SITE[TmpDisk])); then
    warn 'sbatch: error: Temporary disk specification can not be satisfied'
    refuse_job "$config"
  fi
  ((J[_gpus] > SITE[GPUs] * ${#NODES[@]})) && refuse_job "$config"

  partition_facts "${J[_partition]}"
  if [[ ${SITE[EnforcePartLimits]} != NO ]]; then
    if [[ $P_MAX != UNLIMITED ]] && { [[ ${J[_limit]} == UNLIMITED ]] || ((J[_limit] > P_MAX)); }; then
      refuse_job 'Requested time limit is invalid (missing or exceeds some limit)'
    fi
    (((J[_cpus] + J[_nnodes] - 1) / J[_nnodes] > SITE[CPUs])) && refuse_job 'More processors requested than permitted'
  elif [[ ${O[test-only]+x} ]] && (((J[_cpus] + J[_nnodes] - 1) / J[_nnodes] > SITE[CPUs])); then
    refuse_job "$config"
  fi
  if ((SITE[MaxSubmitJobs])); then
    local mine=("$HOME_OF_JOBS"/live/*@"$UID"@*)
    ((${#mine[@]} >= SITE[MaxSubmitJobs])) && warn 'sbatch: error: AssocMaxSubmitJobLimit' && refuse_job "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
  fi
  return 0
}
