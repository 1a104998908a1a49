# shellcheck shell=bash
# What doctor asks of the way in which Slurm's commands say who they are (see authentication.rs).
shopt -s nocasematch
munge=/run/munge/munge.socket.2
for file in ${SLURM_CONF:+"$SLURM_CONF"} /etc/slurm/slurm.conf /run/slurm/conf/slurm.conf /etc/slurm-llnl/slurm.conf /usr/local/etc/slurm.conf; do
  [[ -r $file ]] || continue
  tell conf "$file"
  while IFS= read -r line || [[ $line ]]; do
    line=${line%%#*}
    if [[ $line =~ ^[[:space:]]*AuthType[[:space:]]*=[[:space:]]*([^[:space:]]+) ]]; then
      tell 'type' "${BASH_REMATCH[1]}"
    elif [[ $line =~ ^[[:space:]]*AuthInfo[[:space:]]*=.*socket=([^,[:space:]]+) ]]; then
      munge=${BASH_REMATCH[1]}
    fi
  done <"$file"
  break
done
for socket in ${SLURM_SACK_SOCKET:+"$SLURM_SACK_SOCKET"} /run/slurm/sack.socket; do
  [[ ! -S $socket ]] || tell sackd "$socket"
done
[[ ! -S $munge ]] || tell munge-socket "$munge"
if type -P munge >/dev/null; then
  # One that works answers in milliseconds.
  if said=$(timeout 3 munge --no-input --socket="$munge" 2>&1 >/dev/null); then
    tell munged yes
  else
    case $? in 124) said="no answer within 3 s" ;; esac
    tell munge-failed "$said"
  fi
fi
tell 'done' yes
