# shellcheck shell=bash
# Owns how a user's command is run on a host: who it is, what it finds in its environment, what comes back.

campus_exec() {
  local interactive=no term=dumb extra=() host user name uid home shell
  while :; do
    case ${1:-} in
      -i) interactive=yes term=${TERM:-dumb}; shift ;;
      --env) case ${2:-} in ?*=*) extra+=("$2") ;; *) die_usage "--env needs NAME=VALUE" ;; esac; shift 2 ;;
      --env=?*=*) extra+=("${1#--env=}"); shift ;;
      --) shift; break ;;
      -*) die_usage "exec: unknown option $1" ;;
      *) break ;;
    esac
  done
  [ $# -ge 3 ] || { [ $# -eq 2 ] && [ $interactive = yes ]; } || die_usage "exec needs HOST USER CMD"
  host=$1 user=$2; shift 2
  need_host_up "$host"
  while IFS=: read -r name _ uid _ _ home shell; do
    [ "$name" = "$user" ] && break
  done <"$ROOT/etc/passwd"
  [ "$name" = "$user" ] || die "exec: no user '$user' on $host"
  local run=(/bin/bash -c "$*")
  [ $# -gt 0 ] || run=("$shell" -l)
  # nsenter stays outside as the parent: when it is killed, the command must not go on alone.
  exec nsenter -t "$PID" -m -u -n -p -C -- \
    setpriv --reuid "$uid" --regid "$user" --init-groups --pdeathsig KILL -- \
    env -i -C "$home" HOME="$home" USER="$user" LOGNAME="$user" SHELL="$shell" LANG=C.UTF-8 TERM="$term" \
    PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games "${extra[@]}" "${run[@]}"
}

# Looks at /proc itself: a minimal system has no ps.
campus_pids() {
  [ $# -eq 2 ] || die_usage "pids needs HOST USER"
  local uid
  uid=$(awk -F: -v u="$2" '$1 == u { print $3 }' "$ROOT/etc/passwd" 2>/dev/null)
  need_host_up "$1"
  [ -n "$uid" ] || die "pids: no user '$2'"
  # shellcheck disable=SC2016
  in_host "$1" bash -c '
    for dir in /proc/[0-9]*; do
      while read -r key _ effective _; do [ "$key" = Uid: ] && break; done 2>/dev/null <"$dir/status" || continue
      [ "$effective" = "$1" ] || continue
      read -r comm 2>/dev/null <"$dir/comm" || continue
      mapfile -d "" args 2>/dev/null <"$dir/cmdline"
      [ ${#args[@]} -gt 0 ] || continue
      line=${args[*]}
      printf "%s %s %s\n" "${dir#/proc/}" "$comm" "${line//[[:cntrl:]]/ }"
    done' pids "$uid"
}
