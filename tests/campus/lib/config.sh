# shellcheck shell=bash
# Owns the configuration files of Slurm, munge, ssh and /etc/hosts below ROOT/etc.

write_config() {
  mkdir -p "$ROOT"/etc/{ssh,ssh-client,munge,slurm,slurm-annex,slurm-sandbox,slurm-sandbox.laptop} "$ROOT"/{home,laptop-home,opt,hosts,empty}
  : >"$ROOT/empty-file"
  mkdir -p "$CACHE/keys"; chmod 700 "$CACHE" "$CACHE/keys"
  cached_key login
  write_user_files
  write_hosts_files
  write_ssh_config
  head -c 1024 /dev/urandom >"$ROOT/etc/slurm.key"
  head -c 128 /dev/urandom >"$ROOT/etc/munge/munge.key"
  chmod 700 "$ROOT/etc/munge"; chmod 400 "$ROOT/etc/munge/munge.key"; chown -R "$(service_ids munge)" "$ROOT/etc/munge"
  write_slurm_config campus ctl "$ROOT/etc/slurm"
  [ "$ANNEX" = no ] || write_slurm_config annex actl "$ROOT/etc/slurm-annex"
}

write_hosts_files() {
  local h
  { echo '127.0.0.1 localhost'
    for h in $(cluster_hosts); do echo "$(lan_address "$h") $h $h.campus.test"; done; } >"$ROOT/etc/hosts"
  # Names of compute nodes mean nothing outside.
  printf '%s\n' '127.0.0.1 localhost laptop' "$(wan_address login) login login.campus.test" >"$ROOT/etc/hosts.laptop"
}

write_ssh_config() {
  local d
  for d in ssh ssh-client; do printf '%s\n' 'Host *' '  SendEnv LANG LC_*' >"$ROOT/etc/$d/ssh_config"; done
  # ssh-keygen and unprivileged daemons read it when they agree on keys.
  [ ! -f "$BASE/etc/ssh/moduli" ] || cp "$BASE/etc/ssh/moduli" "$ROOT/etc/ssh/"
  cp "$CACHE/keys/login" "$ROOT/etc/ssh/ssh_host_ed25519_key"
  cp "$CACHE/keys/login.pub" "$ROOT/etc/ssh/ssh_host_ed25519_key.pub"
  chmod 600 "$ROOT/etc/ssh/ssh_host_ed25519_key"
  cat >"$ROOT/etc/ssh/sshd_config" <<'TEXT'
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
AcceptEnv LANG LC_*
# Test suites log in many times at once.
MaxStartups 200
MaxSessions 200
Subsystem sftp /usr/lib/openssh/sftp-server
# One user meets what OpenSSH allows by itself.
Match User bob
  MaxSessions 10
TEXT
}

# write_slurm_config CLUSTER CONTROLLER DIR
# shellcheck disable=SC2153  # the settings come from common.sh
write_slurm_config() {
  local cluster=$1 controller=$2 dir=$3 nodes="n[1-$NODES]" line
  [ "$cluster" = campus ] || nodes=a1
  cat >"$dir/slurm.conf" <<TEXT
ClusterName=$cluster
SlurmctldHost=$controller($(lan_address "$controller"))
SlurmUser=slurm
AuthType=auth/$AUTH
CredType=cred/$AUTH
MpiDefault=none
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
ProctrackType=proctrack/$TRACKED
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=16
# Nodes claim more than they have.
SlurmdParameters=config_overrides
# A node that was powered off comes back by itself.
ReturnToService=2
MinJobAge=$MIN_JOB_AGE
SlurmdTimeout=$SLURMD_TIMEOUT
KillWait=$KILL_WAIT
SchedulerParameters=$SCHED
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobAcctGatherType=jobacct_gather/linux
GresTypes=gpu
NodeName=$nodes CPUs=64 RealMemory=65536 Gres=gpu:2 State=UNKNOWN
PartitionName=batch Nodes=ALL Default=YES DefaultTime=00:30:00 MaxTime=02:00:00 PriorityTier=10
PartitionName=short Nodes=ALL DefaultTime=00:01:00 MaxTime=00:01:00 PriorityTier=10
PartitionName=scavenge Nodes=ALL MaxTime=02:00:00 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=scavkill Nodes=ALL MaxTime=02:00:00 PriorityTier=1 PreemptMode=CANCEL GraceTime=5
PartitionName=closed Nodes=ALL State=DOWN
TEXT
  [ "$AUTH" = munge ] || install_slurm_key "$dir"
  [ -n "$SCHED" ] || set_key "$dir/slurm.conf" SchedulerParameters=
  # A pretend GPU is a device file that exists: with a mere Count slurmd says "inval" and drains the node.
  printf 'Name=gpu File=/dev/zero\nName=gpu File=/dev/full\n' >"$dir/gres.conf"
  [ "$TRACKED" != cgroup ] || printf 'CgroupPlugin=cgroup/v1\nCgroupMountpoint=/run/cgroup\n' >"$dir/cgroup.conf"
  if [ "$ACCT" = slurmdbd ]; then
    printf '%s\n' AccountingStorageType=accounting_storage/slurmdbd AccountingStorageHost=ctl \
      AccountingStorageEnforce=associations,limits,qos >>"$dir/slurm.conf"
    [ "$cluster" != campus ] || write_slurmdbd_conf "$dir/slurmdbd.conf"
  fi
  [ "$cluster" = campus ] || return 0
  while IFS= read -r line; do [ -z "$line" ] || set_key "$dir/slurm.conf" "$line"; done <<<"$CONF"
}

