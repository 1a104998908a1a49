#!/bin/bash
# Owns the one process that holds a host: it writes itself down, enters the host's cgroup and becomes `unshare`.
# One pid all the way, so the record stays right.
set -eu
main() {
  local lib=$1 root=$2 host=$3 track=$4 site=$5 base=$6
  # shellcheck source=/dev/null
  . "$lib/common.sh"
  record "$root/run/$host.proc" $$
  if [ "$host" = switch ]; then exec unshare --net sleep infinity; fi
  if [ "$track" = cgroup ] && [ "${7:-}" != entered ]; then
    exec unshare --mount bash "$lib/host-launch.sh" "$lib" "$root" "$host" "$track" "$site" "$base" entered
  fi
  if [ "$track" = cgroup ]; then
    mount -n -t cgroup -o freezer freezer "$root/freezer"
    mkdir -p "$root/freezer/$site/$host"
    echo $$ >"$root/freezer/$site/$host/cgroup.procs"
    umount -n "$root/freezer"
  fi
  exec unshare --kill-child=KILL --fork --pid --mount --uts --net --cgroup \
    bash "$lib/host-init.sh" "$root" "$host" "$track" "$base"
}
# Read to the end before anything runs: the file may change under a running campus.
main "$@"; exit
