#!/bin/bash
# Owns what a host sees of the machine: its own /tmp /run /var/log /var/spool /root, the site's /etc files and /home.
# It is process 1 of the host: it stays, and reaps.
set -eu

# Sources are relative to ROOT and stay so: ROOT itself may lie under a directory that has just been covered.
over() { mount -n --no-canonicalize --bind "$1" "$2"; }
own() { install -d -o "$1" -g "$1" -m "$2" "$3"; }

main() {
  local root=$1 host=$2 track=$3 base=$4 f
  cd "$root"
  [ -z "$base" ] || enter_system "$base"
  hostname "$host"
  mount -n -t proc proc /proc
  ip link set lo up
  # A new network namespace may inherit the machine's forwarding; login must not be a router.
  echo 0 >/proc/sys/net/ipv4/ip_forward
  local disk=hosts/$host
  mkdir -p "$disk"/{tmp,var-tmp,log,spool,root}
  chmod 1777 "$disk/tmp" "$disk/var-tmp"
  chmod 700 "$disk/root"
  find "$disk/tmp" -mindepth 1 -delete
  echo "$host" >"$disk/hostname"

  mount -n -t tmpfs -o mode=755 tmpfs /run
  # A place for what the site's admins lay down, where the machine has none. Without overlays there is none.
  if [ ! -d /etc/slurm-sandbox ]; then
    mkdir -p /run/admin/slurm-sandbox
    mount -n -t overlay -o lowerdir=/run/admin:/etc overlay /etc || :
  fi
  case $host in laptop) f=etc/slurm-sandbox.laptop ;; *) f=etc/slurm-sandbox ;; esac
  [ ! -d /etc/slurm-sandbox ] || over "$f" /etc/slurm-sandbox
  for f in passwd group shadow nsswitch.conf; do over "etc/$f" "/etc/$f"; done
  [ ! -e /etc/hostname ] || over "$disk/hostname" /etc/hostname
  own munge 755 /run/munge; own slurm 755 /run/slurm; own slurm 755 /run/slurmctld; own slurm 755 /run/slurmdbd
  # A slurmd that vouches for users takes only a directory of its own.
  case $host in n*|a1) own root 755 /run/slurm ;; esac
  own mysql 755 /run/mysqld; own root 755 /run/sshd
  over "$disk/log" /var/log
  own munge 700 /var/log/munge; own slurm 755 /var/log/slurm
  over "$disk/spool" /var/spool
  own root 755 /var/spool/slurmd; own slurm 755 /var/spool/slurmctld
  over "$disk/var-tmp" /var/tmp
  over "$disk/root" /root
  [ ! -d /dev/shm ] || mount -n -t tmpfs -o mode=1777 tmpfs /dev/shm
  # Terminals belong to the group tty, as everywhere: a user's own sshd cannot give them to it.
  mount -n -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
  mount -n -t tmpfs -o mode=755 tmpfs /opt
  mkdir /opt/slurm-sandbox
  over opt /opt/slurm-sandbox
  mount -n -o remount,bind,ro /opt/slurm-sandbox
  case $host in
    laptop)
      over etc/hosts.laptop /etc/hosts
      over etc/ssh-client /etc/ssh
      over laptop-home /home
      over empty /etc/slurm
      hide_slurm ;;
    *)
      over etc/hosts /etc/hosts
      if [ "$host" = login ]; then over etc/ssh /etc/ssh; else over etc/ssh-client /etc/ssh; fi
      over home /home
      over etc/munge /etc/munge
      case $host in a*) over etc/slurm-annex /etc/slurm ;; *) over etc/slurm /etc/slurm ;; esac ;;
  esac
  case $track:$host in cgroup:n*|cgroup:a1) make_freezer "$host" ;; esac
  over "$disk/tmp" /tmp
  : >"run/$host.booted"
  cd /
  [ -z "$base" ] || umount -n -l /mnt
  trap '' HUP INT TERM
  sleep infinity &
  while :; do wait $!; done
}

# The system of another suite becomes the root of this mount namespace, where nsenter lands too. The machine's stays at
# /mnt as long as the files of ROOT are needed, which lie there.
enter_system() {
  mount -n --bind "$1" "$1"
  mount -n --rbind /dev "$1/dev"
  mount -n --rbind /sys "$1/sys"
  pivot_root "$1" "$1/mnt"
  hash -r
}

# A laptop has no Slurm. An overlay with deletion marks makes the commands not found; where overlays are not to be
# had, they are at least not executable.
hide_slurm() {
  local c names=(sbatch squeue sacct sacctmgr salloc sattach sbcast scancel scontrol scrontab sdiag sh5util sinfo
    sprio sreport srun sshare sstat strigger munge unmunge remunge)
  mkdir -p /run/hidden
  for c in "${names[@]}"; do [ ! -e "/usr/bin/$c" ] || mknod "/run/hidden/$c" c 0 0; done
  if mount -n -t overlay -o lowerdir=/run/hidden:/usr/bin overlay /usr/bin 2>/dev/null; then return; fi
  for c in "${names[@]}"; do [ ! -e "/usr/bin/$c" ] || over empty-file "/usr/bin/$c"; done
}

# Slurm names its cgroups slurm_<node> for the whole machine; two campuses (or one and a real Slurm) would end each
# other's jobs. So a node gets a directory that looks like the root of the freezer hierarchy (which Slurm knows by its
# release_agent file) and whose slurm_<node> lies in the host's own cgroup. The cgroup namespace makes the paths
# in /proc/PID/cgroup agree.
make_freezer() {
  local real=/run/cgroup/.host fake=/run/cgroup/freezer f
  mkdir -p $real $fake
  mount -n -t cgroup -o freezer freezer $real
  mkdir -p "$real/slurm_$1" "$fake/slurm_$1"
  mount -n --bind "$real/slurm_$1" "$fake/slurm_$1"
  : >$fake/release_agent
  for f in cgroup.procs tasks notify_on_release; do : >$fake/$f; mount -n --bind $real/$f $fake/$f; done
  umount -n $real
}
# Read to the end before anything runs: this process outlives the file it came from.
main "$@"; exit
