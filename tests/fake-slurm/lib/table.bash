# shellcheck shell=bash
# squeue's columns: the % codes and the long names, compiled once, then filled in for each row without a fork.

# T_CODE[i] is a code or `=`; T_TEXT[i] is the literal before it; T_WIDTH and T_RIGHT its shape.
T_CODE=() T_TEXT=() T_WIDTH=() T_RIGHT=()
declare -A HEADING=(
  [A]=JOBID [i]=JOBID [T]=STATE [t]=ST [r]=REASON [R]='NODELIST(REASON)' [N]=NODELIST [B]=EXEC_HOST [P]=PARTITION [j]=NAME
  [k]=COMMENT [u]=USER [U]=UID [V]=SUBMIT_TIME [S]=START_TIME [e]=END_TIME [l]=TIME_LIMIT [L]=TIME_LEFT [M]=TIME [D]=NODES
  [C]=CPUS [a]=ACCOUNT [q]=QOS [E]=DEPENDENCY [Z]=WORK_DIR [o]=COMMAND [b]=TRES_PER_NODE [c]=MIN_CPUS [m]=MIN_MEMORY
  [Q]=PRIORITY [p]=PRIORITY [y]=NICE [g]=GROUP [G]=GROUP [h]=OVER_SUBSCRIBE [F]=ARRAY_JOB_ID [K]=ARRAY_TASK_ID [n]=REQ_NODES
  [v]=RESERVATION [w]=WCKEY [W]=LICENSES [x]=EXC_NODES [Y]=SCHEDNODES [z]=S:C:T [d]=MIN_TMP_DISK [f]=FEATURES
  [H]=SOCKETS_PER_NODE [I]=CORES_PER_SOCKET [J]=THREADS_PER_CORE [O]=CONTIGUOUS [s]='' [X]=CORE_SPEC)

add_column() {
  T_TEXT+=("$1") T_CODE+=("$2") T_WIDTH+=("$3") T_RIGHT+=("$4")
}

# %[.][width]code
compile_format() {
  local format=$1 text='' width right code
  while [[ $format == *%* ]]; do
    text+=${format%%%*}
    format=${format#*%}
    right='' width=''
    if [[ $format == .* ]]; then right=1 format=${format#.}; fi
    width=${format%%[!0-9]*}
    format=${format#"$width"}
    code=${format:0:1}
    format=${format:1}
    if [[ $code == [A-Za-z] && ${HEADING[$code]+x} ]]; then
      add_column "$text" "$code" "$width" "$right"
      text=
    elif [[ $code == % ]]; then
      text+=%
    else
      warn "squeue: error: Invalid job format specification: $code"
      text+=%$code
    fi
  done
  T_TAIL=$text$format
}

# -O name[:[.]width],...
compile_long_format() {
  local item items name shape code right width
  T_TAIL=
  IFS=, read -ra items <<<"$1"
  for item in "${items[@]}"; do
    name=${item%%:*} shape=20 right='' code=''
    [[ $item == *:* ]] && shape=${item#*:}
    if [[ $shape == .* ]]; then right=1 shape=${shape#.}; fi
    width=${shape:-20}
    case ${name,,} in
      jobid | jobarrayid) code=i ;;
      name) code=j ;;
      state) code=T ;;
      statecompact) code=t ;;
      reason) code=r ;;
      reasonlist) code=R ;;
      nodelist) code=N ;;
      batchhost) code=B ;;
      partition) code=P ;;
      comment) code=k ;;
      username) code=u ;;
      userid) code=U ;;
      submittime) code=V ;;
      starttime) code=S ;;
      endtime) code=e ;;
      timelimit) code=l ;;
      timeleft) code=L ;;
      timeused) code=M ;;
      numnodes) code=D ;;
      numcpus) code=C ;;
      account) code=a ;;
      qos) code=q ;;
      dependency) code=E ;;
      workdir) code=Z ;;
      command) code=o ;;
      prioritylong | priority) code=Q ;;
      *) not_imitated "-O $name" ;;
    esac
    add_column '' "$code" "$width" "$right"
  done
}

