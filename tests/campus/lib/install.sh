# shellcheck shell=bash
# Owns what the machine must offer: namespaces and Debian packages.

# One file of each package, and the package.
PACKAGES=(
  /usr/sbin/slurmctld slurmctld
  /usr/sbin/slurmd slurmd
  /usr/bin/sbatch slurm-client
  /usr/sbin/slurmdbd slurmdbd
  /usr/sbin/mariadbd mariadb-server
  /usr/sbin/munged munge
  /usr/sbin/sshd openssh-server
  /usr/bin/ssh openssh-client
  /usr/sbin/bridge iproute2
  /usr/bin/rsync rsync
  /bin/csh csh
  /usr/bin/zsh zsh
  /usr/bin/git git
)

# Of the system at BASE.
missing_packages() {
  local i
  for ((i = 0; i < ${#PACKAGES[@]}; i += 2)); do
    # Debian's iproute2 has its programs in /sbin or /usr/sbin, depending on the age of the system.
    [ -e "$BASE${PACKAGES[i]}" ] || [ -e "$BASE${PACKAGES[i]#/usr}" ] || echo "${PACKAGES[i + 1]}"
  done
}

need_namespaces() {
  local why
  why=$(unshare --fork --pid --mount --uts --net --cgroup true 2>&1) && return
  echo "campus: namespaces cannot be created here (${why:-no reason given}): use a virtual machine, or a container started with --privileged" >&2
  exit 3
}

campus_install() {
  local need log policy=/usr/sbin/policy-rc.d BASE=
  if [ -n "$SUITE" ] && [ "${1:-}" != quiet ]; then install_suite "$SUITE" "$@"; return; fi
  mapfile -t need < <(missing_packages)
  [ ${#need[@]} -gt 0 ] || { [ "${1:-}" = quiet ] || echo "campus: nothing to install"; return 0; }
  command -v apt-get >/dev/null || die "missing packages: ${need[*]}; only Debian's apt-get is known here"
  echo "campus: installing ${need[*]}" >&2
  log=$(mktemp)
  # Debian starts a service when its package is installed; the campus starts its own, and the machine's are not wanted.
  local ours=no
  if [ ! -e $policy ]; then
    ours=yes
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy
  fi
  if ! { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends \
         -o DPkg::Lock::Timeout=120 "${need[@]}"; } >"$log" 2>&1 </dev/null; then
    tail -n 15 "$log" >&2
    rm -f "$log"
    die "apt-get could not install: ${need[*]} (its last lines are above; needs Debian 12 and its package archive)"
  fi
  rm -f "$log"
  if [ $ours = yes ]; then rm -f $policy; trap - EXIT; fi
  mapfile -t need < <(missing_packages)
  [ ${#need[@]} -eq 0 ] || die "still missing after the install: ${need[*]}"
}
