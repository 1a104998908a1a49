# shellcheck shell=bash
# Words and numbers as Slurm reads and prints them: time limits, times, users, job states, signals.

# All that squeue reads; older versions know less, and none lists them as a table.
STATES_KNOWN=(PENDING RUNNING SUSPENDED COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL PREEMPTED BOOT_FAIL DEADLINE
  OUT_OF_MEMORY COMPLETING CONFIGURING RESIZING RESV_DEL_HOLD REQUEUED REQUEUE_FED REQUEUE_HOLD REVOKED SIGNALING
  SPECIAL_EXIT STAGE_OUT STOPPED)
declare -A COMPACT=(
  [PENDING]=PD [RUNNING]=R [SUSPENDED]=S [COMPLETED]=CD [CANCELLED]=CA [FAILED]=F [TIMEOUT]=TO [NODE_FAIL]=NF
  [PREEMPTED]=PR [BOOT_FAIL]=BF [DEADLINE]=DL [OUT_OF_MEMORY]=OOM [COMPLETING]=CG [CONFIGURING]=CF [RESIZING]=RS
  [RESV_DEL_HOLD]=RD [REQUEUED]=RQ [REQUEUE_FED]=RF [REQUEUE_HOLD]=RH [REVOKED]=RV [SIGNALING]=SI [SPECIAL_EXIT]=SE
  [STAGE_OUT]=SO [STOPPED]=ST)

# The states that squeue names as valid, in STATES_TEXT.
list_states() {
  local word list=
  for word in "${STATES_KNOWN[@]}"; do
    case $word in RESV_DEL_HOLD | REQUEUED | REQUEUE_FED | REQUEUE_HOLD | SIGNALING | STAGE_OUT | STOPPED) speaks states-of-requeue || continue ;; esac
    list+=$word,
    [[ $word == CONFIGURING ]] && speaks state-expediting && list+=EXPEDITING,
  done
  speaks states-in-lower-case && list=${list,,}
  STATES_TEXT=${list%,}
}

is_finished() {
  case $1 in
    COMPLETED | CANCELLED | FAILED | TIMEOUT | NODE_FAIL | PREEMPTED | BOOT_FAIL | DEADLINE | OUT_OF_MEMORY | REVOKED | SPECIAL_EXIT) return 0 ;;
  esac
  return 1
}

# A state word or its short form, in any case, to the word.
full_state() {
  local given=${1^^} word
  for word in "${STATES_KNOWN[@]}"; do
    if [[ $given == "$word" || $given == "${COMPACT[$word]}" ]]; then
      STATE_WORD=$word
      return 0
    fi
  done
  return 1
}

# minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]] or UNLIMITED, rounded up to MINUTES.
parse_minutes() {
  local text=$1 days=0 h=0 m=0 s=0 parts
  MINUTES=
  case ${text^^} in UNLIMITED | INFINITE | -1)
    MINUTES=UNLIMITED
    return 0
    ;;
  esac
  if [[ $text == +([0-9])-* ]]; then
    days=${text%%-*}
    IFS=: read -ra parts <<<"${text#*-}"
    h=${parts[0]:-0} m=${parts[1]:-0} s=${parts[2]:-0}
  else
    IFS=: read -ra parts <<<"$text"
    case ${#parts[@]} in
      1) m=${parts[0]} ;;
      2) m=${parts[0]} s=${parts[1]} ;;
      3) h=${parts[0]} m=${parts[1]} s=${parts[2]} ;;
      *) return 1 ;;
    esac
  fi
  [[ $days$h$m$s == +([0-9]) && $h && $m && $s ]] || return 1
  MINUTES=$((10#$days * 1440 + 10#$h * 60 + 10#$m + (10#$s + 59) / 60))
  ((MINUTES)) || MINUTES=UNLIMITED
  return 0
}

# Seconds as squeue shows them: M:SS, H:MM:SS, D-HH:MM:SS.
short_span() {
  local s=$1 d h m
  if [[ $s == UNLIMITED ]]; then
    SPAN=UNLIMITED
    return
  fi
  ((s < 0)) && s=0
  d=$((s / 86400)) h=$((s / 3600 % 24)) m=$((s / 60 % 60)) s=$((s % 60))
  if ((d)); then
    printf -v SPAN '%d-%02d:%02d:%02d' "$d" "$h" "$m" "$s"
  elif ((h)); then
    printf -v SPAN '%d:%02d:%02d' "$h" "$m" "$s"
  else
    printf -v SPAN '%d:%02d' "$m" "$s"
  fi
}

# Seconds as scontrol and sacct show them: HH:MM:SS, D-HH:MM:SS.
long_span() {
  local s=$1 d
  if [[ $s == UNLIMITED ]]; then
    SPAN=UNLIMITED
    return
  fi
  ((s < 0)) && s=0
  d=$((s / 86400))
  printf -v SPAN '%02d:%02d:%02d' "$((s / 3600 % 24))" "$((s / 60 % 60))" "$((s % 60))"
  ((d)) && SPAN=$d-$SPAN
  return 0
}

# An epoch as a time, in the form that SLURM_TIME_FORMAT asks for; no time is NONE.
show_time() {
  local format=${SLURM_TIME_FORMAT:-standard}
  if [[ ! $1 || $1 == 0 ]]; then
    TIME=$2
    return
  fi
  case $format in
    %s) TIME=$1 ;;
    standard | relative) printf -v TIME '%(%Y-%m-%dT%H:%M:%S)T' "$1" ;;
    *) printf -v TIME "%($format)T" "$1" ;;
  esac
}