header_line() {
  local i line='' cell
  for ((i = 0; i < ${#T_CODE[@]}; i++)); do
    cell=${HEADING[${T_CODE[i]}]}
    pad "$i" "$cell"
    line+=${T_TEXT[i]}$CELL
  done
  say "$line$T_TAIL"
}

pad() {
  local width=${T_WIDTH[$1]}
  CELL=$2
  if [[ $width ]]; then
    CELL=${CELL:0:width}
    if [[ ${T_RIGHT[$1]} ]]; then printf -v CELL '%*s' "$width" "$CELL"; else printf -v CELL '%-*s' "$width" "$CELL"; fi
  fi
}

# What the job J was given, as a list of trackable resources, in bytes where nothing is converted.
granted() {
  local mb=$((J[_mem] * (${#J[_memper]} == 3 ? J[_cpus] : J[_nnodes])))
  GRANTED=billing=${J[_cpus]},cpu=${J[_cpus]}
  ((J[_gpus])) && GRANTED+=,gres/gpu=${J[_gpus]}
  GRANTED+=,mem=${mb}M,node=${J[_nnodes]}
}

# used SECONDS: what its batch step has used in that time, by the setting UsedPercent.
used() {
  long_span $((J[_cpus] * $1 * SITE[UsedPercent] / 100))
  USED=cpu=$SPAN,energy=0,fs/disk=65536,mem=16777216,pages=0,vmem=33554432
}

# How long the job J has run, without the time it was suspended.
elapsed_seconds() {
  local end=$EPOCHSECONDS
  ELAPSED=0
  [[ ${J[_start]} ]] || return 0
  case ${J[_state]} in
    RUNNING | COMPLETING | SUSPENDED) ;;
    PENDING) return 0 ;;
  esac
  if [[ ${J[_state]} == COMPLETING ]] || is_finished "${J[_state]}"; then end=${J[_end]:-$end}; fi
  [[ ${J[_state]} == SUSPENDED ]] && end=${J[_suspended]:-$end}
  ELAPSED=$((end - J[_start] - J[_presusp]))
  ((ELAPSED < 0)) && ELAPSED=0
  return 0
}

shown_dependency() {
  local term list=''
  DEPENDENCY='(null)'
  [[ ${J[_dep]} && ${J[_state]} == PENDING ]] || return 0
  for term in ${J[_dep]//,/ }; do list+=${list:+,}$term'(unfulfilled)'; done
  dependency_state
  [[ $DEP == ok ]] || DEPENDENCY=$list
}

# The row J in the compiled format, in ROW.
format_row() {
  local i cell line='' state=${J[_state]} limit
  for ((i = 0; i < ${#T_CODE[@]}; i++)); do
    case ${T_CODE[i]} in
      A | i | F) cell=${J[_id]} ;;
      T) cell=$state ;;
      t) cell=${COMPACT[$state]:-?} ;;
      r) cell=${J[_reason]} ;;
      R) case $state in PENDING | TIMEOUT | OUT_OF_MEMORY | DEADLINE | FAILED) cell="(${J[_reason]})" ;; *) cell=${J[_nodelist]} ;; esac ;;
      N) cell=${J[_nodelist]} ;;
      B) cell=${J[_node]:-n/a} ;;
      P) cell=${J[_partition]} ;;
      j) cell=${J[_name]//$RS/$NL} ;;
      k)
        cell=${J[_comment]//$RS/$NL}
        cell=${cell:-(null)}
        ;;
      u) cell=${J[_user]} ;;
      U) cell=${J[_uid]} ;;
      V)
        show_time "${J[_submit]}" N/A
        cell=$TIME
        ;;
      S)
        if [[ $state == PENDING && ${J[_begin]:-0} -gt $EPOCHSECONDS ]]; then show_time "${J[_begin]}" N/A; else show_time "${J[_start]}" N/A; fi
        cell=$TIME
        ;;
      e)
        if [[ $state == PENDING ]]; then TIME=N/A; else show_time "${J[_end]}" N/A; fi
        cell=$TIME
        ;;
      l)
        limit_as_span
        cell=$SPAN
        ;;
      L)
        elapsed_seconds
        limit_of_row
        if [[ $LIMIT_SECONDS == UNLIMITED ]]; then SPAN=UNLIMITED; else short_span "$((LIMIT_SECONDS - ELAPSED))"; fi
        cell=$SPAN
        ;;
      M)
        elapsed_seconds
        short_span "$ELAPSED"
        cell=$SPAN
        ;;
      D) cell=${J[_nnodes]} ;;
      C) cell=${J[_cpus]} ;;
      a) cell=${J[_account]} ;;
      q) cell=${J[_qos]} ;;
      E)
        shown_dependency
        cell=$DEPENDENCY
        ;;
      Z) cell=${J[_workdir]//$RS/$NL} ;;
      o) cell=${J[_command]//$RS/$NL} ;;
      b) cell=${J[_gres]:-N/A} ;;
      c) cell=${J[_cpt]} ;;
      m)
        show_memory "${J[_mem]}"
        cell=$MEMORY
        ;;
      Q) cell=${J[_prio]} ;;
      p) printf -v cell '%.14f' "0.${J[_prio]}" ;;
      y) cell=${J[_nice]} ;;
      g) cell=${J[_group]} ;;
      G) cell=${J[_gid]} ;;
      h) if [[ ${J[_excl]} ]]; then cell=NO; else cell=OK; fi ;;
      H | I | J) cell='*' ;;
      O | d) cell=0 ;;
      z) cell='*:*:*' ;;
      n) cell=${J[_reqnodes]} ;;
      x) cell=${J[_excnodes]} ;;
      f) cell=${J[_features]:-(null)} ;;
      W) cell=${J[_licenses]:-(null)} ;;
      v) cell=${J[_reservation]:-(null)} ;;
      s) cell= ;;
      K | X) cell=N/A ;;
      *) cell='(null)' ;;
    esac
    if [[ ${T_WIDTH[i]} ]]; then
      pad "$i" "$cell"
      line+=${T_TEXT[i]}$CELL
    else
      line+=${T_TEXT[i]}$cell
    fi
  done
  ROW=$line$T_TAIL
}

limit_of_row() {
  LIMIT_SECONDS=UNLIMITED
  [[ ${J[_limit]} == UNLIMITED || ! ${J[_limit]} ]] || LIMIT_SECONDS=$((J[_limit] * 60))
}

limit_as_span() {
  limit_of_row
  short_span "$LIMIT_SECONDS"
}
