# shellcheck shell=bash
# The shared dir as a login host sees it (see remote.rs): task seconds root lease nonce and more of each task's own.
# Sandboxed code can put anything into the place of anything here, so directories are entered one by one and only when
# they are what they seem, and files are read without following a link. PATH is the session's, of absolute entries alone.
task=$1 seconds=$2 root=$3 lease=$4 nonce=$5
shift 5
umask 077
shopt -s nullglob dotglob
away=4 unfinished=3

say() { printf '%s\n' "$*" >&2; }

# enter NAME: goes into a directory of this one. 2: there is none.
enter() {
  local from
  [[ -e $1 || -L $1 ]] || return 2
  from=$(pwd -P)
  if [[ -d $1 && ! -L $1 ]] && cd -P -- "./$1" && [[ $(pwd -P) == "${from%/}/$1" ]]; then return; fi
  say "${from%/}/$1 is not a directory of ours"
  return 1
}

enter_attempt() { cd -P -- "$root" && enter "$lease" && enter "$nonce"; }

# enter_root: goes there; "away" when it is not there.
enter_root() {
  cd -P -- "$root" 2>/dev/null && return
  [[ -e $root ]] || return "$away"
  say "$root cannot be entered"
  return 1
}

# mounted NAME: something is mounted at or below an entry of this directory. rm tells file systems apart, not mounts.
mounted() {
  local here point
  here=$(pwd -P)
  here=${here%/}/$1
  while read -r _ _ _ _ point _; do
    printf -v point %b "${point//\\/\\0}"
    [[ $point != "$here" && $point != "$here"/* ]] || return 0
  done </proc/self/mountinfo
  return 1
}

# erase NAME SECONDS: an entry and all below it, never through a link or on another mount, as far as the time allows.
erase() {
  local until=$((SECONDS + $2)) said
  [[ -e $1 || -L $1 ]] || return 0
  if mounted "$1"; then say "something is mounted in $root/$1"; return 1; fi
  timeout -s KILL "$2" rm -rf --one-file-system -- "./$1" 2>/dev/null && return
  if ((SECONDS < until)) && [[ ! -L $1 ]]; then
    timeout -s KILL $((until - SECONDS)) chmod -R u+rwX -- "./$1" 2>/dev/null
  fi
  ((SECONDS < until)) || return "$unfinished"
  said=$(timeout -s KILL $((until - SECONDS)) rm -rf --one-file-system -- "./$1" 2>&1 | tail -n 1; exit "${PIPESTATUS[0]}") && return
  ((SECONDS < until)) || return "$unfinished"
  say "$said"
  return 1
}

# move_aside NAME ASIDE SECONDS: takes a name away from below the root by one rename; then what it named, as far as the time
# allows.
move_aside() {
  local said
  if said=$(mv -T -- "./$1" "$root/$2" 2>&1); then
    sync -- . "$root"
    cd -P -- "$root" && erase "$2" "$3" 2>/dev/null || return "$unfinished"
  elif [[ -e $1 || -L $1 ]]; then
    say "$said"
    return 1
  fi
}

# put NAME: standard input, whole or not at all.
put() {
  local new=".$1.$RANDOM$RANDOM$$"
  if (set -C && cat >"./$new") && { [[ ${2-} != durably ]] || sync -- "./$new"; } && mv -fT -- "./$new" "./$1"; then return; fi
  rm -f -- "./$new"
  return 1
}

# show NAME MAX: a regular file of at most so many bytes.
show() {
  local size
  if [[ -L $1 || ! -f $1 ]]; then say "$1 is not a regular file"; return 1; fi
  size=$(stat -c %s -- "./$1") || return
  if ((size > $2)); then say "$1 is longer than $2 bytes"; return 1; fi
  dd "if=./$1" bs="$2" count=1 iflag=nofollow,nonblock,fullblock status=none
}

make_private() {
  mkdir -p -- "$root" || return
  [[ -O $root ]] || { say "$root belongs to somebody else"; return 1; }
  case $(stat -L -c %a -- "$root") in
    *00) ;;
    *) if [[ $(stat -L -c %A -- "$root") == ?????-??-? && -z $(ls -A -- "$root") ]]; then chmod 700 -- "$root"; else say "$root can be entered by others"; return 1; fi ;;
  esac
}

# grant FORMAT: for the newest format of the tree that the caller can write.
grant() {
  local format=
  make_private && cd -P -- "$root" || return
  if [[ -e format ]]; then format=$(show format 16); else format=$1; printf '%s\n' "$1" | put format durably || return; fi
  if [[ ! $format =~ ^[0-9]{1,9}$ ]] || ((10#$format > $1)); then say "a newer slurm-sandbox wrote $root/format"; return 1; fi
  mkdir -p -- "./$lease" && enter "$lease" && mkdir -p -- "./$nonce/jobs/$lease" || return
  (enter "$nonce" && put authorized_keys) && printf '%s\n' "$nonce" | put permit durably && sync -- .
}

# of_another NONCE...: the permit is another state dir's: it names an attempt that is none of these, and has a directory.
of_another() {
  local holder own
  enter "$lease" 2>/dev/null && holder=$(show permit 64 2>/dev/null) || return
  [[ $holder =~ ^[0-9a-f]{16}$ && $(stat -c %s -- ./permit) == 17 && -d $holder && ! -L $holder ]] || return
  for own; do [[ $own != "$holder" ]] || return; done
}

# revoke ASIDE SECONDS NONCE...
revoke() {
  enter_root || return
  ! (of_another "${@:3}") || return 0
  (enter "$lease" 2>/dev/null) || { (($? == 2)) && return; move_aside "$lease" "$@"; return; }
  (enter "$lease" && rm -f -- ./permit 2>/dev/null && sync -- .) && return
  (enter "$lease" && move_aside permit "$@") || (($? == unfinished)) || move_aside "$lease" "$@"
}

# look_for_permit: leaves in permit: held, lost or unknown, as the runner and local.rs judge it.
look_for_permit() {
  local text='' entry
  permit=unknown
  if [[ -f permit && ! -L permit ]]; then
    [[ -r permit ]] || return
    # A NUL would end the text before its end.
    if { IFS= read -r -d '' -n 32 text <permit; } 2>/dev/null; then permit=lost
    elif [[ $text == "$nonce"$'\n' ]]; then permit=held
    elif [[ $text || ! -s permit ]]; then permit=lost
    fi
  elif [[ -e permit || -L permit ]]; then permit=lost
  elif [[ -r . ]]; then
    # The directory is read; a name that was missing once is missing for half a minute on NFS.
    for entry in *; do [[ $entry != permit ]] || return 0; done
    ls -A >/dev/null 2>&1 && permit=lost
  fi
}

# What a wait looks for: permit held|lost|unknown, answered yes|no, notice nothing|endpoint|ending|strange.
see() {
  local name
  permit=unknown answered=no notice=nothing
  cd -P -- "$root" 2>/dev/null || return
  enter "$lease" 2>/dev/null || { (($? == 2)) || notice=strange; return; }
  look_for_permit
  enter "$nonce" 2>/dev/null || { (($? == 2)) || notice=strange; return; }
  for name in *; do
    case $name in
      answered) [[ ! -f answered || -L answered ]] || answered=yes ;;
      endpoint.json) notice=endpoint ;;
      ending.json) [[ $notice == endpoint ]] || notice=ending ;;
    esac
  done
  [[ $notice == nothing ]] || return
  if (enter jobs && enter "$lease" && for name in *; do [[ $name != endpoint.json ]] || exit 0; done; exit 1) 2>/dev/null; then
    cd -P -- "./jobs/$lease" && notice=endpoint
  fi
}

# snapshot TIMES INTERVAL: answers when there is something to see, or after so many looks.
snapshot() {
  local left=$1
  exec 9<> <(:)
  wait    # in bash 5.1 a read with a timeout may never return when a child ends during it
  while see; ((--left > 0)) && [[ $notice == nothing && $permit != lost ]]; do read -r -t "$2" -u 9; done
  printf 'permit %s\nanswered %s\nnotice %s\n' "$permit" "$answered" "$notice"
  [[ $notice != endpoint ]] || show endpoint.json 65536
}

# part NAME START|last MAX: where the part begins, on a line, then its bytes.
part() {
  local size start=$2
  enter_attempt 2>/dev/null || return
  [[ -f $1 && ! -L $1 ]] || return
  size=$(stat -c %s -- "./$1") || return
  [[ $start != last ]] || start=$((size > $3 ? size - $3 : 0))
  printf '%s\n' "$start"
  ((start >= size)) || dd "if=./$1" bs="$3" count=1 skip="$start" iflag=nofollow,nonblock,fullblock,skip_bytes status=none
}

# remove ASIDE SECONDS NONCE...
remove() {
  local nonce status=0
  enter_root || return
  if (of_another "${@:3}"); then
    for nonce in "${@:3}"; do
      (enter "$lease" && move_aside "$nonce" "$1.$nonce" "$2") || status=$?
    done
    return "$status"
  fi
  if [[ -e $lease || -L $lease ]]; then move_aside "$lease" "$@"; else sync -- .; fi
}

# sweep SECONDS
sweep() {
  enter_root || return
  local names=(.gone-*)
  for name in .format.* doctor-* .doctor-*; do
    [[ ! -f $name || -L $name || -z $(find "./$name" -maxdepth 0 -mmin +60) ]] || rm -f -- "./$name"
  done
  clear_all "$1" "${names[@]:0:1000}"
}

tell_stuck() { printf 'stuck %s\n' "${1//$'\n'/ }"; }

# clear_all SECONDS NAME...: shares the time out, so that one tree does not take it from all others.
clear_all() {
  local until=$((SECONDS + $1)) total=$(($# - 1)) left removed=0 stuck=0 code said
  shift
  for ((left = total; left > 0; left--)); do
    ((SECONDS < until)) || break
    said=$(erase "$1" $(((until - SECONDS + left - 1) / left)) 2>&1)
    code=$?
    ((code)) || ((removed += 1))
    ((code != 1)) || { ((stuck += 1)); tell_stuck "$said"; }
    shift
  done
  printf 'removed %d\nunfinished %d\n' "$removed" "$((total - removed - stuck))"
}

# marked: whether an attempt was handed out: answered yes|no|unknown. What a readable directory does not list is not there; but
# the directory has to be a shared dir, not the place where one is mounted.
marked() {
  local name answered=unknown
  enter_root || return
  if [[ -f format && -r . ]]; then
    answered=no
    for name in "$lease" "$nonce"; do
      enter "$name" 2>/dev/null && continue
      (($? == 2)) || answered=unknown
      printf 'answered %s\n' "$answered"
      return
    done
    [[ -r . ]] || answered=unknown
    for name in *; do [[ $name != answered ]] || answered=yes; done
  fi
  printf 'answered %s\n' "$answered"
}

# list_work: what this user's leases have in a work root.
list_work() {
  local name count=0
  enter_root || return
  for name in cbx_* .cbx_* .gone-cbx_*; do
    [[ -d $name && ! -L $name && -O $name && $name != *$'\n'* ]] || continue
    printf '%s\n' "$name"
    ((++count < 1000)) || break
  done
}

# remove_mark NAME: of the runner, beside a work directory that it had moved aside, unless another attempt has marked the place since.
remove_mark() {
  local mark='' nonce=${1##*.} file=./${1%.*}.owner
  [[ -f $file && ! -L $file ]] || return
  { IFS= read -r -n 4096 mark <"$file"; } 2>/dev/null
  [[ $mark != "nonce=$nonce "* ]] || rm -f -- "$file"
}

# clear_work SECONDS [NAME ASIDE]...
clear_work() {
  local seconds=$1 names=() said
  enter_root || return
  shift
  for (( ; $# > 1; )); do
    if [[ ! -d $1 || -L $1 || ! -O $1 ]]; then :
    elif [[ $1 == .gone-* ]]; then names+=("$1")
    elif said=$(mv -T -- "./$1" "./$2" 2>&1); then
      names+=("$2")
      remove_mark "$1"
    else tell_stuck "$said"; fi
    shift 2
  done
  clear_all "$seconds" "${names[@]}"
}

# clear_client KEY: the files of the client's that are named by the lease or its key. The root is the home.
clear_client() {
  local dir name start=$lease status=0
  enter_root || return
  enter .crabbox 2>/dev/null || return 0
  for dir in actions workspace-owners; do
    if [[ -d $dir && ! -L $dir ]]; then
      (
        enter "$dir" || exit
        for name in "$start".*; do [[ -d $name && ! -L $name ]] || rm -f -- "./$name" || status=1; done
        exit "$status"
      ) || status=1
    fi
    start=$1
  done
  return "$status"
}

# resolve PATH...
resolve() { realpath -m -- "$@"; }

main() {
  case $task in
    grant) grant "$@" ;;
    revoke) revoke "$@" ;;
    snapshot) snapshot "$@" ;;
    ending) enter_attempt 2>/dev/null && [[ -e ending.json ]] && show ending.json 65536 ;;
    part) part "$@" ;;
    put) enter_attempt && put "$1" ;;
    remove) remove "$@" ;;
    sweep) sweep "$@" ;;
    list-work) list_work ;;
    clear-work) clear_work "$@" ;;
    clear-client) clear_client "$@" ;;
    permitted) enter_root && enter "$lease" 2>/dev/null && show permit 64 ;;
    marked) marked ;;
    resolve) resolve "$root" "$@" ;;
  esac
}

# A file system that hangs may let go of nobody, so nobody is waited for: the task writes to a pipe, and its last line says
# that it came to its end.
exec 5<&0 6<> <(:)
exec 7</dev/fd/6
set -m
{ main "$@" <&5 5<&- 7<&-; printf '\nended %d\n' "$?"; } >&6 6>&- &
disown
exec 5<&- 6>&-
timeout "$seconds" cat <&7 || { kill -KILL -- "-$!" 2>/dev/null; exit 124; }
