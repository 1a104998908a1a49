# shellcheck shell=bash
# shellcheck disable=SC2034  # settings are read by name
# Owns the site as a whole: up, down, status, and the small services around it.

lock_site() {
  local file; file=$CACHE/$(site_name).lock
  mkdir -p "$CACHE"; chmod 700 "$CACHE"
  while :; do
    exec 9>"$file"
    flock -w 120 9 || die "another up or down of $ROOT has been at work for two minutes"
    # `down` removes the file: what was locked may be it no more.
    [ "$file" -ef /proc/self/fd/9 ] && return
  done
}

need_number() { case $2 in ''|*[!0-9]*) die_usage "$1 needs a whole number" ;; esac; }
parse_up() {
  while [ $# -gt 0 ]; do
    case $1 in
      --annex) ANNEX=yes; shift; continue ;;
      --root|--suite|--laptop-suite|--acct|--nodes|--min-job-age|--slurmd-timeout|--kill-wait|--track|--sched|--conf)
        [ $# -ge 2 ] || die_usage "$1 needs a value" ;;
      *) die_usage "up: unknown option $1" ;;
    esac
    case $1 in
      --root) ROOT=$2; settle_root ;;
      --suite) SUITE=$2 ;;
      --laptop-suite) LAPTOP_SUITE=$2 ;;
      --acct) ACCT=$2; case $2 in slurmdbd|none) ;; *) die_usage "--acct slurmdbd|none" ;; esac ;;
      --nodes) need_number "$1" "$2"; NODES=$2; case $2 in [1-9]|[1-9][0-9]|100) ;; *) die_usage "--nodes 1 to 100" ;; esac ;;
      --min-job-age) need_number "$1" "$2"; MIN_JOB_AGE=$2 ;;
      --slurmd-timeout) need_number "$1" "$2"; SLURMD_TIMEOUT=$2 ;;
      --kill-wait) need_number "$1" "$2"; KILL_WAIT=$2 ;;
      --track) TRACK=$2; case $2 in auto|cgroup|linuxproc) ;; *) die_usage "--track auto|cgroup|linuxproc" ;; esac ;;
      --sched) SCHED=$2 ;;
      --conf) case $2 in ?*=*) ;; *) die_usage "--conf 'Key=Value'" ;; esac; CONF+=$2$'\n' ;;
    esac
    shift 2
  done
  : "${LAPTOP_SUITE:=$SUITE}"
  [ "$ANNEX" = no ] || [ "$ACCT" = slurmdbd ] || die_usage "--annex needs accounting: clusters find each other in slurmdbd"
}

campus_up() {
  local begin fresh=yes
  parse_up "$@"
  need_namespaces
  need_suite_base "$LAPTOP_SUITE"
  need_suite_base "$SUITE"
  # Of this machine itself only the tools, where the hosts have their own system.
  [ -z "$BASE" ] || local PACKAGES=(/usr/bin/ssh-keygen openssh-client /usr/sbin/bridge iproute2)
  campus_install quiet
  [ -e "$ROOT/campus.mark" ] || [ ! -e "$ROOT" ] || rmdir "$ROOT" 2>/dev/null ||
    die "$ROOT is not a campus and not an empty directory; choose another --root"
  milliseconds; begin=$REPLY
  lock_site
  if [ -f "$ROOT/run/up" ] && recorded "$ROOT/run/switch.proc"; then
    fresh=no
    [ "$(print_settings)" = "$(cat "$ROOT/run/settings")" ] ||
      die "a campus with other settings is up in $ROOT; run 'campus down' first"
  else
    end_site
  fi
  umask 022
  if [ $fresh = yes ]; then
    { mkdir -p "$ROOT" && chmod 700 "$ROOT" && : >"$ROOT/campus.mark" && mkdir -p "$ROOT/run"; } || die "cannot write to $ROOT"
    print_settings >"$ROOT/run/settings"
    choose_tracking
    write_config
  fi
  TRACKED=$(cat "$ROOT/run/track")
  start_site
  : >"$ROOT/run/up"
  milliseconds
  echo "campus: up in $((REPLY - begin)) ms (root $ROOT, tracking $TRACKED, accounting $ACCT, hosts: $(all_hosts | tr '\n' ' '))"
}

start_site() {
  local hosts host d
  mapfile -t hosts < <(all_hosts)
  start_switch
  boot "${hosts[@]}"
  plug "${hosts[@]}"
  if [ "$ACCT" = slurmdbd ]; then
    place_database || make_database
    daemon_pid ctl mariadbd || launch_daemon ctl mariadbd || die "mariadbd cannot be started"
  fi
  for host in "${hosts[@]}"; do
    heal_host "$host"
    case $host in laptop) ;; *) { daemon_pid "$host" munged || launch_daemon "$host" munged; } & STARTING+=($!) ;; esac
  done
  wait_jobs
  start_daemon login sshd
  for d in munged mariadbd slurmdbd slurmctld; do
    case " $(daemons_of ctl) " in *" $d "*) start_daemon ctl "$d" ;; esac
  done
  [ "$ANNEX" = no ] || start_daemons_of actl
  for host in $(node_hosts); do start_daemons_of "$host" & STARTING+=($!); done
  wait_jobs || die "not all nodes have started"
  await_nodes campus "$NODES" ctl
  [ "$ANNEX" = no ] || await_nodes annex 1 actl
  [ "$ACCT" = none ] || await_registration
}
# The hosts are background jobs of this shell as well, and never end: a bare `wait` would not return.
STARTING=()
wait_jobs() { local j bad=0; for j in "${STARTING[@]}"; do wait "$j" || bad=1; done; STARTING=(); return $bad; }

