# shellcheck shell=bash
# Owns file systems with faults: faultfs.c, mounted over a directory of one host alone.

# What building it takes.
FS_PACKAGES=(/usr/bin/gcc gcc /usr/include/stdio.h libc6-dev /usr/include/fuse3/fuse.h libfuse3-dev)

# make_faultfs: sets FAULTFS to the program, which is built when it is first wanted, for the system that runs it.
make_faultfs() {
  # shellcheck disable=SC2034  # install.sh reads it
  local PACKAGES=("${FS_PACKAGES[@]}")
  suite_base "$SUITE"
  FAULTFS=$CACHE/faultfs.$(cksum <"$LIB/faultfs.c" | cut -d ' ' -f 1)${BASE:+.$SUITE}
  [ -x "$FAULTFS" ] && return
  # A suite has them already.
  [ -n "$BASE" ] || campus_install quiet
  mkdir -p "$CACHE"
  # shellcheck disable=SC2016
  in_base sh -c 'out=$(mktemp) || exit
    gcc -O1 -D_FILE_OFFSET_BITS=64 -I/usr/include/fuse3 -x c - -o "$out" -lfuse3 -lpthread >&2 && cat "$out"
    status=$?; rm -f "$out"; exit $status' <"$LIB/faultfs.c" >"$FAULTFS.$$" || die "faultfs.c cannot be built"
  chmod 755 "$FAULTFS.$$" && mv -f "$FAULTFS.$$" "$FAULTFS"
}

campus_fs() {
  [ $# -ge 3 ] || die_usage "fs needs HOST FAULT DIR [NUMBER...]"
  local host=$1 verb=$2 dir=$3 most=0 least=0 name i number
  shift 3
  case $verb in
    hang|squash|full|heal) ;;
    slow) least=1 most=3 ;;
    lag|stale) least=1 most=1 ;;
    *) die_usage "fs: $verb? hang, slow, lag, stale, squash, full or heal" ;;
  esac
  if [ $# -lt $least ] || [ $# -gt $most ]; then die_usage "fs $verb takes $least to $most numbers after the directory"; fi
  for number in "$@"; do
    case $number in ''|*[!0-9]*) die_usage "fs $verb: '$number' is not a number" ;; esac
  done
  case $dir in /*) ;; *) die_usage "fs needs an absolute directory" ;; esac
  need_up; need_host "$host"; need_host_up "$host"
  [ -c /dev/fuse ] || die "fs needs /dev/fuse"
  name=/run/faultfs.${dir//\//=}
  # shellcheck disable=SC2016
  in_host "$host" bash -c 'printf "%s\n" "$2" >"$1.new" && mv "$1.new" "$1"' told "$name" "$verb $*" || die "$host cannot be told"
  if [ "$verb" = heal ]; then
    # What waits goes on, with the files that it has open; it ends when the last of them is closed.
    ! faultfs_at "$host" "$dir" || in_host "$host" umount -n -l "$dir" || die "faultfs on $host cannot be taken away from $dir"
    return
  fi
  faultfs_at "$host" "$dir" && return
  make_faultfs
  # It shows what is there; what already runs below it stays as it is. Nobody may wait before it is mounted.
  # One that runs cannot be written over.
  { cp "$FAULTFS" "/proc/$PID/root/run/faultfs.$$" && mv -f "/proc/$PID/root/run/faultfs.$$" "/proc/$PID/root/run/faultfs"; } || die "$host takes no files"
  in_host "$host" setsid -f /run/faultfs "$dir" "$name" </dev/null >>"$ROOT/hosts/$host/log/faultfs.log" 2>&1
  for ((i = 0; i < 500; i++)); do faultfs_at "$host" "$dir" && return; sleep 0.02; done
  tail -n 3 "$ROOT/hosts/$host/log/faultfs.log" >&2
  die "faultfs on $host was not mounted within 10 s"
}
# faultfs_at HOST DIR
faultfs_at() {
  local place
  host_init "$1" || return 1
  while read -r _ _ _ _ place _; do
    [ "$place" = "$2" ] && return
  done < <(grep -F ' - fuse' "/proc/$PID/mountinfo")
  return 1
}
