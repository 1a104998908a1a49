# shellcheck shell=bash
# What doctor --live asks of the node from within a session of a lease (see node.rs): facts PATH, or seen PATH SECONDS.

account() {
  local user entry shell home
  user=$(id -un 2>/dev/null) || user=$UID
  tell user "$user"
  tell host "$(uname -n)"
  tell uid "$UID"
  entry=$(getent passwd "$user" 2>/dev/null) || entry=$(grep "^$user:" /etc/passwd)
  [[ $entry ]] || return
  shell=${entry##*:}
  home=${entry%:*}
  home=${home##*:}
  tell shell "${shell:-/bin/sh}"
  [[ ! -x ${shell:-/bin/sh} ]] || tell shell-there yes
  tell home "$home"
  [[ ! -d $home || ! -x $home ]] || tell home-there yes
  [[ ! -e /etc/nologin ]] || tell nologin "$(head -c 200 /etc/nologin 2>&1)"
}

sshd() {
  local path line
  for path in ${CBX_SSHD:+"$CBX_SSHD"} "$(type -P sshd)" /usr/sbin/sshd /usr/local/sbin/sshd /sbin/sshd; do [[ ! -x $path ]] || break; done
  # Older ones do not know the option, but tell their version beside that.
  [[ ! -x $path ]] || tell sshd "$path $(timeout 2 "$path" -V 2>&1)"
  while read -r line; do
    [[ ! $line || $line == '#'* ]] || tell denied "$line"
  done 2>/dev/null </etc/hosts.deny
}

tools() {
  local name
  for name in bash python3 git rsync tar ssh-keygen getent hostname timeout stat; do
    type -P "$name" >/dev/null || tell missing "$name"
  done
}

gpus() {
  local name line
  for name in SLURM_JOB_GPUS SLURM_STEP_GPUS CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES; do
    [[ ! ${!name} ]] || tell granted "$name=${!name}"
  done
  type -P nvidia-smi >/dev/null && while read -r line; do [[ $line != GPU* ]] || tell gpu "${line% (*}"; done < <(timeout 5 nvidia-smi -L 2>/dev/null)
  for name in /dev/nvidia[0-9]* /dev/dri/renderD*; do [[ ! -e $name ]] || tell device "$name"; done
}

cgroups() {
  local line path=
  tell cgroup-type "$(stat --file-system --format=%T /sys/fs/cgroup 2>/dev/null)"
  while IFS=: read -r _ line path; do
    [[ ! $line || $line == *freezer* || $line == *memory* ]] || continue
    tell cgroup "${line:+$line:}$path"
    [[ $line || ! -r /sys/fs/cgroup$path/cgroup.procs ]] || tell cgroup-readable yes
    [[ ! $line || ! -r /sys/fs/cgroup/${line%%,*}$path/cgroup.procs ]] || tell cgroup-readable yes
  done </proc/self/cgroup
}

namespaces() {
  tell namespaces-most "$(cat /proc/sys/user/max_user_namespaces 2>/dev/null)"
  type -P unshare >/dev/null || return
  local said
  if said=$(timeout 5 unshare --user --map-root-user true 2>&1); then tell namespaces yes; else tell namespaces-refused "$said"; fi
}

facts() {
  local directory=$1
  tell epoch "$(date +%s)"
  account
  sshd
  tools
  gpus
  cgroups
  namespaces
  tell shared-type "$(stat --file-system --format=%T -- "$directory" 2>&1)"
  tell work-type "$(stat --file-system --format=%T -- "$PWD" 2>&1)"
  # That it is not there yet is remembered by network file systems, as when a job waits for a file.
  [[ -e $directory/doctor-to-node ]] || tell absent yes
  printf 'here\n' >"$directory/doctor-from-node" && tell written yes
}

# Waits for a file, and tells after how many pauses it was there; whoever wrote it knows when that was.
seen() {
  local pauses
  for ((pauses = 0; pauses < $2 * 10; pauses++)); do
    [[ ! -e $1/doctor-to-node ]] || { tell seen "$pauses"; return; }
    sleep 0.1
  done
}

case $1 in
  facts) facts "$2" ;;
  seen) seen "$2" "$3" ;;
esac
tell 'done' yes