await_nodes() { # await_nodes CLUSTER COUNT CONTROLLER
  local i ready
  for ((i = 0; i < 600; i++)); do
    ready=$(in_host "$3" sinfo -h -N -p batch -o %T 2>/dev/null </dev/null | grep -cE '^(idle|mixed|allocated|completing)$')
    [ "$ready" -eq "$2" ] && return
    sleep 0.05
  done
  in_host "$3" sinfo -N -o '%N %T %E' >&2
  die "only ${ready:-0} of $2 nodes of cluster $1 came up within 30 s"
}
# Until a controller has told slurmdbd its address, -M does not find it.
await_registration() {
  local i want=1
  [ "$ANNEX" = no ] || want=2
  for ((i = 0; i < 200; i++)); do
    [ "$(in_host ctl sacctmgr -n -P list cluster format=controlhost 2>/dev/null </dev/null | grep -c .)" -ge $want ] && return
    sleep 0.05
  done
  die "slurmctld did not register with slurmdbd within 10 s"
}

# end_site: end every process of a campus in ROOT, if there is one, and remove what it made.
end_site() {
  local f name names=()
  [ -e "$ROOT/campus.mark" ] || return 0
  for f in "$ROOT"/run/*.proc "$ROOT"/run/*.init; do
    name=${f##*/}; name=${name%.*}
    [ -e "$f" ] && case " ${names[*]} " in *" $name "*) ;; *) names+=("$name") ;; esac
  done
  rm -f "$ROOT/run/up"
  [ ${#names[@]} -eq 0 ] || end_hosts "${names[@]}"
  remove_cgroups
  rm -rf --one-file-system "${ROOT:?}"/{run,etc,home,laptop-home,opt,hosts,empty,empty-file,freezer}
  rm -f "$ROOT/campus.mark"
  rmdir "$ROOT" 2>/dev/null || true
}
campus_down() {
  local begin
  while [ "${1:-}" = --root ]; do ROOT=${2:?}; settle_root; shift 2; done
  [ $# -eq 0 ] || die_usage "down takes no arguments"
  milliseconds; begin=$REPLY
  [ -e "$ROOT/campus.mark" ] || { echo "campus: no campus in $ROOT"; return 0; }
  lock_site
  end_site
  rm -f "$CACHE/$(site_name).lock"
  milliseconds
  echo "campus: down in $((REPLY - begin)) ms"
}

campus_status() {
  local host d line bad=0
  is_up || { echo "no campus is up in $ROOT"; return 1; }
  recorded "$ROOT/run/switch.proc" || { echo "switch down"; bad=1; }
  for host in $(all_hosts); do
    if ! host_init "$host"; then echo "$host off"; bad=1; continue; fi
    line="$host up"
    for d in $(daemons_of "$host"); do
      if daemon_pid "$host" "$d"; then line+=" $d"; else line+=" (no $d)"; bad=1; fi
    done
    echo "$line"
  done
  return $bad
}

campus_put() {
  local f name
  [ $# -gt 0 ] || die_usage "put needs FILE..."
  need_up
  for f; do
    [ -f "$f" ] || die "put: $f is not a file"
    name=${f##*/}
    # By renaming: a program that runs right now cannot be written to.
    { cp "$f" "$ROOT/opt/.$name.$$" && chmod 755 "$ROOT/opt/.$name.$$" && mv "$ROOT/opt/.$name.$$" "$ROOT/opt/$name"; } ||
      die "cannot copy $f"
  done
}

# What sdiag itself asks is left out, so that looking changes nothing.
campus_rpcs() {
  local controller=ctl reset=no
  while :; do
    case ${1:-} in --annex) controller=actl; shift ;; --reset) reset=yes; shift ;; *) break ;; esac
  done
  need_up; need_host_up $controller
  if [ $reset = yes ]; then in_host $controller sdiag --reset >/dev/null || die "sdiag --reset failed"; return; fi
  in_host $controller sdiag </dev/null | awk -v user="${1:-}" '
    /^Remote Procedure Call statistics by message type/ { part = "type" }
    /^Remote Procedure Call statistics by user/ { part = "user" }
    /^Pending RPC/ { part = "" }
    !/count:/ { next }
    { match($0, /count:[0-9]+/); n = substr($0, RSTART + 6, RLENGTH - 6) }
    part == "type" && user == "" && $1 != "REQUEST_STATS_INFO" && $1 != "REQUEST_STATS_RESET" { print $1, n; total += n }
    part == "user" && $1 == user { total += n }
    END { if (user == "") print "total", total + 0; else print total + 0 }'
}
