# shellcheck shell=bash
# Owns the systems of other Debian suites: which there are, how the root of one is made, how a program runs in it. The
# cached root belongs to all campuses of the machine: hosts see it (host-init.sh) and write nothing into it.

# What a suite needs beyond install.sh's list, because a minimal system has none of it: what users, jobs and `fs` run.
SUITE_PACKAGES=(
  /usr/bin/python3 python3
  /usr/bin/ps procps
  /usr/bin/tmux tmux
)

own_suite() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"'; }

# shellcheck disable=SC2034  # hosts.sh reads SUITE_TRACK
# read_suite NAME: sets SUITE_TRACK, SUITE_PROGRAM and SUITE_QUIRKS; fails for a suite that the table does not have.
read_suite() {
  local name
  while read -r name SUITE_TRACK SUITE_PROGRAM SUITE_QUIRKS; do
    [ "$name" != "$1" ] || return 0
  done < <(grep -v '^#' "$LIB/suites.table")
  return 1
}
need_suite() { read_suite "$1" || die_usage "there is no suite '$1' (suites: $(grep -v '^#' "$LIB/suites.table" | cut -d ' ' -f 1 | tr '\n' ' '))"; }
has_quirk() { case ,$SUITE_QUIRKS, in *,"$1",*) return 0 ;; esac; return 1; }

# suite_base NAME: sets BASE to the root of the suite; empty where the suite is the machine's own, or none.
suite_base() {
  BASE=
  [ -z "$1" ] || [ "$1" = "$(own_suite)" ] || BASE=$CACHE/suites/$1
}
need_suite_base() {
  [ -z "$1" ] || need_suite "$1"
  suite_base "$1"
  [ -z "$BASE" ] || [ -d "$BASE" ] || die "there is no system of $1 in $CACHE; run 'campus --suite $1 install' first"
}

# in_base [--bind DIR]... CMD...: as root in the system at BASE, with the machine's devices and processes; DIR is at /mnt/DIR.
in_base() {
  local binds=()
  while [ "$1" = --bind ]; do binds+=("$2"); shift 2; done
  if [ -z "$BASE" ]; then "$@"; return; fi
  # shellcheck disable=SC2016
  unshare --mount bash -c '
    set -e
    base=$1 binds=$2 dir=
    shift 2
    mount -n --rbind /dev "$base/dev"
    mount -n --rbind /sys "$base/sys"
    mount -n --bind /proc "$base/proc"
    mount -n -t tmpfs tmpfs "$base/mnt"
    while read -r dir; do
      [ -n "$dir" ] || continue
      # A directory of the machine gets its place in a tmpfs, never in the cached root.
      mkdir -p "$base/mnt$dir"
      mount -n --bind "$dir" "$base/mnt$dir"
    done <<<"$binds"
    exec chroot "$base" env -i HOME=/root PATH="$PATH" LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"' \
    in-base "$BASE" "$(printf '%s\n' "${binds[@]}")" "$@" 9>&-
}

# The package archive that this machine uses itself.
find_mirror() {
  MIRROR=${CAMPUS_MIRROR:-}
  # shellcheck disable=SC2016
  [ -n "$MIRROR" ] || MIRROR=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(SITE)' 2>/dev/null |
    awk -v own="$(own_suite)" '$1 == own && $2 == "main" { print $3; exit }')
  [ -n "$MIRROR" ] || die "apt has no package archive of this Debian release; run apt-get update, or set CAMPUS_MIRROR to one"
}

install_debootstrap() {
  # shellcheck disable=SC2034  # install.sh reads it
  local PACKAGES=(/usr/sbin/debootstrap debootstrap)
  campus_install quiet
}