install_slurm_key() {
  cp "$ROOT/etc/slurm.key" "$1/slurm.key" && chown "$(service_ids slurm)" "$1/slurm.key" && chmod 600 "$1/slurm.key"
}

write_slurmdbd_conf() {
  cat >"$1" <<TEXT
DbdHost=ctl
SlurmUser=slurm
AuthType=auth/$AUTH
PidFile=/run/slurm/slurmdbd.pid
LogFile=/var/log/slurm/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct
TEXT
  chown "$(service_ids slurm)" "$1"; chmod 600 "$1"
}

# set_key FILE 'Key=Value': Slurm complains in every command about a key that is there twice, so the old line goes.
# Of nodes and partitions the name belongs to the key. An empty value removes the line.
set_key() {
  local file=$1 line=$2
  case $line in ?*=*) ;; *) die_usage "slurm.conf: '$line' is not Key=Value" ;; esac
  LINE=$line awk '
    function key(line) {
      if (line ~ /^[ \t]*(NodeName|PartitionName)=/) { split(line, word, " "); sub(/=$/, "", word[1]); return tolower(word[1]) }
      sub(/[ \t]*=.*/, "", line); return tolower(line)
    }
    BEGIN { want = key(ENVIRON["LINE"]) }
    key($0) == want { next } { print }
    END { if (ENVIRON["LINE"] !~ /=$/) print ENVIRON["LINE"] }' "$file" >"$file.new" && mv "$file.new" "$file"
}

# Standard input becomes the config file that the admins of HOST's machine lay down; without any it is removed.
campus_admin() {
  local dir=$ROOT/etc/slurm-sandbox owner
  case $# in 1|2|3) ;; *) die_usage "admin needs HOST [MODE [USER]]" ;; esac
  need_up
  case $1 in laptop) dir=$dir.laptop ;; esac
  cat >"$dir/.new"
  if [ -s "$dir/.new" ]; then
    owner=0
    [ -z "${3:-}" ] || owner=$(awk -F: -v u="$3" '$1 == u { print $3 }' "$ROOT/etc/passwd")
    chown "${owner:-0}" "$dir/.new" && chmod "${2:-644}" "$dir/.new" && mv "$dir/.new" "$dir/config.toml"
  else
    rm -f "$dir/.new" "$dir/config.toml"
  fi
}

campus_reconf() {
  local dir=slurm controller=ctl line
  if [ "${1:-}" = --annex ]; then dir=slurm-annex controller=actl; shift; fi
  [ $# -gt 0 ] || die_usage "reconf needs 'Key=Value'"
  need_up; need_host_up $controller
  for line; do set_key "$ROOT/etc/$dir/slurm.conf" "$line"; done
  in_host $controller scontrol reconfigure || die "scontrol reconfigure failed"
}