# --begin and --deadline: now, now+N[unit], an epoch-like date; sets WHEN.
parse_when() {
  local text=$1 n unit=1
  case $text in
    now) WHEN=$EPOCHSECONDS ;;
    now+*)
      n=${text#now+}
      case $n in
        *minute?(s)) unit=60 n=${n%%minute*} ;;
        *hour?(s)) unit=3600 n=${n%%hour*} ;;
        *day?(s)) unit=86400 n=${n%%day*} ;;
        *week?(s)) unit=604800 n=${n%%week*} ;;
        *second?(s)) n=${n%%second*} ;;
      esac
      [[ $n == +([0-9]) ]] || return 1
      WHEN=$((EPOCHSECONDS + n * unit))
      ;;
    *[0-9][:-][0-9]*) WHEN=$(date -d "${text/T/ }" +%s 2>/dev/null) || return 1 ;;
    *) return 1 ;;
  esac
}

# The accounts of this machine and the setting Users (name:uid,...); sets USER_NAME, USER_GID or USER_UID.
user_of_uid() {
  local name uid gid pair
  for pair in ${SITE[Users]//,/ }; do
    [[ ${pair#*:} == "$1" ]] || continue
    USER_NAME=${pair%%:*} USER_GID=$1
    return 0
  done
  while IFS=: read -r name _ uid gid _; do
    [[ $uid == "$1" ]] || continue
    USER_NAME=$name USER_GID=$gid
    return 0
  done </etc/passwd
  if [[ $1 == "$UID" ]]; then
    USER_NAME=$(id -un) USER_GID=$(id -g)
    return 0
  fi
  USER_NAME=$1 USER_GID=$1
  return 1
}

uid_of_user() {
  local name uid pair
  for pair in ${SITE[Users]//,/ }; do
    [[ ${pair%%:*} == "$1" || ${pair#*:} == "$1" ]] || continue
    USER_UID=${pair#*:}
    return 0
  done
  while IFS=: read -r name _ uid _; do
    [[ $name == "$1" || $uid == "$1" ]] || continue
    USER_UID=$uid
    return 0
  done </etc/passwd
  USER_UID=$(id -u "$1" 2>/dev/null)
}

group_of_gid() {
  local name gid
  GROUP_NAME=$1
  while IFS=: read -r name _ gid _; do
    [[ $gid == "$1" ]] || continue
    GROUP_NAME=$name
    return 0
  done </etc/group
  return 0
}

# A signal name or number to SIGNAL_NUMBER.
signal_number() {
  local name=${1#SIG} pair
  if [[ $name == +([0-9]) ]]; then
    SIGNAL_NUMBER=$name
    ((name > 0 && name < 65))
    return
  fi
  for pair in HUP:1 INT:2 QUIT:3 ABRT:6 KILL:9 USR1:10 USR2:12 ALRM:14 TERM:15 CONT:18 STOP:19 TSTP:20 TTIN:21 TTOU:22 URG:23 XCPU:24; do
    if [[ ${name^^} == "${pair%:*}" ]]; then
      SIGNAL_NUMBER=${pair#*:}
      return 0
    fi
  done
  return 1
}

# Megabytes as Slurm prints them.
show_memory() {
  local mb=$1
  if ((mb && mb % 1048576 == 0)); then
    MEMORY=$((mb / 1048576))T
  elif ((mb && mb % 1024 == 0)); then
    MEMORY=$((mb / 1024))G
  else
    MEMORY=${mb}M
  fi
}