# make_base NAME: the smallest Debian of that suite, with the machine's own apt settings.
make_base() {
  local script=/usr/share/debootstrap/scripts/$1 f
  # Debian's debootstrap is older than the suites to come, which are made as sid is.
  [ -e "$script" ] || script=sid
  find_mirror
  debootstrap --variant=minbase --merged-usr --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    "$1" "$BASE" "$MIRROR" "${script##*/}" || return
  # Packages are installed for their programs: no service starts, and what nobody reads there is left out.
  printf '#!/bin/sh\nexit 101\n' >"$BASE/usr/sbin/policy-rc.d" && chmod 755 "$BASE/usr/sbin/policy-rc.d" || return
  printf '%s\n' force-unsafe-io path-exclude=/usr/share/{doc,man,info,locale}/\* >"$BASE/etc/dpkg/dpkg.cfg.d/campus"
  ! has_quirk dated || echo 'Acquire::Check-Valid-Until "false";' >"$BASE/etc/apt/apt.conf.d/90dated"
  for f in /etc/apt/apt.conf /etc/apt/apt.conf.d/*proxy*; do [ ! -f "$f" ] || cp "$f" "$BASE/etc/apt/apt.conf.d/" || return; done
  # Hosts have their own over these two, which therefore must exist.
  cp /etc/resolv.conf "$BASE/etc/resolv.conf" && touch "$BASE/etc/hosts" "$BASE/etc/hostname"
}

# install_in_base PACKAGE...
install_in_base() {
  in_base apt-get -q update && in_base apt-get -q install -y --no-install-recommends "$@" || return
  in_base apt-get clean && rm -rf "$BASE/var/lib/apt/lists"
}

# The machine's own libmariadb, or that of a cached bookworm.
place_libmariadb() {
  local dir from version
  dir=usr/lib/$(uname -m)-linux-gnu/libmariadb.so.3
  for from in / "$CACHE/suites/bookworm/"; do
    version=$(dpkg-query --admindir="${from}var/lib/dpkg" -W -f '${Version}' libmariadb3 2>/dev/null) || continue
    if dpkg --compare-versions "$version" lt 1:11; then
      cp -L "$from$dir" "$BASE/usr/local/lib/libmariadb.so.3" && in_base ldconfig
      return
    fi
  done
  echo "campus: no libmariadb older than 11 is to be had here, so slurmdbd of this suite dies: only --acct none will work" >&2
}

# install_suite NAME [PACKAGE...]: makes the root of the suite, or adds to it what is missing.
install_suite() {
  local name=$1 need log
  shift
  need_suite "$name"
  suite_base "$name"
  if [ -z "$BASE" ]; then [ $# -eq 0 ] || die "$name is this machine itself: install $* by hand"; campus_install; return; fi
  local final=$BASE
  mkdir -p "$CACHE/suites"; chmod 700 "$CACHE"
  exec 9>"$CACHE/suites/$name.lock"
  flock 9
  log=$(mktemp)
  if [ ! -d "$final" ]; then
    install_debootstrap
    # The leftovers of one that was killed; the lock says that nobody is at work.
    rm -rf --one-file-system "$CACHE/suites/.$name"
    BASE=$CACHE/suites/.$name
    echo "campus: making the system of $name; this takes some minutes" >&2
    make_base "$name" >"$log" 2>&1 </dev/null || fail_install "$log" "the system of $name cannot be made"
  fi
  PACKAGES+=("${SUITE_PACKAGES[@]}" "${FS_PACKAGES[@]}")
  mapfile -t need < <(missing_packages)
  need+=("$@")
  if [ ${#need[@]} -gt 0 ]; then
    install_in_base "${need[@]}" >"$log" 2>&1 </dev/null || fail_install "$log" "apt-get could not install in $name: ${need[*]}"
    ! has_quirk libmariadb || place_libmariadb || fail_install "$log" "libmariadb cannot be replaced in $name"
  fi
  rm -f "$log"
  [ "$BASE" = "$final" ] || { mv -T "$BASE" "$final" && BASE=$final; } || die "cannot rename $BASE"
  echo "campus: $name is ready in $BASE ($(du -sm --one-file-system "$BASE" | cut -f 1) MiB)"
}
fail_install() {
  tail -n 15 "$1" >&2
  rm -f "$1"
  die "$2 (the last lines are above; needs a Debian package archive)"
}

# campus suites: name, program and whether a campus can be made of it now.
campus_suites() {
  local name state
  [ $# -eq 0 ] || die_usage "suites takes no arguments"
  while read -r name _ SUITE_PROGRAM _; do
    suite_base "$name"
    state=missing
    if [ -z "$BASE" ]; then state=machine; elif [ -d "$BASE" ]; then state=cached; fi
    echo "$name $SUITE_PROGRAM $state"
  done < <(grep -v '^#' "$LIB/suites.table")
}

# campus chroot [--bind DIR]... CMD...
campus_chroot() {
  local binds=()
  while [ "${1:-}" = --bind ] && [ $# -ge 2 ]; do
    [ -d "$2" ] || die "chroot: $2 is not a directory"
    binds+=(--bind "$2")
    shift 2
  done
  [ $# -gt 0 ] || die_usage "chroot needs a command"
  [ -n "$SUITE" ] || die_usage "chroot needs --suite NAME"
  need_suite_base "$SUITE"
  in_base "${binds[@]}" "$@"
}
