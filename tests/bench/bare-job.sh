#!/bin/bash
# The job of bare-lease.sh: an sshd of its own for one key, with the options of ours that cost a login time; it tells where it is.
set -u
umask 077
private=$(mktemp -d) || exit 1
trap 'rm -rf -- "$private"' EXIT
trap 'exit 0' TERM
PATH=$PATH:/usr/sbin:/usr/local/sbin
sshd=$(type -P sshd) || exit 1
ssh-keygen -q -N '' -C '' -t ed25519 -f "$private/host_key" </dev/null || exit 1
printf '%s\n' "HostKey $private/host_key" "AuthorizedKeysFile $PWD/id.pub" "AllowUsers $(id -un)" 'AuthenticationMethods publickey' \
  'UsePAM no' 'StrictModes no' 'MaxStartups 600' 'ClientAliveInterval 30' 'UseDNS no' 'PrintMotd no' 'PidFile none' 'LogLevel INFO' \
  >"$private/sshd_config"
exec 8<> <(:)
for _ in {1..40}; do
  port=$((20000 + RANDOM % 12000))
  "$sshd" -D -r -f "$private/sshd_config" -p "$port" -E "$private/log" </dev/null >/dev/null 2>&1 &
  listener=$!
  while kill -0 "$listener" 2>/dev/null; do
    if { exec 3<>"/dev/tcp/127.0.0.1/$port" && read -r -t 5 -n 8 _ <&3; } 2>/dev/null; then
      exec 3>&-
      read -r type key _ <"$private/host_key.pub"
      printf '%s %s %s %s\n' "${SLURMD_NODENAME:-$HOSTNAME}" "$port" "$type" "$key" >endpoint.new && mv endpoint.new endpoint
      wait "$listener"
      exit
    fi
    read -r -t 0.005 _ <&8
  done
done
exit 1
