# shellcheck shell=bash
# shellcheck disable=SC2034  # the names are used by the other libraries
# Owns the names of the site (hosts, addresses, settings), its place on disk and the identity of its processes.
#
#   ROOT/             0700, this campus
#     campus.mark     says that the directory is ours and may be removed
#     run/            settings, up (marker: boot finished), track, HOST.proc and HOST.init (pid, start time)
#     etc/            what hosts see in /etc: passwd group shadow hosts nsswitch.conf ssh/ munge/ slurm/ slurm-annex/
#     home/           /home of login, ctl and nodes      laptop-home/   /home of laptop
#     opt/            /opt/slurm-sandbox of every host
#     hosts/HOST/     the disk of one host: tmp var-tmp log spool root, boot.log
#   CACHE/            0700, shared by all campuses of the machine, survives down
#     keys/           ssh keys, so that the login host keeps its identity
#     db-<key>/       a database with clusters, account and users, ready to copy
#     suites/NAME/    the system of a Debian suite
#     <name>.lock     one up or down at a time for one ROOT

ROOT=${CAMPUS_ROOT:-/tmp/slurm-sandbox-campus}
CACHE=${CAMPUS_CACHE:-/var/cache/slurm-sandbox-campus}

# Settings of `up`, with their defaults; kept in run/settings for every later call.
SETTINGS=(SUITE LAPTOP_SUITE AUTH ACCT ANNEX NODES MIN_JOB_AGE SLURMD_TIMEOUT KILL_WAIT TRACK SCHED CONF)
ACCT=slurmdbd ANNEX=no NODES=2 MIN_JOB_AGE=300 SLURMD_TIMEOUT=300 KILL_WAIT=30 TRACK=auto
SCHED=batch_sched_delay=0 CONF='' AUTH=${CAMPUS_AUTH:-munge} SUITE=${CAMPUS_SUITE:-} LAPTOP_SUITE=${CAMPUS_LAPTOP_SUITE:-}

LAB_USERS=(alice bob carol zoe dave hugo)
ALL_USERS=("${LAB_USERS[@]}" mallory)

die() { echo "campus: $*" >&2; exit 1; }
die_usage() { echo "campus: $*; try 'campus help'" >&2; exit 2; }

need_root() {
  [ "$EUID" -eq 0 ] && return
  echo "campus: hosts are namespaces, which only root can create and enter: run it with sudo" >&2; exit 3
}

settle_root() {
  case $ROOT in
    ''|/) die_usage "--root needs a directory" ;;
    /*) ;;
    *) ROOT=$PWD/$ROOT ;;
  esac
  case $ROOT in */|*//*|*/./*|*/../*|*/.|*/..) ROOT=$(realpath -m "$ROOT") ;; esac
  # slurm.conf, mount options and ip's batch language have no common quoting.
  case $ROOT in *[!A-Za-z0-9._/+-]*) die_usage "the root directory may hold only letters, digits and . _ + - /" ;; esac
}

# site_name: the machine-wide name of this campus, for what does not live below ROOT.
site_name() { local sum; sum=$(printf %s "$ROOT" | cksum); echo "slurm-sandbox-campus-${sum%% *}"; }

load_settings() {
  local asked=$SUITE
  [ -f "$ROOT/run/settings" ] || return 1
  # shellcheck source=/dev/null
  . "$ROOT/run/settings"
  [ -z "$asked" ] || [ "$asked" = "$SUITE" ] || die "the campus in $ROOT has ${SUITE:-no suite of its own}, not $asked"
}
print_settings() { local k; for k in "${SETTINGS[@]}"; do printf '%s=%q\n' "$k" "${!k}"; done; }
is_up() { [ -f "$ROOT/run/up" ] && load_settings; }
need_up() { is_up || die "no campus is up in $ROOT; run 'campus up' first"; }

# ---- hosts

node_hosts() { local i; for ((i = 1; i <= NODES; i++)); do echo "n$i"; done; [ "$ANNEX" = no ] || echo a1; }
cluster_hosts() { echo login; echo ctl; [ "$ANNEX" = no ] || echo actl; node_hosts; }
all_hosts() { echo laptop; cluster_hosts; }
# The test networks of RFC 5737: they can not be anybody's real ones.
lan_address() {
  case $1 in
    login) echo 198.51.100.2 ;; ctl) echo 198.51.100.3 ;; actl) echo 198.51.100.4 ;;
    a1) echo 198.51.100.201 ;; n*) echo "198.51.100.$((10 + ${1#n}))" ;;
  esac
}
wan_address() { case $1 in laptop) echo 192.0.2.10 ;; login) echo 192.0.2.2 ;; esac; }
need_host() {
  local h
  for h in $(all_hosts); do [ "$h" = "$1" ] && return; done
  die_usage "there is no host '$1' here (hosts: $(all_hosts | tr '\n' ' '))"
}

# ---- processes

# start_time PID: sets REPLY to the start time in clock ticks since boot; fails for a dead process or a zombie.
start_time() {
  # A read that fails because the process has just gone leaves a variable unset, and that would end us.
  local stat=
  { read -r -d '' stat || [ -n "$stat" ]; } 2>/dev/null <"/proc/$1/stat" || return 1
  # The name of the process may hold blanks and brackets: count fields from its end.
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  [ "$1" != Z ] && [ "$1" != X ] || return 1
  REPLY=${20}
}
# recorded FILE: sets PID if the process that was written down there is still that very process.
recorded() {
  local start
  { read -r PID start <"$1"; } 2>/dev/null && start_time "$PID" && [ "$REPLY" = "$start" ]
}
# record FILE PID
record() { start_time "$2" || return 1; echo "$2 $REPLY" >"$1"; }
# host_init HOST: sets PID to the init process of the host.
host_init() { recorded "$ROOT/run/$1.init"; }
need_host_up() {
  host_init "$1" && return
  [ -f "$ROOT/run/up" ] || die "no campus is up in $ROOT; run 'campus up' first"
  load_settings; need_host "$1"
  die "host $1 is powered off"
}
# in_host HOST CMD...: run a program on the host as root. Descriptor 9 is the lock of up and down.
in_host() {
  local host=$1; shift
  need_host_up "$host"
  nsenter -t "$PID" -m -u -n -p -C -- env -i PATH="$PATH" HOME=/root LANG=C.UTF-8 "$@" 9>&-
}
milliseconds() { local t=${EPOCHREALTIME/[.,]/}; REPLY=$((t / 1000)); }
