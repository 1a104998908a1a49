# shellcheck shell=bash
# The shared dir as a login host sees it (see remote.rs): what root lease nonce and more of each task's own.
# Sandboxed code can put anything into the place of anything here, so directories are entered one by one and only when
# they are what they seem, and files are read without following a link.
what=$1 root=$2 lease=$3 nonce=$4
shift 4
umask 077
shopt -s nullglob dotglob

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

# erase NAME: an entry and all below it, never through a link.
erase() {
  rm -rf -- "./$1" 2>/dev/null && return
  [[ -L $1 ]] || chmod -R u+rwX -- "./$1" 2>/dev/null
  rm -rf -- "./$1"
}

# What does not go is moved out of the way, for the sweep.
move_aside() {
  local name=.gone-$lease-$RANDOM$RANDOM
  cd -P -- "$root" && mv -T -- "./$lease" "./$name" || return
  erase "$name" 2>/dev/null || :
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

revoke() {
  cd -P -- "$root" 2>/dev/null || { [[ ! -e $root ]]; return; }
  (enter "$lease" 2>/dev/null) || { (($? == 2)) || move_aside; return; }
  (enter "$lease" && erase permit && sync -- .) || move_aside
}

# What a wait looks for: permit held|lost|unknown, answered yes|no, notice nothing|endpoint|ending|strange. The directory is
# read; a name that was missing once is missing for half a minute on NFS.
see() {
  local word='' name names=() entry
  permit=unknown answered=no notice=nothing
  cd -P -- "$root" 2>/dev/null || return
  enter "$lease" 2>/dev/null || { (($? == 2)) || notice=strange; return; }
  for entry in *; do [[ $entry != permit ]] || names=(permit); done
  if ((${#names[@]} == 0)); then
    permit=lost
  elif [[ -f permit && ! -L permit ]] && { read -r word <permit || [[ $word ]]; }; then
    if [[ $word == "$nonce" ]]; then permit=held; else permit=lost; fi
  fi
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
  while see; ((--left > 0)) && [[ $notice == nothing && $permit != lost ]]; do read -r -t "$2" -u 9; done
  printf 'permit %s\nanswered %s\nnotice %s\n' "$permit" "$answered" "$notice"
  [[ $notice != endpoint ]] || show endpoint.json 65536
}

tail_of() {
  local size skip
  enter_attempt 2>/dev/null || return
  [[ -f $1 && ! -L $1 ]] || return
  size=$(stat -c %s -- "./$1") && skip=$((size > $2 ? size - $2 : 0))
  dd "if=./$1" bs="$2" count=1 skip="$skip" iflag=nofollow,nonblock,fullblock,skip_bytes status=none
}

remove() {
  cd -P -- "$root" 2>/dev/null || { [[ ! -e $root ]]; return; }
  erase "$lease" || move_aside
}

sweep() {
  local name
  cd -P -- "$root" 2>/dev/null || return 0
  for name in .gone-*; do erase "$name"; done
}

case $what in
  grant) grant "$@" ;;
  revoke) revoke ;;
  snapshot) snapshot "$@" ;;
  ending) enter_attempt 2>/dev/null && [[ -e ending.json ]] && show ending.json 65536 ;;
  tail) tail_of "$@" ;;
  put) enter_attempt && put "$1" ;;
  remove) remove ;;
  sweep) sweep ;;
  permitted) cd -P -- "$root" 2>/dev/null && enter "$lease" 2>/dev/null && show permit 64 ;;
  answered) see; [[ $answered == yes ]] ;;
esac
