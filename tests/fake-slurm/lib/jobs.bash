# shellcheck shell=bash
# The job rows: one file a job, one line a field, replaced whole by rename; written only under the lock, read by anyone.
#
#   c/CLUSTER/jobs/ID    the row while the controller remembers the job
#   c/CLUSTER/acct/ID.N  the row of an earlier life (requeued) or of a purged job: accounting only
#   c/CLUSTER/live/ID@UID@NAME   exists while the job is not finished: singleton and limits are answered by names alone
#   c/CLUSTER/alloc/ID@NODE@CPUS@MB@GPUS   what a job holds on a node
#   c/CLUSTER/spool/ID/  script, env, requests to the supervisor, its pid and fifo

FIELDS=(id name user uid gid group state reason final partition account qos cpus ntasks cpt mem memper gres gpus
  nnodes reqnodes excnodes features reservation licenses submit eligible start end limit begin deadline prio held nice
  comment dep workdir stdout stderr stdin command xcode xsig nodelist node gpuidx requeue restarts signal excl openmode
  export host submitdir suspended presusp preempted notbefore tmpdisk cluster mark)
# J is the row at hand; ${J[_name]} is its field `name`.
for ((i = 0; i < ${#FIELDS[@]}; i++)); do declare -gri "_${FIELDS[i]}=$i"; done
FIELD_COUNT=${#FIELDS[@]}
RS=$'\x1e'
J=()

# Rows are read without the lock; a row that vanishes meanwhile was purged.
load_job() {
  mapfile -t J 2>/dev/null <"$HOME_OF_JOBS/jobs/$1" || return 1
  ((${#J[@]} == FIELD_COUNT))
}

save_job() {
  local id=${J[_id]} tmp=$HOME_OF_JOBS/.row.$BASHPID
  J[_mark]=.
  printf '%s\n' "${J[@]//$NL/$RS}" >"$tmp" && mv -f "$tmp" "$HOME_OF_JOBS/jobs/$id"
}

new_row() {
  local i
  J=()
  for ((i = 0; i < FIELD_COUNT; i++)); do J[i]=; done
}

live_name() {
  local name=${J[_name]//[^A-Za-z0-9_.-]/_}
  LIVE=$HOME_OF_JOBS/live/${J[_id]}@${J[_uid]}@${name:0:120}
}

mark_live() {
  live_name
  : >"$LIVE"
}

unmark_live() {
  live_name
  [[ -e $LIVE ]] && rm -f "$LIVE"
}

# Under the lock: the next free number, kept across purges as the real one is.
next_id() {
  local file=$HOME_OF_JOBS/next
  ID=${SITE[FirstJobId]}
  [[ -s $file ]] && read -r ID <"$file"
  ((ID > SITE[MaxJobId])) && ID=${SITE[FirstJobId]}
  while [[ -e $HOME_OF_JOBS/jobs/$ID ]]; do ID=$((ID + 1)); done
  printf '%s\n' "$((ID + 1))" >"$file.new" && mv -f "$file.new" "$file"
}

is_purged() {
  is_finished "${J[_state]}" && ((EPOCHSECONDS > J[_end] + SITE[MinJobAge]))
}

# Moves a row out of the controller's memory; accounting keeps it.
to_accounting() {
  local id=$1 n=0
  while [[ -e $HOME_OF_JOBS/acct/$id.$n ]]; do n=$((n + 1)); done
  mv -f "$HOME_OF_JOBS/jobs/$id" "$HOME_OF_JOBS/acct/$id.$n"
}

copy_to_accounting() {
  local id=$1 n=0
  while [[ -e $HOME_OF_JOBS/acct/$id.$n ]]; do n=$((n + 1)); done
  cp "$HOME_OF_JOBS/jobs/$id" "$HOME_OF_JOBS/acct/$id.$n"
}

# All ids in ascending order of creation of the file names, which is no promise; callers sort.
all_ids() {
  local f
  IDS=()
  for f in "$HOME_OF_JOBS"/jobs/*; do IDS+=("${f##*/}"); done
}

# A job that the controller knows: present and not aged out. The first reader to see an aged job purges it.
known_job() {
  [[ $1 == +([0-9]) ]] && load_job "$1" || return 1
  is_purged || return 0
  forget_aged "$1"
  return 1
}

forget_aged() {
  lock
  local id
  for id in "$@"; do
    load_job "$id" && is_purged && to_accounting "$id"
  done
  unlock
}

# A row prepared by a command is finished here and becomes a job. Under the lock.
admit_job() {
  local spool=$1
  next_id
  J[_id]=$ID
  J[_submit]=$EPOCHSECONDS
  J[_cluster]=$CLUSTER
  now_ms
  to_ms "${SITE[StartDelay]}"
  J[_notbefore]=$((MS + MSEC))
  J[_prio]=$((4294901760 - ID))
  [[ ${J[_held]} ]] && J[_prio]=0
  expand_path "${J[_stdout]}"
  J[_stdout]=$EXPANDED
  expand_path "${J[_stderr]}"
  J[_stderr]=$EXPANDED
  rm -rf "${HOME_OF_JOBS:?}/spool/$ID"
  mv "$spool" "$HOME_OF_JOBS/spool/$ID"
  mark_live
  why_pending || true
  J[_reason]=${WHY:-None}
  save_job
}

# %j %x %u %N %% in output paths; a relative path lies in the working directory.
expand_path() {
  local path=$1 out='' c
  while [[ $path == *%* ]]; do
    out+=${path%%%*}
    path=${path#*%}
    c=${path:0:1}
    path=${path:1}
    case $c in
      j | A) out+=${J[_id]} ;;
      J) out+=${J[_id]}.batch ;;
      x) out+=${J[_name]} ;;
      u) out+=${J[_user]} ;;
      N) out+=${J[_node]:-${NODES[0]}} ;;
      n | t) out+=0 ;;
      s) out+='batch' ;;
      a) out+=4294967294 ;;
      %) out+=% ;;
      *) out+=%$c ;;
    esac
  done
  out+=$path
  case $out in /* | '') EXPANDED=$out ;; *) EXPANDED=${J[_workdir]}/$out ;; esac
}

to_ms() {
  local whole=${1%%.*} part=
  [[ $1 == *.* ]] && part=${1#*.}
  part=${part}000
  MSEC=$((10#${whole:-0} * 1000 + 10#${part:0:3}))
}
