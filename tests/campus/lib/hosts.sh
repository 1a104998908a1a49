# shellcheck shell=bash
# Owns hosts: how one is booted, powered off, and how its process group is tracked (one freezer cgroup a host).

# with_freezer DIR CMD...: run CMD with the machine's freezer hierarchy at DIR. A private mount, since machines with
# the unified hierarchy only do not mount it, though their kernel has it.
with_freezer() {
  # shellcheck disable=SC2016
  unshare --mount bash -c 'mount -n -t cgroup -o freezer freezer "$1" 2>/dev/null && shift && "$@"' freezer "$@" 9>&-
}
# Slurm 22.05 needs version 1 of cgroups, of which it uses the freezer only.
choose_tracking() {
  mkdir -p "$ROOT/freezer"
  if [ -n "$SUITE" ] && [ "$TRACK" = auto ]; then read_suite "$SUITE"; TRACK=$SUITE_TRACK; fi
  TRACKED=linuxproc
  if [ "$TRACK" != linuxproc ]; then
    if with_freezer "$ROOT/freezer" mkdir -p "$ROOT/freezer/$(site_name)"; then TRACKED=cgroup
    elif [ "$TRACK" = cgroup ]; then die "--track cgroup: the freezer cgroup (version 1) cannot be mounted here"
    fi
  fi
  echo "$TRACKED" >"$ROOT/run/track"
}
remove_cgroups() {
  [ "$(cat "$ROOT/run/track" 2>/dev/null)" = cgroup ] || return 0
  # shellcheck disable=SC2016
  with_freezer "$ROOT/freezer" bash -c '
    for ((i = 0; i < 100; i++)); do
      [ -d "$1" ] || exit 0
      find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
      [ -d "$1" ] || exit 0
      sleep 0.02
    done; exit 1' remove "$ROOT/freezer/$(site_name)" || echo "campus: cgroups are left behind" >&2
}

# launch HOST: start the process that holds the host. It writes itself down before it does anything else, so a boot
# that is killed at any point leaves nothing that `down` cannot find.
launch() {
  if [ "$1" = laptop ]; then suite_base "$LAPTOP_SUITE"; else suite_base "$SUITE"; fi
  rm -f "$ROOT/run/$1.init" "$ROOT/run/$1.booted" "$ROOT/run/$1.plugged"
  mkdir -p "$ROOT/hosts/$1"
  setsid bash "$LIB/host-launch.sh" "$LIB" "$ROOT" "$1" "$(cat "$ROOT/run/track")" "$(site_name)" "$BASE" \
    </dev/null >"$ROOT/hosts/$1/boot.log" 2>&1 9>&- &
}
boot() { # boot HOST...: all at once
  local host i init started=()
  for host; do host_init "$host" || { launch "$host"; started+=("$host"); }; done
  for host in "${started[@]}"; do
    for ((i = 0; i < 1000; i++)); do [ -e "$ROOT/run/$host.booted" ] && break; sleep 0.01; done
    if [ ! -e "$ROOT/run/$host.booted" ] || ! recorded "$ROOT/run/$host.proc"; then
      cat "$ROOT/hosts/$host/boot.log" >&2
      die "$host did not boot"
    fi
    read -r init _ <"/proc/$PID/task/$PID/children"
    record "$ROOT/run/$host.init" "$init" || die "$host did not stay up"
  done
}

# end_hosts NAME...: kill what holds these hosts, and wait until all of their processes are gone.
end_hosts() {
  local name i init pids=()
  for name; do
    init=
    if recorded "$ROOT/run/$name.init"; then init=$PID; kill -KILL "$PID" 2>/dev/null; pids+=("$PID:$REPLY"); fi
    if recorded "$ROOT/run/$name.proc"; then
      # A boot that was killed half way has an init that nobody wrote down: it dies with its parent.
      [ -n "$init" ] || read -r init _ 2>/dev/null <"/proc/$PID/task/$PID/children"
      if [ -n "$init" ] && start_time "$init"; then pids+=("$init:$REPLY"); fi
      start_time "$PID" && pids+=("$PID:$REPLY")
      kill -KILL "$PID" 2>/dev/null
    fi
  done
  # An init is not gone before everything in its pid namespace is.
  for init in "${pids[@]}"; do
    for ((i = 0; i < 1000; i++)); do
      start_time "${init%:*}" || break
      [ "$REPLY" = "${init#*:}" ] || break
      sleep 0.005
    done
  done
  for name; do rm -f "$ROOT/run/$name".{init,proc,booted,plugged}; done
}

campus_power() {
  [ $# -eq 2 ] || die_usage "power needs HOST off|on"
  need_up; need_host "$1"
  case $2 in
    off)
      host_init "$1" || return 0
      # The cable first: a machine without power sends no FIN.
      cut_host "$1"
      end_hosts "$1"
      unplug "$1" ;;
    on)
      boot "$1"; plug "$1"
      start_daemons_of "$1" ;;
    *) die_usage "power: $2? off or on" ;;
  esac
}
