# shellcheck shell=bash
# Owns file systems that hang or are slow: slowfs.c, mounted over a directory of one host alone.

# What building it takes.
FS_PACKAGES=(/usr/bin/gcc gcc /usr/include/stdio.h libc6-dev /usr/include/fuse3/fuse.h libfuse3-dev)

# make_slowfs: sets SLOWFS to the program, which is built when it is first wanted, for the system that runs it.
make_slowfs() {
  # shellcheck disable=SC2034  # install.sh reads it
  local PACKAGES=("${FS_PACKAGES[@]}")
  suite_base "$SUITE"
  SLOWFS=$CACHE/slowfs.$(cksum <"$LIB/slowfs.c" | cut -d ' ' -f 1)${BASE:+.$SUITE}
  [ -x "$SLOWFS" ] && return
  # A suite has them already.
  [ -n "$BASE" ] || campus_install quiet
  mkdir -p "$CACHE"
  # shellcheck disable=SC2016
  in_base sh -c 'out=$(mktemp) || exit
    gcc -O1 -D_FILE_OFFSET_BITS=64 -I/usr/include/fuse3 -x c - -o "$out" -lfuse3 -lpthread >&2 && cat "$out"
    status=$?; rm -f "$out"; exit $status' <"$LIB/slowfs.c" >"$SLOWFS.$$" || die "slowfs.c cannot be built"
  chmod 755 "$SLOWFS.$$" && mv -f "$SLOWFS.$$" "$SLOWFS"
}

campus_fs() {
  [ $# -ge 3 ] || die_usage "fs needs HOST hang|slow|heal DIR [MS]"
  local host=$1 verb=$2 dir=$3 told=$2 name i
  case $verb in
    hang|heal) [ $# -eq 3 ] || die_usage "fs $verb needs a directory only" ;;
    slow) case ${4:-} in ''|*[!0-9]*) die_usage "fs slow needs a directory and milliseconds" ;; esac; told="slow $4" ;;
    *) die_usage "fs: $verb? hang, slow or heal" ;;
  esac
  case $dir in /*) ;; *) die_usage "fs needs an absolute directory" ;; esac
  need_up; need_host "$host"; need_host_up "$host"
  [ -c /dev/fuse ] || die "fs needs /dev/fuse"
  name=/run/slowfs.${dir//\//=}
  # shellcheck disable=SC2016
  in_host "$host" bash -c 'printf "%s\n" "$2" >"$1.new" && mv "$1.new" "$1"' told "$name" "$told" || die "$host cannot be told"
  if [ "$verb" = heal ]; then
    # What waits goes on, with the files that it has open; it ends when the last of them is closed.
    ! slowfs_at "$host" "$dir" || in_host "$host" umount -n -l "$dir" || die "slowfs on $host cannot be taken away from $dir"
    return
  fi
  slowfs_at "$host" "$dir" && return
  make_slowfs
  # It shows what is there; what already runs below it stays as it is. Nobody may wait before it is mounted.
  # One that runs cannot be written over.
  { cp "$SLOWFS" "/proc/$PID/root/run/slowfs.$$" && mv -f "/proc/$PID/root/run/slowfs.$$" "/proc/$PID/root/run/slowfs"; } || die "$host takes no files"
  in_host "$host" setsid -f /run/slowfs "$dir" "$name" </dev/null >>"$ROOT/hosts/$host/log/slowfs.log" 2>&1
  for ((i = 0; i < 500; i++)); do slowfs_at "$host" "$dir" && return; sleep 0.02; done
  tail -n 3 "$ROOT/hosts/$host/log/slowfs.log" >&2
  die "slowfs on $host was not mounted within 10 s"
}
# slowfs_at HOST DIR
slowfs_at() {
  local place
  host_init "$1" || return 1
  while read -r _ _ _ _ place _; do
    [ "$place" = "$2" ] && return
  done < <(grep -F ' - fuse' "/proc/$PID/mountinfo")
  return 1
}
