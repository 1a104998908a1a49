# shellcheck shell=bash
# What doctor asks of a login host (see remote.rs): facts, or shared PATH, or place PATH. Each answer is lines of a key, a
# tab and a value.
tell() {
  local value=${2//$'\n'/ }
  printf '%s\t%s\n' "$1" "${value//$'\t'/ }"
}

facts() {
  local name path line port
  tell path "$PATH"
  for name in $(id -Gn); do tell group "$name"; done
  for name in sbatch squeue scancel scontrol sacct srun; do
    path=$(type -P "$name") && tell "command" "$path"
  done
  # It is rarely on PATH. Older ones do not know the option, but tell their version beside that.
  for path in "$(type -P sshd)" /usr/sbin/sshd /usr/local/sbin/sshd /sbin/sshd; do [[ ! -x $path ]] || break; done
  if [[ -x $path ]]; then tell sshd "$(timeout 2 "$path" -V 2>&1)"; else tell sshd "$(timeout 2 ssh -V 2>&1)"; fi
  # A port that somebody listens at, for a try of forwarding.
  if (exec 3<>/dev/tcp/127.0.0.1/22) 2>/dev/null; then tell listener 22; return; fi
  while read -r _ line _ port _; do
    [[ $port == 0A && $line == @(00000000|0100007F):* ]] && tell listener "$((16#${line#*:}))" && return
  done </proc/net/tcp
}

file_system() {
  local said
  said=$(stat --file-system --format='%t %a %S %c %d' -- "$1" 2>&1) && tell file-system "$said"
}

# The directory itself, made if need be, as a lease will use it.
shared() {
  local root=$1 name=.doctor-$RANDOM$RANDOM said started ended
  said=$(mkdir -p -- "$root" 2>&1) || { tell trouble "$said"; return; }
  tell mode "$(stat -L -c %a -- "$root")"
  [[ -O $root ]] || { tell trouble "it belongs to $(stat -L -c %U -- "$root")"; tell foreign yes; return; }
  file_system "$root"
  started=${EPOCHREALTIME/[.,]/}
  said=$({ printf %s "$name" >"$root/$name" && sync -- "$root/$name"; } 2>&1) || tell trouble "${said#*: line *: }"
  [[ $said || $(<"$root/$name") == "$name" ]] || tell trouble "a file does not read as it was written"
  rm -f -- "${root:?}/$name"
  ended=${EPOCHREALTIME/[.,]/}
  tell took "$(((ended - started) / 1000))"
}

# The nearest directory above that exists.
place() {
  local there=${1/#\~\//$HOME/}
  while [[ ! -e $there && $there == */* && $there != / ]]; do
    there=${there%/*}
    there=${there:-/}
  done
  tell nearest "$there"
  [[ ! -d $there ]] || tell directory yes
  if [[ -w $there ]]; then tell writable yes; else tell writable no; fi
  file_system "$there"
}

case $1 in
  facts) facts ;;
  shared) shared "$2" ;;
  place) place "$2" ;;
esac
