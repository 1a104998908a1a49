#!/bin/bash
# What an acquire comes down to with nothing around it: a key, a job that starts an sshd, where that is, the first login.
# Prints the job's id when the login has succeeded.
#
#   bare-lease.sh DIRECTORY JOB-SCRIPT READY-CHECK SSH-OPTION... -- SBATCH-OPTION...
set -u
directory=$1 script=$2 ready=$3 options=()
shift 3
while [[ $1 != -- ]]; do
  options+=("$1")
  shift
done
shift
mkdir -m 700 -- "$directory" && cd -- "$directory" || exit 1
ssh-keygen -q -t ed25519 -N '' -C bench -f id </dev/null || exit 1
job=$(sbatch --parsable --job-name="${directory##*/}" --output="$directory/out" --chdir="$directory" --no-requeue --export=ALL "$@" <"$script") || exit 1
exec 8<> <(:)
until [[ -s endpoint ]]; do
  ((SECONDS < 120)) || exit 1
  read -r -t 0.05 _ <&8
done
read -r host port key <endpoint
printf '[%s]:%s %s\n' "$host" "$port" "$key" >known_hosts
until ssh -i id -p "$port" "${options[@]}" -oUserKnownHostsFile="$directory/known_hosts" "$host" "$ready" </dev/null >/dev/null 2>&1; do
  ((SECONDS < 120)) || exit 1
  read -r -t 0.25 _ <&8
done
printf '%s\n' "${job%%;*}"
