# shellcheck shell=bash
# Owns the daemons of the hosts: which run where, how each is started, how to know that it is ready, how to hurt it.
# There is no systemd on a host.

# With auth/slurm the daemons of Slurm vouch for the users of their hosts, and sackd does where none of them runs.
daemons_of() {
  local munged='munged '
  [ "$AUTH" = munge ] || munged=
  case $1 in
    laptop) ;;
    login) echo "${munged:-sackd }sshd" ;;
    ctl) if [ "$ACCT" = slurmdbd ]; then echo "${munged}mariadbd slurmdbd slurmctld"; else echo "${munged}slurmctld"; fi ;;
    actl) echo "${munged}slurmctld" ;;
    *) echo "${munged}slurmd" ;;
  esac
}
pid_file_of() {
  case $1 in
    munged) REPLY=/run/munge/munged.pid ;;
    mariadbd) REPLY=/run/mysqld/mariadbd.pid ;;
    slurmdbd|slurmctld|slurmd|sackd) REPLY=/run/slurm/$1.pid ;;
    sshd) REPLY=/run/sshd.pid ;;
    *) die_usage "there is no daemon '$1'" ;;
  esac
}
# daemon_pid HOST DAEMON: sets DPID to its pid on the host. A stale pid file is known by the name of the process.
# shellcheck disable=SC2153  # PID is what host_init has found
daemon_pid() {
  local comm
  pid_file_of "$2"
  host_init_keep "$1" || return 1
  { read -r DPID <"/proc/$PID/root$REPLY"; } 2>/dev/null || [ -n "${DPID:-}" ] || return 1
  { read -r comm <"/proc/$PID/root/proc/$DPID/comm"; } 2>/dev/null && [ "$comm" = "$2" ] || return 1
  # Killed, but not yet reaped.
  ! grep -q '^State:.[ZX]' "/proc/$PID/root/proc/$DPID/status" 2>/dev/null
}
host_init_keep() { local keep=$REPLY; DPID=; host_init "$1" && REPLY=$keep; }

# listening HOST PORT
listening() {
  local hex address state _
  printf -v hex %04X "$2"
  host_init "$1" || return 1
  while read -r _ address _ state _; do
    [ "$state" = 0A ] && [ "${address##*:}" = "$hex" ] && return
  done <"/proc/$PID/net/tcp"
  return 1
}
daemon_ready() {
  daemon_pid "$1" "$2" || return 1
  case $2 in
    munged) [ -S "/proc/$PID/root/run/munge/munge.socket.2" ] ;;
    mariadbd) [ -S "/proc/$PID/root/run/mysqld/mysqld.sock" ] ;;
    sackd) [ -S "/proc/$PID/root/run/slurm/sack.socket" ] ;;
    slurmdbd) listening "$1" 6819 ;;
    slurmctld) listening "$1" 6817 ;;
    slurmd) listening "$1" 6818 ;;
    sshd) listening "$1" 22 ;;
  esac
}

launch_daemon() {
  case $2 in
    munged) in_host "$1" setpriv --reuid munge --regid munge --clear-groups /usr/sbin/munged ;;
    # It is a throw-away database: no log file is ever forced to the disk.
    mariadbd) in_host "$1" setsid -f setpriv --reuid mysql --regid mysql --clear-groups /usr/sbin/mariadbd --no-defaults \
        --datadir=/var/spool/mysql --socket=/run/mysqld/mysqld.sock --pid-file=/run/mysqld/mariadbd.pid \
        --skip-networking --skip-grant-tables --skip-log-bin --performance-schema=off \
        --innodb-buffer-pool-size=32M --innodb-log-file-size=8M --innodb-autoextend-increment=1 --innodb-flush-log-at-trx-commit=0 \
        --innodb-flush-method=nosync --innodb-doublewrite=0 --innodb-fast-shutdown=1 \
        </dev/null >>"$ROOT/hosts/$1/log/mariadbd.log" 2>&1 ;;
    slurmdbd) in_host "$1" setpriv --reuid slurm --regid slurm --clear-groups /usr/sbin/slurmdbd ;;
    # It writes no pid file by itself.
    sackd) in_host "$1" setsid -f setpriv --reuid slurm --regid slurm --clear-groups \
        bash -c 'echo $$ >/run/slurm/sackd.pid; exec /usr/sbin/sackd -D' >>"$ROOT/hosts/$1/log/sackd.log" 2>&1 ;;
    # There is no syslog; who logs in is what tests count.
    sshd) in_host "$1" /usr/sbin/sshd -E /var/log/sshd.log ;;
    *) in_host "$1" "/usr/sbin/$2" ;;
  esac </dev/null >>"$ROOT/hosts/$1/log/$2.start.log" 2>&1
}
await_daemon() {
  local i
  for ((i = 0; i < 1500; i++)); do daemon_ready "$1" "$2" && return; sleep 0.02; done
  tail -n 5 "$ROOT/hosts/$1/log/$2.start.log" "$ROOT/hosts/$1/log/slurm/$2.log" >&2 2>/dev/null
  die "$2 on $1 did not start within 30 s; its logs are in $ROOT/hosts/$1/log"
}
start_daemon() {
  daemon_pid "$1" "$2" || launch_daemon "$1" "$2" || die "$2 on $1 cannot be started; see $ROOT/hosts/$1/log"
  await_daemon "$1" "$2"
}
start_daemons_of() { local d; for d in $(daemons_of "$1"); do start_daemon "$1" "$d"; done; }

# signal_daemon HOST SIGNAL...: to DPID.
signal_daemon() {
  local host=$1 s script=; shift
  for s; do script+="kill -$s $DPID; "; done
  in_host "$host" bash -c "$script" 2>/dev/null
}
await_end() { local i; for ((i = 0; i < $3; i++)); do daemon_pid "$1" "$2" || return 0; sleep 0.02; done; return 1; }
stop_daemon() {
  daemon_pid "$1" "$2" || return 0
  signal_daemon "$1" TERM CONT
  await_end "$1" "$2" 500 && return
  daemon_pid "$1" "$2" && signal_daemon "$1" KILL
  await_end "$1" "$2" 250 || die "$2 on $1 does not end"
}

campus_svc() {
  [ $# -eq 3 ] || die_usage "svc needs HOST start|stop|kill|freeze|thaw|alive DAEMON"
  local host=$1 verb=$2 daemon=$3
  need_up; need_host "$host"; need_host_up "$host"; pid_file_of "$daemon"
  case " $(daemons_of "$host") " in *" $daemon "*) ;; *) die_usage "host $host has no $daemon (it has: $(daemons_of "$host"))" ;; esac
  case $verb in
    start) start_daemon "$host" "$daemon"; return ;;
    stop) stop_daemon "$host" "$daemon"; return ;;
    alive) daemon_pid "$host" "$daemon"; return ;;
    kill|freeze|thaw) daemon_pid "$host" "$daemon" || die "$daemon on $host is not running" ;;
    *) die_usage "svc: $verb? start, stop, kill, freeze, thaw or alive" ;;
  esac
  case $verb in
    kill) signal_daemon "$host" KILL; await_end "$host" "$daemon" 250 || die "$daemon on $host does not end" ;;
    freeze) signal_daemon "$host" STOP ;;
    thaw) signal_daemon "$host" CONT ;;
  esac
}
