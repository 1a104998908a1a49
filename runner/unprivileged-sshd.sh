#!/bin/bash
# slurm-sandbox runner contract: 1
# slurm-sandbox runner claims: 1
#
# The batch script of a slurm-sandbox lease: it turns a Slurm allocation into one SSH endpoint and ends with it.
#
# What it does    starts the system's OpenSSH sshd as the job's own user, on one port, for one public key; publishes
#                 where that is; then watches, and ends the job when nobody is entitled to it or uses it any more.
# What it owns    a private directory on node-local space (host key, sshd_config), the work directory
#                 $CBX_WORK_ROOT/$CBX_LEASE_ID, and the files named "written" below. It removes what it made.
# What it needs   bash 4.2, coreutils, /proc, OpenSSH's sshd and ssh-keygen; getent, grep, hostname and squeue where they are.
#                 No root, no daemon, nothing installed.
# What it limits  key login only, this user only, no agent, X11, tunnel or remote forwarding; local forwarding only to
#                 the node's own loopback; every process of the job is ended with it, and none that is not of the job.
#
# Environment (the job is submitted with --export=ALL, from an environment that slurm-sandbox builds)
#   CBX_LEASE_ID CBX_NONCE      the lease, and this attempt at it
#   CBX_STATE_DIR               the attempt's directory, on the shared file system
#   CBX_PERMIT_FILE             must hold exactly the nonce: at the start, and for as long as the job is to live
#   CBX_WORK_ROOT               the work directory is made in it
#   CBX_SSH_PUBLIC_KEY_FILE     who may log in
#   CBX_SSH_USER                empty, or the job's user
#   CBX_READY_CHECK             the client's probe: a session that runs just this (or `true`, `exit 0`) is no use
#   CBX_SSHD CBX_SSH_PORT       optional: path of sshd; a port, or a range such as 20000-20999
#   CBX_LISTEN                  no: nothing listens; srun starts a session's own sshd in a step of the job, by $CBX_STATE_DIR/session
#   CBX_BIND_ADDRESS            optional: listen here; else on the address that the node's name has, else on all
#   CBX_TAKEN_GRACE_SECONDS     300    end if no session begins within it of the start; the preamble is part of the start
#   CBX_IDLE_TIMEOUT_SECONDS    1800   end after this long without a command or a busy process     (0: never)
#   CBX_TTL_SECONDS             0      end this long after the start                               (0: wall time only)
#   CBX_SPARE_SECONDS           0      above 0 the job is a spare: it belongs to no lease until a login claims it, and ends if none
#                                      does within this time of the start; CBX_LEASE_ID is the seat's id until then
#   CBX_PREAMBLE                bash lines sourced first, such as `module load cuda`; sessions get their environment
#   CBX_LAUNCHER                words put before each session's bash, such as `apptainer exec --nv image.sif`;
#                               file transfer by sftp runs outside it, because images rarely have an sftp-server
#   CBX_ON_ENDING               one line of shell, run in the work directory as in a session when the wall time is near
#
# Files in CBX_STATE_DIR. Code in the sandbox can write there too, so they are compared or parsed, never sourced.
#   written   endpoint.json  session  taken  warning  ending.json  sshd.log  preamble.log
#   read      answered (handed out)  kept (left queued on purpose)
#             deadline (lines ttl_left=SECONDS|never idle=SECONDS state=WORD; ttl=EPOCH from older adapters)
#
# A spare is claimed by a login with the command `claim LEASE SLUG NAME`. It makes `decided` in the private directory: a
# file with these three, a line each. The runner that ends an unclaimed spare first makes a directory of that name; so
# exactly one of all of them wins, and a claim is there whole or not at all, wherever its login is killed. The work directory
# then gets the lease's id as its name, and the login goes on as the ready check, with its exit status. Until then
# nothing but the ready check and the claim gets in, and only the time as a spare runs; the times of a lease begin with the
# claim. A login of the same lease that claims again finishes what is unfinished. Other statuses of the login:
#   113   this job is not that lease's: another one has it, it ends, or the claim is malformed; also for any other command
#         before the claim
#   114   it is, but the lease's work directory cannot be had here: something else has that name
#
# Beside the work directory, in CBX_WORK_ROOT: .LEASE.owner says whose it is, .LEASE.NONCE is what is to be removed. What
# a killed runner left is removed by the user's next ones on the node, once it is certain that its job is over.
#
# Without cgroup tracking (ProctrackType), a process that leaves the job's process tree and also drops its environment
# can outlive the job; nothing here can find it.
#
# Exit status: 0 when the job ended as intended, 1 when it could not do its work. ending.json and the last line of
# the job's output say why.

# A signal may come with the very first line: with a short time limit Slurm sends USR1 at once.
trap 'asked_to_end=yes' TERM INT HUP
trap 'told_of_wall_time=yes' USR1

# By this token some sites know who submits. It is no business of sessions.
unset SLURM_JWT

# ---------------------------------------------------------------- small helpers
# The end runs inside a trap, and there a `return` without a number gives the status from before the trap.

say() { printf 'slurm-sandbox: %s\n' "$*"; }

# fail REASON DETAIL: an ending that is nobody's intention.
fail() { finish "$1" "$2" 1; }

# members NAME VALUE...: leaves them in REPLY as members of a JSON object, all strings.
members() {
  local i
  REPLY=
  while (($#)); do
    REPLY+=${REPLY:+,}\"$1\":\"
    [[ $2 == *[\"\\[:cntrl:]]* ]] || { REPLY+=$2\"; shift 2; continue; }    # nearly always
    for ((i = 0; i < ${#2}; i++)); do
      case ${2:i:1} in
        '"' | \\) REPLY+=\\${2:i:1} ;;
        $'\n') REPLY+='\n' ;;
        $'\t') REPLY+='\t' ;;
        [[:cntrl:]]) REPLY+=' ' ;;
        *) REPLY+=${2:i:1} ;;
      esac
    done
    REPLY+=\"
    shift 2
  done
}

# make_path_absolute: a directory that sessions can write in is nowhere to look for commands.
make_path_absolute() {
  local IFS=: entry kept=
  [[ :$PATH: =~ :[^/] ]] || return 0
  set -f
  for entry in $PATH; do [[ $entry != /* ]] || kept+=:$entry; done
  set +f
  PATH=${kept:1}
  : "${PATH:=/usr/bin:/bin}"
}

# publish FILE TEXT: the file appears whole or not at all. The temporary one must be new and the last step is a rename,
# so that nothing which lies there is followed or waited for.
publish() {
  local temp=${1%/*}/.${1##*/}.$RANDOM$RANDOM
  printf '%s\n' "$2" | dd of="$temp" conv=excl,fsync 2>/dev/null && mv -fT -- "$temp" "$1" 2>/dev/null
}

# Two clocks: one that nobody sets, for spans, and the time of day, for what Slurm and the adapter say.
read_clocks() {
  read -r uptime _ </proc/uptime
  uptime=${uptime%.*}
  printf -v epoch '%(%s)T' -1
}

# start_ticker SECONDS: a child without children of its own writes a line into a pipe, again and again, and this script
# waits for nothing but that pipe: in bash 5.1 a read with a timeout may never return when a child ends during it. The
# ticker ends with the pipe's reader. Descriptor 9 is the pipe, 8 one into which nobody writes.
start_ticker() {
  interval=$1
  [[ ! $ticker ]] || kill -KILL "$ticker" 2>/dev/null
  ticker=
  exec 9< <(
    exec 9<&-
    trap '' TERM INT HUP USR1
    printf 'ticker %s\n' "$BASHPID"
    while :; do
      read -r -t "$interval" -n 16 _ <&8
      printf 'tick\n' || exit
    done 2>/dev/null
  )
}

# await_event: leaves in event what came. No IFS= here: a trap runs inside the read, and would inherit it.
await_event() {
  event=
  if ! read -r -n 6000 event <&9; then
    sleep 1    # the ticker is gone
    start_ticker "$interval"
  fi
  [[ $event != 'ticker '* ]] || ticker=${event#ticker }
}

# tell TEXT: from a step to this script. The pipe is open no longer than that, or a ticker's death would go unnoticed.
tell() { printf '%s\n' "$1" >"/proc/$$/fd/9"; }

# step STAGE SECONDS FUNCTION...: runs the function in a child, because a file system, a name service, a tool or a
# preamble may never answer; this script goes on watching. By the pipe the child says `set NAME VALUE`, what `finish`
# was told, the stage that it begins, and that it has ended. With SECONDS above 0 a stage may take no longer.
step() {
  local pid
  stage=$1 stage_ends=$(($2 ? uptime + $2 : 0))
  shift 2
  # shellcheck disable=SC2317 # The steps call it.
  (
    finish() {
      local LC_ALL=C detail=${2//[^[:print:]]/ }
      tell "finish $1 ${3:-0} ${detail:0:1000}"
      exit 1
    }
    "$@"
    tell "ended $BASHPID"
  ) </dev/null 9<&- &
  pid=$!
  watch "$pid"
  stage=other stage_ends=0
}

# begin STAGE SECONDS: another stage of the same step; a child for each would cost as much as most of them do.
begin() { tell "stage $1 $2"; }

# heed PID: what a step says. Fails when the step has ended.
heed() {
  local word=${event%% *} name value=${event#* }
  name=${value%% *} value=${value#* }
  case $word in
    finish) finish "$name" "${value#* }" "${value%% *}" ;;
    stage) stage=$name stage_ends=$((value ? uptime + value : 0)) ;;
    set)
      case $name in
        address) addresses+=("$value") ;;
        private | work_made | user | sshd | sshd_said | sftp_server | sshd_state | full_name) printf -v "$name" %s "$value" ;;
      esac
      ;;
    ended) [[ $name != "$1" ]] || { wait "$1"; return 1; } ;;
    # What it has said is in the pipe before this. scancel's TERM reaches it too; then that is the reason.
    died) [[ $name != "$1" ]] || step_died=yes ;;
    tick)
      case $step_died in
        '') kill -0 "$1" 2>/dev/null || { step_died=seen; tell "died $1"; } ;;
        yes) fail runner-failed "a step of the start ($stage) was killed" ;;
      esac
      ;;
  esac
}

# ---------------------------------------------------------------- the permit

# look_for_permit: leaves in permit: held, lost, or unknown (it cannot be read or listed). It is written whole, by a
# rename, so that nothing but the nonce and one line end is held.
look_for_permit() {
  local text='' names fd more=yes dir=${CBX_PERMIT_FILE%/*}
  permit=unknown
  if [[ ! -d $dir || -L $dir ]]; then return
  elif [[ -L $CBX_PERMIT_FILE ]]; then permit=lost
  elif [[ -f $CBX_PERMIT_FILE ]]; then
    { exec {fd}<"$CBX_PERMIT_FILE"; } 2>/dev/null || return
    # read fails at the end of the file: a NUL, or another byte after the line end, and it does not.
    IFS= read -r -d '' -n 18 text <&"$fd" || more=
    exec {fd}<&-
    if [[ ! $more && $text == "$CBX_NONCE"$'\n' ]]; then permit=held
    elif [[ $more || $text || ! -s $CBX_PERMIT_FILE ]]; then permit=lost
    fi
  elif [[ -e $CBX_PERMIT_FILE ]]; then permit=lost
  elif names=$(ls -A -- "$dir" 2>/dev/null); then
    # A listing asks the file server; a name that was missing a moment ago may only be missing from a cache.
    [[ $'\n'$names$'\n' == *$'\n'"${CBX_PERMIT_FILE##*/}"$'\n'* ]] || permit=lost
  fi
}

require_permit() {
  look_for_permit
  if [[ $permit != held ]]; then
    sleep 1
    look_for_permit
  fi
  [[ $permit == held ]] || finish permit-missing "no permit for this attempt at $CBX_PERMIT_FILE ($permit)"
}

# require_one_job: a task of an array, a component of a heterogeneous job or one of srun's tasks has siblings, which
# would find the same permit.
require_one_job() {
  local name
  for name in "${!SLURM_ARRAY_@}" "${!SLURM_HET_@}" "${!SLURM_PACK_@}"; do
    [[ ! ${!name} ]] || finish not-one-job "this is one of several: $name=${!name}; a lease is one batch job, without an array or components" 1
  done
  [[ ${SLURM_PROCID:-0} == 0 ]] || finish not-one-job "this is task $SLURM_PROCID of several: the runner is a batch script, not for srun" 1
}

# ---------------------------------------------------------------- places

# read_mark FILE: leaves in mark what a runner of this user wrote about itself, and nothing else.
read_mark() {
  mark=
  [[ -f $1 && ! -L $1 && -O $1 ]] || return 1
  { IFS= read -r -n 1000 mark <"$1"; } 2>/dev/null
  [[ $mark == nonce=* ]]
}

# make_mark: leaves in own_mark who this is: job, node, and the process by its start, which outlives no reboot.
make_mark() {
  local line field
  { read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null
  pidns=$(exec readlink /proc/self/ns/pid 2>/dev/null)
  read -r line <"/proc/$$/stat"
  # shellcheck disable=SC2206 # As in read_stat.
  field=(${line##*)})
  own_mark="nonce=$CBX_NONCE job=${SLURM_JOB_ID:-} cluster=${SLURM_CLUSTER_NAME:-} node=$node boot=${boot:-} pidns=${pidns:-} pid=$$ start=${field[19]}"
}

# has_ended: whether the runner that left mark is certainly over: on this boot of this machine its process is gone, or
# it was of an earlier boot of this node.
has_ended() {
  local line='' field place="cluster=${SLURM_CLUSTER_NAME:-} node=$node"
  [[ $mark =~ ^nonce=[0-9a-f]{16}\ job=[0-9]*\ (cluster=[^\ ]*\ node=[^\ ]+)\ boot=([0-9a-f-]{36})\ pidns=([^\ ]+)\ pid=([1-9][0-9]{0,9})\ start=([0-9]+)$ && ${boot:-} ]] || return 1
  set -- "${BASH_REMATCH[@]:1}"
  if [[ $2 != "$boot" && $1 == "$place" ]]; then return 0; fi
  [[ $2 == "$boot" && $3 == "${pidns:-}" ]] || return 1
  { IFS= read -r -d '' line <"/proc/$4/stat"; } 2>/dev/null
  # shellcheck disable=SC2206 # As in read_stat.
  field=(${line##*)})
  [[ ${field[0]:-Z} == Z || ${field[19]} != "$5" ]]
}

# choose_few PATH...: leaves in few a dozen of them, others each time. Whoever has a hundred leases on a node would look at what all
# of them own at each start and end; so what was left behind is found by one of the next ones.
choose_few() {
  local at=$((1 + RANDOM % $#)) more
  few=("${@:at:12}")
  more=$((12 - ${#few[@]} < at - 1 ? 12 - ${#few[@]} : at - 1))
  ((more == 0)) || few+=("${@:1:more}")
}

# remove_tree SECONDS PATH...: never across a mount, a bind mount of the same file system included, and never through a
# link. rm needs no stack for depth. Some tools write-protect their caches, so that a second try may be needed.
remove_tree() {
  local round path seconds=$1 trees mounts
  shift
  for round in 1 2; do
    trees=() mounts=()
    { mapfile -t mounts </proc/self/mountinfo; } 2>/dev/null
    for path; do
      [[ -e $path && ! -L $path && -O $path ]] || continue
      if has_mount "$path"; then say "left behind: $path: $mounted is mounted there"; else trees+=("$path"); fi
    done
    ((${#trees[@]})) || return 0
    set -- "${trees[@]}"
    ((round == 1)) || chmod -R u+rwx -- "$@" 2>/dev/null
    timeout -s KILL "$seconds" rm -rf --one-file-system -- "$@" 2>/dev/null
  done
  for path; do [[ ! -d $path ]] || say "left behind: $path"; done
}

# has_mount PATH: leaves in mounted what is mounted there or below, of mounts. Who cannot tell says yes.
has_mount() {
  local real line
  mounted=something
  ((${#mounts[@]})) || return 0
  if cd -P -- "$1"; then real=$PWD
  elif [[ ! -x $1 ]] && cd -P -- "${1%/*}"; then real=${PWD%/}/${1##*/}
  else return 0
  fi
  cd /
  for line in "${mounts[@]}"; do
    line=${line#* * * * } line=${line%% *}
    [[ $line != *\\* ]] || printf -v line %b "${line//\\/\\0}"    # a blank is \040 there
    mounted=$line
    [[ $line/ != "$real"/* ]] || return 0
  done
  mounted=
  return 1
} 2>/dev/null

# move_aside PRIVATE_DIR: leaves in aside where it is then. One that is removed in part is known by that name.
move_aside() {
  aside=${1%/*}/.slurm-sandbox-gone.${1##*.}
  mv -fT -- "$1" "$aside" 2>/dev/null || aside=$1
}

# make_private_dir: node-local if possible. Its path goes into sshd_config and through any login shell, so only a
# path that needs no quoting will do. What runners that were killed left in such a place goes first.
make_private_dir() {
  local place dir made few
  for place in "${TMPDIR:-}" /tmp "${XDG_RUNTIME_DIR:-}" "$CBX_STATE_DIR"; do
    [[ $place =~ ^/[A-Za-z0-9/._+,@:=-]*$ ]] || continue
    choose_few "$place"/slurm-sandbox.????????
    for dir in "${few[@]}"; do
      if [[ -d $dir && ! -L $dir && -O $dir ]] && read_mark "$dir/owner" && has_ended; then move_aside "$dir"; fi
    done
    for dir in "$place"/.slurm-sandbox-gone.????????; do remove_tree 10 "$dir"; done
    printf -v made '%s/slurm-sandbox.%04x%04x' "$place" "$RANDOM" "$RANDOM"
    # Succeeds only where nothing was there.
    if mkdir -- "$made" "$made/home" "$made/sessions" && printf '%s\n' "$own_mark" >"$made/owner"; then
      private=$made
      tell "set private $made"
      return
    fi 2>/dev/null
    [[ ! -O $made || -s $made/owner ]] || rm -rf -- "$made"
  done
  fail no-private-dir "none of TMPDIR, /tmp, XDG_RUNTIME_DIR and the lease's directory can be written on $node: free some space there"
}

# make_work_dir: with a mark beside it, from which whoever finds it later knows whose it was.
make_work_dir() {
  [[ -d $CBX_WORK_ROOT ]] || mkdir -p -- "$CBX_WORK_ROOT" 2>/dev/null
  if publish "$owner" "$own_mark"; then
    tell "set work_made yes"
    mkdir -- "$work" 2>/dev/null
    [[ ! -d $work || -L $work || ! -O $work ]] || return 0
  fi
  fail no-work-dir "cannot make $work on this node: choose a workRoot that is writable there"
}

# move_work_dir LEASE NONCE: moves the work directory of that attempt aside. If the mark beside it names another one now,
# the lease has just got another job, on another node, and gets it back.
move_work_dir() {
  local from=$root/$1 to=$root/.$1.$2
  [[ -d $from && ! -L $from && -O $from ]] || return 0
  mv -fT -- "$from" "$to" 2>/dev/null || return 0
  ! read_mark "$root/.$1.owner" || [[ $mark == "nonce=$2 "* ]] || mv -nT -- "$to" "$from" 2>/dev/null
}

# sweep_work_root: what runners that were killed left there.
sweep_work_root() {
  local path name few
  choose_few "$root"/.cbx_*.owner
  for path in "${few[@]}"; do
    name=${path##*/.} name=${name%.owner}
    if [[ ! $name =~ ^cbx_[0-9a-f]{12}$ ]] || ! read_mark "$path" || ! has_ended; then continue; fi
    move_work_dir "$name" "${mark:6:16}"
    read_mark "$path" && has_ended && [[ ! -d $root/$name ]] && rm -f -- "$path"
  done
  for path in "$root"/.cbx_*.*; do
    [[ ! ${path##*/} =~ ^\.cbx_[0-9a-f]{12}\.[0-9a-f]{16}$ ]] || remove_tree 60 "$path"
  done
}

# copy_public_key: to the private directory, and only plain keys: a line with options could run commands of its own.
copy_public_key() {
  local line keys=0
  [[ -f $CBX_SSH_PUBLIC_KEY_FILE && -O $CBX_SSH_PUBLIC_KEY_FILE ]] \
    && while IFS= read -r -n 16384 line; do
      [[ $line =~ ^(ssh|ecdsa|sk)-[A-Za-z0-9@.-]+\ [A-Za-z0-9+/=]+(\ |$) ]] || continue
      printf '%s\n' "$line" && keys=$((keys + 1))
    done <"$CBX_SSH_PUBLIC_KEY_FILE" >"$private/authorized_keys"
  ((keys)) || fail key-missing "no public key of yours at $CBX_SSH_PUBLIC_KEY_FILE"
}

# ---------------------------------------------------------------- what sessions get

# prepare: a bash of its own sources the preamble, so that nothing in it can change this script, and writes down what
# there is then, as bash can read it back: quotes, newlines, exported functions, umask and limits survive. Left out is
# what belongs to this process alone, and BASH_ENV, which could print into sessions.
prepare() {
  local log=$CBX_STATE_DIR/preamble.log status
  # shellcheck disable=SC2016 # As in write_session_wrapper.
  local text='. "$_cbx/preamble"
_cbx_status=$?
set +efnuvx
((_cbx_status == 0)) || exit "$_cbx_status"
{
  eval "_cbx_launcher=(${CBX_LAUNCHER:-})" 2>/dev/null || _cbx_launcher=("$CBX_LAUNCHER")
  if ((${#_cbx_launcher[@]})); then
    type -P "${_cbx_launcher[0]}" >/dev/null || printf "%s\n" "${_cbx_launcher[0]}" >"$_cbx/no_launcher"
    printf "_cbx_launcher=("
    printf " %q" "${_cbx_launcher[@]}"
    printf " )\n"
  fi
  printf "_cbx_umask="
  umask
} >"$_cbx/settings"
type -P sshd >"$_cbx/sshd_on_path"
{
  make_path_absolute
  for _cbx_name in module ml _module_raw; do
    declare -F "$_cbx_name" >/dev/null && export -f "${_cbx_name?}"
  done
  for _cbx_name in "${!CBX_@}" "${!SSH_@}" PWD OLDPWD SHLVL TERM BASH_ENV ENV SLURM_JWT; do
    case $_cbx_name in
      CBX_LEASE_ID | CBX_SLUG | CBX_NAME | CBX_NONCE | CBX_WORK_ROOT) ;;
      *) unset "$_cbx_name" ;;
    esac
  done
  export -p
  declare -fx -p
  ulimit -S -a >"$_cbx/limits"
  while IFS= read -r _cbx_line; do
    [[ ! $_cbx_line =~ -([a-zA-Z])\)\ +([a-z0-9]+)$ || ${BASH_REMATCH[1]} == p ]] || printf "ulimit -S -%s %s\n" "${BASH_REMATCH[@]:1:2}"
  done <"$_cbx/limits"
} >"$_cbx/environment" 2>/dev/null
: >"$_cbx/prepared"'
  [[ ${CBX_PREAMBLE:-} ]] || log=$private/prepare.log
  printf '%s\n' "${CBX_PREAMBLE:-:}" >"$private/preamble"
  { printf '_cbx=%q\n' "$private" && declare -f make_path_absolute && printf '%s\n' "$text"; } >"$private/prepare"
  (umask "$session_umask" && exec "$BASH" "$private/prepare") >"$log" 2>&1 8>&-
  status=$?
  [[ -e $private/prepared ]] || fail preamble-failed "the preamble failed, or called exit, with status $status: $(tail -c 300 -- "$log" 2>/dev/null)"
  [[ ! -e $private/no_launcher ]] || fail launcher-missing "the launcher's command is not on $node: $(<"$private/no_launcher")"
}

# try_launcher: once, as a session would, before anybody is told of this job. It may have an image to fetch.
try_launcher() {
  local status log=$private/launcher.log
  (
    cd -- "$HOME" 2>/dev/null || cd /
    exec env -i HOME="$HOME" USER="$user" LOGNAME="$user" SHELL="$BASH" PATH="$PATH" SSH_ORIGINAL_COMMAND=true "$BASH" "$private/session"
  ) >"$log" 2>&1 8>&-
  status=$?
  ((status == 0)) || fail launcher-failed "the launcher does not start bash, status $status: $(tail -c 300 -- "$log" 2>/dev/null)"
}

# write_session_wrapper: sshd runs it for every session. It says that a session began, restores the environment, and
# becomes the command. It prints nothing.
write_session_wrapper() {
  # shellcheck disable=SC2016 # It is for another bash. A process less than by cat.
  local claim='' names='' first='_cbx_command=${SSH_ORIGINAL_COMMAND-} _cbx_shell=$SHELL
unset SSH_ORIGINAL_COMMAND ZDOTDIR
. "$_cbx_private/settings"
umask "$_cbx_umask"
# csh leaves copies of the pipes of a session behind; a daemon that inherits one keeps the client waiting.
for _cbx_fd in "/proc/$$/fd/"*; do
  _cbx_fd=${_cbx_fd##*/}
  ((_cbx_fd < 3 || _cbx_fd > 200)) || exec {_cbx_fd}>&-
done
' then='case ${_cbx_command:-shell} in
  "exit 0" | true | "$_cbx_ready_check") ;;
  *) { : >"$_cbx_private/began"; } 2>/dev/null ;;
esac
export HOME=$_cbx_home
[[ $_cbx_command != "$_cbx_sftp" || ! $_cbx_sftp ]] || exec "$_cbx_sftp"
. "$_cbx_private/environment" 2>/dev/null
' last='export SHELL=$_cbx_shell
set -- bash
if [[ ! ${_cbx_launcher[0]+set} ]]; then
  set -- "$_cbx_bash"
  [[ $_cbx_command || ! ${SSH_TTY-} || ! -x $_cbx_shell ]] || set -- "$_cbx_shell"
fi
[[ ! $_cbx_command ]] || set -- "$@" -c "$_cbx_command"
exec ${_cbx_launcher[0]+"${_cbx_launcher[@]}"} "$@"'
  # shellcheck disable=SC2016 # As above.
  if ((spare)); then
    write_claim_script
    claim='if [[ $_cbx_command == "claim "* ]]; then
  "$_cbx_bash" "$_cbx_private/claim_script" "$_cbx_command" </dev/null || exit
  _cbx_command=${_cbx_ready_check:-true}
fi
_cbx_lease= _cbx_slug= _cbx_name=
{ IFS= read -r _cbx_lease && IFS= read -r _cbx_slug && IFS= read -r _cbx_name; } 2>/dev/null <"$_cbx_private/decided"
[[ $_cbx_lease ]] || case ${_cbx_command:-shell} in
  "exit 0" | true | "$_cbx_ready_check") ;;
  *)
    echo "slurm-sandbox: this spare belongs to no lease yet" >&2
    exit 113
    ;;
esac
'
    names='[[ ! $_cbx_lease ]] || export CBX_LEASE_ID=$_cbx_lease CBX_SLUG=$_cbx_slug CBX_NAME=$_cbx_name
'
  fi
  {
    printf '_cbx_%s=%q\n' private "$private" sftp "$sftp_server" ready_check "${CBX_READY_CHECK:-}" home "$HOME" bash "$BASH"
    printf '%s\n' "$first$claim$then$names$last"
  } >"$private/session"
}

# write_claim_script: the wrapper runs it for a claim, in a bash of its own.
write_claim_script() {
  {
    printf '%s=%q\n' PATH "$PATH" private "$private" seat "$seat" root "$root" node "$node" SLURM_CLUSTER_NAME "${SLURM_CLUSTER_NAME:-}" \
      boot "${boot:-}" own_mark "$own_mark" LC_ALL C
    declare -f publish read_mark has_ended move_work_dir refuse_claim decide_claim take_work_dir
    # shellcheck disable=SC2016 # It is for another bash.
    printf '%s\n' 'umask 077' 'decide_claim "$1"' take_work_dir
  } >"$private/claim_script"
}

# ---------------------------------------------------------------- a claim, in the script that the wrapper runs for it

refuse_claim() {
  printf 'slurm-sandbox: %s\n' "$2" >&2
  exit "$1"
}

# decide_claim COMMAND: leaves in lease who asks, if this job is that lease's now. The file comes by a link, which is made
# for one of all that try, and only if the runner has made no directory there.
decide_claim() {
  local temp winner=''
  [[ $1 =~ ^claim\ (cbx_[0-9a-f]{12})\ ([a-z0-9]([a-z0-9-]{0,126}[a-z0-9])?)\ ([^[:cntrl:]]{1,255})$ ]] || refuse_claim 113 'malformed claim'
  lease=${BASH_REMATCH[1]}
  if [[ ! -e $private/decided ]]; then
    temp=$private/.decided.$$.$RANDOM$RANDOM
    set -C
    { printf '%s\n' "$lease" "${BASH_REMATCH[2]}" "${BASH_REMATCH[4]}" >"$temp" && ln -T -- "$temp" "$private/decided"; } 2>/dev/null
    set +C
    rm -f -- "$temp"
  fi
  { IFS= read -r winner <"$private/decided"; } 2>/dev/null
  [[ $winner != "$lease" ]] || return 0
  [[ ! $winner ]] || refuse_claim 113 'another lease has this spare'
  [[ ! -e $private/decided ]] || refuse_claim 113 'this spare ends'
  refuse_claim 113 "cannot write in $private"
}

# take_work_dir: the seat's becomes the lease's, the mark first, so that each of them has one at any time. What an earlier
# attempt of the lease has left there is moved aside as in sweep_work_root; one that is just ending gets some seconds.
take_work_dir() {
  local from=$root/$seat to=$root/$lease new=$root/.$lease.owner old=$root/.$seat.owner tries
  [[ $lease != "$seat" ]] || return 0
  for ((tries = 0; tries < 50; tries++)); do
    if read_mark "$new"; then
      if [[ $mark == "$own_mark" ]]; then
        [[ -e $to || -L $to || ! -d $from || -L $from ]] || mv -nT -- "$from" "$to" 2>/dev/null
        if [[ -d $to && ! -L $to && -O $to ]]; then
          rm -f -- "$old"
          return 0
        fi
      else
        pidns=$(readlink /proc/self/ns/pid 2>/dev/null)
        if has_ended; then
          move_work_dir "$lease" "${mark:6:16}"
          read_mark "$new" && has_ended && [[ ! -d $to ]] && rm -f -- "$new"
          continue
        fi
      fi
    elif [[ ! -e $to && ! -L $to && ! -e $new && ! -L $new ]]; then
      if ! read_mark "$old" || [[ $mark != "$own_mark" ]] || ! ln -T -- "$old" "$new" 2>/dev/null; then publish "$new" "$own_mark"; fi
      continue
    fi
    sleep 0.1
  done
  refuse_claim 114 "the work directory $to cannot be had: something else is there, or $from is gone"
}

# ---------------------------------------------------------------- sshd

find_sshd() {
  local path on_path
  IFS= read -r on_path <"$private/sshd_on_path"
  for path in "${CBX_SSHD:-}" "$on_path" {/usr,/usr/local,}/sbin/sshd /usr/lib{,/openssh,/ssh}/sshd; do
    [[ $path == /* && -f $path && -x $path ]] && sshd=$path && break
    [[ ! ${CBX_SSHD:-} ]] || break
  done
  [[ $sshd ]] || fail sshd-not-found "no sshd at ${CBX_SSHD:-the usual places or on PATH}: install openssh-server on ${node}, or set CBX_SSHD"
  tell "set sshd $sshd"
  foresee_refusals
  for path in /usr/lib/openssh /usr/libexec/openssh /usr/libexec /usr/lib/ssh /usr/lib64/ssh /usr/local/libexec "${sshd%/*/*}/libexec"; do
    [[ -x $path/sftp-server ]] && tell "set sftp_server $path/sftp-server" && break
  done
}

# foresee_refusals: tells what sshd would say of the newer options. It knows those whose names are in its file; a file where not even
# an old one is found tells nothing. A start in vain costs several times as much.
foresee_refusals() {
  local option names words=() said=
  for option in allowusers "${newer_options[@]%% *}"; do words+=(-e "${option,,}"); done
  names=$(exec grep -aoF "${words[@]}" -- "$sshd" 2>/dev/null)
  [[ $names == *allowusers* ]] || return 0
  for option in "${newer_options[@]%% *}"; do
    [[ $names == *"${option,,}"* ]] || said+="Bad configuration option: $option. "
  done
  tell "set sshd_said $said"
}

# require_login: who the user is, and what sshd would refuse or end a login for, told before anybody tries. Only what is certain:
# sshd asks the same C library, and obeys /etc/nologin itself, for all but root.
require_login() {
  local entry password shell
  entry=$(exec timeout 5 getent passwd "$UID" 2>/dev/null)
  [[ $entry == [^:]*:*:*:*:*:*:* && $entry != *$'\n'* ]] || entry=
  user=${entry%%:*} user=${user:-$(exec id -un)} || fail no-user "this node does not know the user with uid $UID"
  [[ ${CBX_SSH_USER:-$user} == "$user" ]] || fail wrong-user "the lease asks for the user $CBX_SSH_USER, but the job runs as $user"
  tell "set user $user"
  [[ $UID == 0 || ! -e /etc/nologin ]] || fail logins-closed "/etc/nologin is there on $node: $(head -c 200 /etc/nologin 2>/dev/null)"
  [[ $entry ]] || return 0
  password=${entry#*:} password=${password%%:*} shell=${entry##*:} shell=${shell:-/bin/sh}
  [[ $UID == 0 || $password != '!'* ]] || fail logins-closed "the account $user is locked on $node: its password field in passwd begins with !"
  [[ -f $shell && -x $shell ]] || fail no-login-shell "the login shell of $user, $shell, is not on $node: install it there, or change the shell"
  case ${shell##*/} in
    nologin | false) fail no-login-shell "the login shell of $user on $node is $shell, which ends every login" ;;
  esac
}

make_host_key() {
  local kind
  for kind in ed25519 ecdsa 'rsa -b 3072'; do    # a FIPS policy refuses the first
    # shellcheck disable=SC2086 # The last kind is three words.
    ssh-keygen -q -N '' -C '' -t $kind -f "$private/host_key" </dev/null >"$private/keygen.log" 2>&1 && break
    rm -f -- "$private"/host_key*
  done
  [[ -s $private/host_key.pub ]] \
    || fail sshd-failed "ssh-keygen makes no host key: $(tail -n 1 "$private/keygen.log" 2>/dev/null)"
}

# choose_addresses: the client connects to the node's name, so what that name means here is where to listen, unless
# it means only loopback. getent belongs to the C library; without it, or without an answer, all addresses.
choose_addresses() {
  local address name seen=' '
  if [[ ${CBX_BIND_ADDRESS:-} ]]; then
    [[ $CBX_BIND_ADDRESS =~ ^[A-Za-z0-9.:_%-]+$ ]] || fail sshd-failed "CBX_BIND_ADDRESS is not an address: $CBX_BIND_ADDRESS"
    tell "set address $CBX_BIND_ADDRESS"
    return
  fi
  while read -r address _ name; do
    [[ ! $name || $node != "$HOSTNAME" ]] || tell "set full_name $name"
    [[ $address == 127.* || $address == ::1 || $address == fe80:* || $seen == *" $address "* ]] || tell "set address $address"
    seen+="$address "
  done < <(exec timeout 5 getent ahosts "$node" 2>/dev/null)
}

# choose_port: the site's, or one below those that the kernel gives to outgoing connections.
choose_port() {
  local low=${CBX_SSH_PORT%-*} high=${CBX_SSH_PORT#*-} outgoing=0
  if [[ ! $low ]]; then
    low=20000 high=60999
    { read -r outgoing _ </proc/sys/net/ipv4/ip_local_port_range; } 2>/dev/null
    ((outgoing < 21000 || outgoing > high)) || high=$((outgoing - 1))
  fi
  port=$((low + (RANDOM * 32768 + RANDOM) % (high - low + 1)))
  one_port=$((low == high))
}

# A connection that has not logged in yet costs a process, and another user of the cluster can hold many. One address
# has less than all of them, so that it alone can lock nobody out; not much less, because the owner may come from the
# same login host. sshd's -r keeps such a process at 0.12 MiB, where it takes 1.25 if it executes itself anew.
all_startups=600 source_startups=500 login_grace=20

# Options that an older sshd may not know; what is refused is left out. HOME leads the login shell, which sshd always
# starts, away from the user's start-up files, SHLVL keeps bash from them: what they print would end up in a transfer.
newer_options=(
  'PerSourcePenalties no'
  'PermitListen none'
  'PermitUserRC no'
  "PerSourceMaxStartups $source_startups"
  'SetEnv SHLVL=1 HOME=%home ZDOTDIR=%home'
)

write_sshd_config() {
  local user=${user//[^A-Za-z0-9._-]/?}    # @ would mean a host, and nobody else could log in here anyway
  local root=no
  ((UID)) || root=prohibit-password
  {
    ((${#addresses[@]} == 0)) || printf 'ListenAddress %s\n' "${addresses[@]}"
    printf '%s\n' "HostKey $private/host_key
AuthorizedKeysFile $private/authorized_keys
AllowUsers ${user//[^A-Za-z0-9._-]/?}
PermitRootLogin $root
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitUserEnvironment no
AllowAgentForwarding no
X11Forwarding no
PermitTunnel no
GatewayPorts no
AllowStreamLocalForwarding no
AllowTcpForwarding local
PermitOpen localhost:* 127.0.0.1:* [::1]:*
MaxStartups $all_startups
MaxSessions 500
LoginGraceTime $login_grace
ClientAliveInterval 30
ClientAliveCountMax 4
UseDNS no
PrintMotd no
PidFile none
LogLevel INFO
ForceCommand exec $BASH $private/session"
    [[ ! $sftp_server ]] || printf 'Subsystem sftp %s\n' "$sftp_server"
    ((${#newer_options[@]} == 0)) || printf '%s\n' "${newer_options[@]//%home/$private/home}"
  } >"$private/sshd_config"
}

# start_sshd: sshd cannot say which port is free, so it is started on one and asked.
start_sshd() {
  local tries
  ((${#addresses[@]})) || addresses=(0.0.0.0 ::)
  leave_out_what_is_refused
  for ((tries = 0; tries < 40; tries++)); do
    choose_port
    write_sshd_config
    [[ ! -e $sshd_log && ! -L $sshd_log ]] || rm -f -- "$sshd_log"
    "$sshd" -D -r -f "$private/sshd_config" -p "$port" -E "$sshd_log" </dev/null >/dev/null 2>&1 8>&- 9<&- &
    sshd_pid=$! sshd_state=
    step sshd 20 await_sshd
    [[ $sshd_state != ready ]] || return 0
    kill -KILL "$sshd_pid" 2>/dev/null
    read_sshd_log
    case $sshd_said in
      *'already in use'*) ((one_port == 0)) || break ;;
      *'assign requested address'*)
        [[ ! ${CBX_BIND_ADDRESS:-} && ${addresses[0]} != 0.0.0.0 ]] || break
        addresses=(0.0.0.0 ::)
        ;;
      *'Bad configuration option: '*) leave_out_what_is_refused || break ;;
      *) break ;;
    esac
  done
  [[ $sshd_said != *'already in use'* ]] \
    || fail no-free-port "no free port for sshd on $node (last tried: $port): set CBX_SSH_PORT to another port or to a range"
  sshd_said=${sshd_said%%$'\n'*}
  fail sshd-failed "$sshd does not start: ${sshd_said:-it wrote nothing}"
}

# leave_out_what_is_refused: of the newer options, as sshd said; fails when there was none.
leave_out_what_is_refused() {
  local option known=()
  for option in "${newer_options[@]}"; do
    [[ $sshd_said == *"Bad configuration option: ${option%% *}"* ]] || known+=("$option")
  done
  ((${#known[@]} < ${#newer_options[@]})) || return 1
  newer_options=(${known[@]+"${known[@]}"})
}

# prepare_sessions: without a listener, each connection is an sshd of its own, which srun starts in a step of this job.
# It says which process it is, so that its commands count as use and end with the job.
prepare_sessions() {
  leave_out_what_is_refused
  while :; do
    write_sshd_config
    sshd_said=$("$sshd" -t -f "$private/sshd_config" 2>&1) && break
    leave_out_what_is_refused || fail sshd-failed "$sshd refuses its configuration: ${sshd_said%%$'\n'*}"
  done
  publish "$CBX_STATE_DIR/session" "$(
    printf 'umask 077\n: >%q/"$$" && CBX_NONCE=%q exec %q -i -f %q -E %q' \
      "$private/sessions" "$CBX_NONCE" "$sshd" "$private/sshd_config" "$sshd_log"
  )" || fail state-dir-unwritable "cannot write in $CBX_STATE_DIR: is the disk full, or over quota?"
  publish_endpoint
}

# find_doors: leaves in door[pid] the sshds behind which sessions are: the listener, or one a session.
find_doors() {
  local path
  door=()
  [[ ! $sshd_pid ]] || door[sshd_pid]=yes
  for path in "${private:-/nonexistent}"/sessions/*; do
    [[ ${path##*/} =~ ^[1-9][0-9]{0,9}$ ]] || continue
    if ! kill -0 "${path##*/}" 2>/dev/null; then rm -f -- "$path"
    else
      door[${path##*/}]=yes
      [[ ${known_door[${path##*/}]:-} ]] || find_reapers "${path##*/}"
      known_door[${path##*/}]=yes
    fi
  done
}

# await_sshd: until our own sshd listens and answers, and that is published, or it has died. Another one on the port would answer too, so its log
# must say that it got the port, on every address; it answers only after it has tried them all.
await_sshd() {
  local alive
  while :; do
    alive=no
    ! kill -0 "$sshd_pid" 2>/dev/null || alive=yes
    read_sshd_log
    [[ $alive == yes && $sshd_said != *'already in use'* ]] || return
    if [[ $sshd_said == *'Server listening on '* ]] && answers_as_ssh; then
      read_sshd_log
      [[ $sshd_said != *'already in use'* ]] || return
      tell "set sshd_state ready"
      publish_endpoint
      return
    fi
    read -r -t 0.005 -n 16 _ <&8    # this child has none of its own
  done
}

read_sshd_log() {
  sshd_said=
  { IFS= read -r -d '' -n 4096 sshd_said <"$sshd_log"; } 2>/dev/null
  [[ $sshd_said != '-r option is deprecated'* ]] || sshd_said=${sshd_said#*$'\n'}
}

answers_as_ssh() {
  local to=${sshd_said#*Server listening on } fd line=
  to=${to%% *}
  case $to in
    0.0.0.0) to=127.0.0.1 ;;
    ::) to=::1 ;;
  esac
  { exec {fd}<>"/dev/tcp/$to/$port" && IFS= read -r -t 5 -n 8 line <&"$fd"; } 2>/dev/null
  [[ ! $fd ]] || { exec {fd}>&-; } 2>/dev/null
  [[ $line == SSH-2.0-* ]]
}

publish_endpoint() {
  local host_key host=$node full
  begin endpoint 60
  full=${full_name:-$(exec timeout 2 hostname -f 2>/dev/null)} && [[ $full == *[!0-9.]* && $full != localhost* ]] && host=$full
  [[ ! ${CBX_BIND_ADDRESS:-} || $CBX_BIND_ADDRESS == 0.0.0.0 || $CBX_BIND_ADDRESS == :: ]] || host=$CBX_BIND_ADDRESS
  read -r -a host_key <"$private/host_key.pub"
  members nonce "$CBX_NONCE" jobId "${SLURM_JOB_ID:-}" node "$node" host "$host" port "$port" user "$user" readyCheck "${CBX_READY_CHECK:-}"
  publish "$CBX_STATE_DIR/endpoint.json" "{\"format\":1,$REPLY,\"hostKeys\":[\"${host_key[0]} ${host_key[1]}\"]}" \
    || fail state-dir-unwritable "cannot write in $CBX_STATE_DIR: is the disk full, or over quota?"
}

# ---------------------------------------------------------------- the job's processes

# survey [all]: leaves in kind[pid] what each process of this job is:
#   transport  sshd itself, but our listener      command  anything else below it     detached  the rest of the job
# Of the job is what descends from this script, is in the job's cgroup, carries the attempt's nonce in its environment (a
# daemon that left the tree) and is in no other job, or was of the job the last time. The ancestors of this script never
# are, nor is any other user's process. It looks where these are, in the cgroup or down the tree, so that it costs what the
# job has. What left that place at once is seen by `all`, which looks for the nonce everywhere, and is in stranger[pid].
survey() {
  local IFS=$' \t\n' pid up usual=() still_foreign=()
  parent=() name=() group=() tty=() front=() faults=() cpu=() birth=() kind=() stranger=()
  find_doors
  if read_cgroup; then
    for pid in "${!in_cgroup[@]}" "${!door[@]}" "${!mine[@]}"; do read_stat "$pid"; done
  elif ! walk_tree; then read_all
  fi
  if [[ ${1:-} == all ]]; then
    for pid in "${!birth[@]}"; do usual[pid]=yes; done
    foreign=()
    read_marked || read_all
  fi
  for pid in "${!birth[@]}"; do
    [[ $pid != "$$" && $pid != "$sshd_pid" && $pid != "$ticker" && ! ${ancestor[pid]:-} && -O /proc/$pid ]] || continue
    up=$pid
    while [[ ${parent[up]:-} && $up != "$$" && ! ${door[up]:-} ]]; do up=${parent[up]}; done
    if [[ ${door[up]:-} ]]; then
      if [[ ${name[pid]} == sshd* ]]; then kind[pid]='transport'; else kind[pid]='command'; fi
    elif [[ $up == "$$" || ${mine[pid]:-none} == "${birth[pid]}" ]]; then kind[pid]=detached
    elif [[ ${foreign[pid]:-none} == "${birth[pid]}" ]]; then still_foreign[pid]=${birth[pid]}
    elif belongs_here "$pid"; then kind[pid]=detached
    else still_foreign[pid]=${birth[pid]}
    fi
    [[ ! ${1:-} || ! ${kind[pid]:-} || ${usual[pid]:-} ]] || stranger[pid]=${cpu[pid]}
  done
  foreign=() mine=()
  for pid in "${!still_foreign[@]}"; do foreign[pid]=${still_foreign[pid]}; done
  for pid in "${!kind[@]}"; do mine[pid]=${birth[pid]}; done
}

# read_marked: what has the attempt's nonce in its environment, wherever it is. One process that reads fast looks for it and has no nonce
# itself: a user with a hundred leases on a node has hundreds of processes, and all leases may end at once. Fails where this
# script is not found by it.
read_marked() {
  local path nonce=$CBX_NONCE marked=() found=
  mapfile -t marked < <(
    unset CBX_NONCE
    LC_ALL=C exec timeout -s KILL 10 grep -aslzxF -- "CBX_NONCE=$nonce" /proc/[0-9]*/environ 8>&- 9<&-
  )
  for path in ${marked[@]+"${marked[@]}"}; do
    path=${path#/proc/} path=${path%/environ}
    [[ $path != "$$" ]] || found=yes
    [[ ! -O /proc/$path ]] || read_stat "$path"
  done
  [[ $found ]]
} 2>/dev/null

read_all() {
  local dir
  for dir in /proc/[0-9]*; do [[ ! -O $dir ]] || read_stat "${dir#/proc/}"; done
}

# read_stat PID: once in a survey. By lines, because of bash's buffer; a name may hold a line end.
read_stat() {
  local line='' part field
  [[ ! ${birth[$1]:-} ]] || return 0
  { while IFS= read -r part || [[ $part ]]; do line+=$part$'\n'; done <"/proc/$1/stat"; } 2>/dev/null
  # shellcheck disable=SC2206 # Numbers and one letter, after a name that may hold anything.
  field=(${line##*)})
  [[ ${#field[@]} -gt 20 && ${field[0]} != Z && ${field[1]}.${field[19]} =~ ^[0-9]+\.[0-9]+$ ]] || return 1
  line=${line#*(}
  name[$1]=${line%)*} parent[$1]=${field[1]} group[$1]=${field[2]} tty[$1]=${field[4]} front[$1]=${field[5]} faults[$1]=${field[8]}
  cpu[$1]=$((field[11] + field[12] + field[13] + field[14])) birth[$1]=${field[19]}
}

# find_job_cgroup CGROUPS MOUNTS: leaves in job_cgroup the directory of the cgroup that Slurm made for this job alone, which
# its name says. It has all steps below it. Any other that this script is in may hold more than the job.
find_job_cgroup() {
  local controllers path line base rest mounts=()
  job_cgroup=
  [[ ${SLURM_JOB_ID:-} =~ ^[1-9][0-9]*$ ]] || return
  mapfile -t mounts <"$2"    # by lines the kernel would write it all anew for each
  while IFS=: read -r _ controllers path; do
    [[ $path =~ ^(.*/job_$SLURM_JOB_ID)(/|$) ]] || continue
    path=${BASH_REMATCH[1]}
    for line in ${mounts[@]+"${mounts[@]}"}; do
      rest=${line#* - } line=${line#* * * } base=${line%% *} line=${line#* }
      if [[ ! $controllers ]]; then [[ $rest == 'cgroup2 '* ]] || continue
      else [[ $rest == 'cgroup '* && ,${rest##* }, == *",${controllers%%,*},"* ]] || continue
      fi
      job_cgroup=${line%% *}${path#"${base%/}"}
      read_cgroup && return
    done
  done <"$1"
  job_cgroup=
} 2>/dev/null

# read_cgroup: leaves in in_cgroup what is in the job's cgroup and in those below. Fails where that cannot be read, or
# where this script is not in it, as seen from here.
read_cgroup() {
  local file pid
  in_cgroup=()
  [[ $job_cgroup ]] || return 1
  for file in "$job_cgroup"/**/cgroup.procs; do
    if ! { while read -r pid; do in_cgroup[pid]=yes; done <"$file"; } 2>/dev/null && [[ -e $file ]]; then
      in_cgroup=()
      return 1
    fi
  done
  [[ ${in_cgroup[$$]:-} ]] || { in_cgroup=(); return 1; }
}

# walk_tree: reads what is below this script, the doors and what was of the job before, and the orphans that are of the job:
# whose parent ends goes to one of its ancestors, in the end to the first process. Fails where the kernel tells no children.
walk_tree() {
  local pid up next queue=("$$" "${!door[@]}") walked=()
  for up in "${!reaper[@]}"; do
    if ! read_children "$up"; then
      [[ $up != 1 && ! -d /proc/$up ]] || return 1
      unset "reaper[up]" "orphans[up]"
      continue
    fi
    [[ ${children[*]} != "${orphans[up]:-}" ]] || continue
    for pid in "${children[@]}"; do
      [[ " ${orphans[up]:-} " != *" $pid "* && -O /proc/$pid ]] && read_stat "$pid" && belongs_here "$pid" && mine[pid]=${birth[pid]}
    done
    orphans[up]=${children[*]}
  done
  queue+=("${!mine[@]}")
  while ((${#queue[@]})); do
    next=()
    for pid in "${queue[@]}"; do
      [[ ! ${walked[pid]:-} ]] || continue
      walked[pid]=yes
      read_stat "$pid" && [[ ${mine[pid]:-${birth[pid]}} == "${birth[pid]}" ]] && read_children "$pid" && next+=("${children[@]}")
    done
    queue=("${next[@]}")
  done
  return 0
}

# read_children PID: leaves them in children; each thread has its own. Fails where there are no such files.
read_children() {
  local file some
  children=()
  for file in "/proc/$1/task/"*/children; do
    [[ $file != */\*/* ]] || return 1
    some=()
    { read -r -a some <"$file"; } 2>/dev/null
    children+=("${some[@]}")
  done
}

# find_reapers PID: what started it, up to the first process: one of them gets what it leaves without a parent.
find_reapers() {
  local up=$1
  reaper[1]=yes
  while read_stat "$up" && up=${parent[up]} && ((up)); do reaper[up]=yes; done
}

# belongs_here PID: it is in the job's cgroup, or has the attempt's nonce and is no older than what started this script. A
# job that a session submits inherits that, but has a number and, where Slurm tracks by cgroup, a cgroup of its own.
belongs_here() {
  local item ours=${in_cgroup[$1]:-no}
  [[ $ours == yes || ${birth[$1]} -ge $begun ]] && [[ ${name[$1]} != slurmstepd ]] || return 1
  while IFS= read -r -d '' item; do
    case $item in
      "CBX_NONCE=$CBX_NONCE") ours=yes ;;
      CBX_NONCE=*) return 1 ;;
      SLURM_JOB_ID=*) [[ ! ${SLURM_JOB_ID:-} || $item == "SLURM_JOB_ID=$SLURM_JOB_ID" ]] || return 1 ;;
    esac
  done <"/proc/$1/environ"
  [[ $ours == yes ]] || return 1
  while read -r item; do
    [[ ! $item =~ /job_([0-9]+)(/|$) || ! ${SLURM_JOB_ID:-} || ${BASH_REMATCH[1]} == "$SLURM_JOB_ID" ]] || return 1
  done <"/proc/$1/cgroup"
  return 0
} 2>/dev/null

# look [all]: anybody at work? Then the idle clock starts anew. Work is
#   a session's command, silent or not, that was there at the last look too; on a terminal, what runs in the foreground
#   a session's shell whose commands have come and gone since the last look, as in a loop that waits for something
#   input at a terminal
#   anything in the job, detached or not, that has used a hundredth of a core since the last look
# A connection without a command is no work, nor is a shell that waits (what it runs is), a terminal multiplexer, or
# an open sftp.
look() {
  local pid seen used=0 sessions=no at_work=no there=() terminals=() input=''
  survey "$@"
  for pid in "${!kind[@]}"; do
    [[ ${kind[pid]} != transport ]] || continue
    used=$((used + cpu[pid] - ${cpu_then[pid]:-${stranger[pid]:-0}}))
    [[ ${kind[pid]} == command ]] || continue
    sessions=yes
    ((tty[pid] == 0)) || terminals[tty[pid]]=/dev/pts/$((tty[pid] & 0xff | tty[pid] >> 12 & 0xfff00))
    ((tty[pid] == 0 || group[pid] == front[pid])) || continue
    [[ ! ${name[pid]} =~ ^(sftp-server|(tmux|screen).*)$ ]] || continue
    # A shell is known by what has ended under it: each command leaves page faults in its parent's sum.
    seen=${birth[pid]}
    [[ ! ${name[pid]} =~ ^(ba|da|z|c|tc|k|mk|fi)?sh$ ]] || seen+=.${faults[pid]}
    there[pid]=$seen
    case ${there_then[pid]:-} in
      '') ;;
      "$seen") [[ $seen == *.* ]] || at_work=yes ;;
      "${birth[pid]}".*) at_work=yes ;;
    esac
  done
  ((${#terminals[@]} == 0)) || input=$(stat -c %n:%X -- "${terminals[@]}" 2>/dev/null)
  # 100 ticks a second, so one tick a second is a hundredth of a core.
  if [[ $at_work == yes || $input != "$input_then" ]] || ((used > uptime - looked_at)) \
    || [[ $told_state == running && $sessions == yes ]]; then
    active_at=$uptime
  fi
  cpu_then=() there_then=() input_then=$input looked_at=$uptime
  for pid in "${!kind[@]}"; do cpu_then[pid]=${cpu[pid]}; done
  for pid in "${!there[@]}"; do there_then[pid]=${there[pid]}; done
}

# ---------------------------------------------------------------- watching

# read_deadline: what the adapter asks for now. Anything that is not exactly such a line is ignored. The time that is
# left counts from the first sight of the text, by this machine's own clock: the adapter's may be hours away.
read_deadline() {
  local text='' line left=''
  [[ -f $CBX_STATE_DIR/deadline && ! -L $CBX_STATE_DIR/deadline ]] || return
  { IFS= read -r -d '' -n 512 text <"$CBX_STATE_DIR/deadline"; } 2>/dev/null
  [[ $text != "$deadline_then" ]] || return
  deadline_then=$text
  while [[ $text == *$'\n'* ]]; do
    line=${text%%$'\n'*} text=${text#*$'\n'}
    if [[ $line =~ ^ttl_left=([0-9]{1,10}|never)$ ]]; then left=yes ends_at=${BASH_REMATCH[1]/never/-}
      if [[ $ends_at == - ]]; then ends_at=0; else ends_at=$((uptime + 10#$ends_at)); fi
    elif [[ ! $left && $line =~ ^ttl=([0-9]{1,11})$ ]]; then
      ends_at=$((10#${BASH_REMATCH[1]}))
      ((ends_at == 0)) || ends_at=$((uptime + ends_at - epoch > 0 ? uptime + ends_at - epoch : 1))
    elif [[ $line =~ ^idle=([0-9]{1,9})$ ]]; then idle=$((10#${BASH_REMATCH[1]}))
    elif [[ $line =~ ^state=([a-z_-]{1,32})$ ]]; then told_state=${BASH_REMATCH[1]}
    fi
  done
}

# has_changed FILE: whether its time is another one than at the last call. Only then it costs a process.
has_changed() {
  local seen=$private/time.${1##*/}
  [[ ! $private || $1 -nt $seen || $1 -ot $seen ]] || return 1
  [[ ! $private ]] || touch -r "$1" -- "$seen" 2>/dev/null
  return 0
}

# read_markers: a lease that is handed out, or handed out again, gets its grace anew.
read_markers() {
  local time
  [[ ! -e $CBX_STATE_DIR/kept ]] || kept=yes
  [[ $taken == no && -e $CBX_STATE_DIR/answered ]] && has_changed "$CBX_STATE_DIR/answered" || return 0
  if time=$(stat -c %Y -- "$CBX_STATE_DIR/answered" 2>/dev/null) && [[ $time != "$answered" ]]; then
    answered=$time offered_at=$uptime active_at=$uptime
  fi
}

# messages_are_seen: before an end that a message could have moved. Some file systems remember for half a minute and more that
# there was no such name; a listing asks their server. A name that is listed and cannot be opened for longer than that is none.
messages_are_seen() {
  local names name unseen=
  names=$'\n'$(timeout 5 ls -A -- "$CBX_STATE_DIR" 2>/dev/null)$'\n'
  for name in deadline kept answered; do
    [[ $names != *$'\n'"$name"$'\n'* || -e $CBX_STATE_DIR/$name ]] || unseen=yes
  done
  [[ $unseen ]] || { unseen_since=; return 0; }
  unseen_since=${unseen_since:-$uptime}
  ((uptime - unseen_since >= 90))
}

# session_began: each session renews the time of the file `began`. A file, because a message could get lost.
session_began() {
  : >"$private/seen"
  active_at=$uptime
  [[ $taken == no ]] || return
  taken=yes
  publish "$CBX_STATE_DIR/taken" "$epoch"
}

# Slurm sends USR1 some minutes before the wall time, with a short limit much later than it was asked to. When that is,
# newer versions have said at the start; older ones are asked this once.
wall_time_is_near() {
  local told
  [[ ! $warned ]] || return
  read_clocks
  wall_time=${end_time:-$((epoch + 300))} warned=$epoch    # TERM may come any moment now
  if [[ ! $end_time ]]; then
    told=$(SLURM_TIME_FORMAT=%s timeout 2 squeue --noheader --jobs="${SLURM_JOB_ID:-0}" --format=%e 2>/dev/null)
    [[ ! $told =~ ^[0-9]{9,11}$ ]] || end_time=$told wall_time=$told
  fi
  [[ $phase != serving ]] || announce_wall_time
}

# To whom, if not to a lease? Who claims a spare by then is told at once.
announce_wall_time() {
  [[ ! $unclaimed ]] || return 0
  local text="$wall_time the allocation's time limit is near: the job and its work directory end then"
  publish "$CBX_STATE_DIR/warning" "$text"
  publish "$work/.slurm-sandbox-ending" "$text"
  # A command as in a session, from the work directory; what it prints goes to the job's output.
  [[ ! ${CBX_ON_ENDING:-} ]] \
    || (cd -- "$work" && SSH_ORIGINAL_COMMAND=$CBX_ON_ENDING exec "$BASH" "$private/session") </dev/null 8>&- 9<&- &
}

told_to_end() {
  read_clocks
  # Slurm never ends a job before its time; clocks may differ, and a time that is only guessed may be off by a minute.
  if [[ $warned ]] && ((epoch >= wall_time - (${#end_time} ? 5 : 60))); then finish walltime "the allocation reached its time limit"; fi
  finish cancelled "the job was told to end: scancel, preemption or a limit"
}

# watch [PID]: the one loop. It looks at every limit, while a step of the start runs (until that has ended) and while
# sessions are served (for ever).
watch() {
  local pid=${1:-} every
  step_died=
  while :; do
    await_event
    [[ ! $pid ]] || heed "$pid" || return 0
    read_clocks

    # A job that stood still for a while (suspended) was not idle in that time.
    if ((uptime - previous > 30)); then
      active_at=$((active_at + uptime - previous)) offered_at=$((offered_at + uptime - previous))
      ((stage_ends == 0)) || stage_ends=$((stage_ends + uptime - previous))
    fi
    previous=$uptime

    look_for_permit
    case $permit in
      held) gone_since= ;;
      lost)
        gone_since=${gone_since:-$uptime}
        ((uptime - gone_since < 2)) || finish permit-removed "this attempt has lost its permit"
        ;;
    esac
    [[ ! $private || -O $private/owner ]] || fail private-dir-lost "$private is gone: something on $node removes what lies there; set TMPDIR to another place"
    ((stage_ends == 0 || uptime < stage_ends)) || takes_too_long
    [[ ! $unclaimed || $phase != serving || ! -f $private/decided ]] || begin_lease
    [[ $phase != serving ]] || watch_sessions
    if ((uptime >= next_look)); then
      if [[ ! $unclaimed ]]; then
        read_deadline
        read_markers
      fi
      [[ $phase != serving ]] || look
      every=10
      ((grace == 0 || grace / 4 >= every)) || every=$((grace / 4))
      ((idle == 0 || idle / 4 >= every)) || every=$((idle / 4))
      next_look=$((uptime + every + (every == 0)))
      if [[ -d $CBX_STATE_DIR ]]; then lost_since=; else lost_since=${lost_since:-$uptime}; fi
      [[ ! $lost_since ]] || ((uptime - lost_since < 60)) || finish state-dir-gone "$CBX_STATE_DIR is gone"
      ((uptime - trimmed_at < 60)) || trim_log
    fi

    if ((ends_at && uptime >= ends_at)) && messages_are_seen; then
      read_deadline
      ((ends_at == 0 || uptime < ends_at)) || finish ttl "the lease's time to live is over"
    fi
    [[ ! $end_time ]] || ((epoch < end_time - 300)) || wall_time_is_near
    if [[ $unclaimed ]]; then
      ((uptime - offered_at < spare)) || unused unclaimed "$spare" "no lease took this spare within $spare s"
    elif [[ $taken == no && $kept == no ]] && ((grace)); then
      if ((uptime - offered_at >= grace)) && messages_are_seen; then
        read_markers
        [[ $kept == yes ]] || ((uptime - offered_at < grace)) || unused untaken "$grace" "no session began within $grace s"
      fi
    elif ((idle && uptime - active_at >= idle)) && messages_are_seen; then
      read_deadline
      [[ $phase != serving ]] || look all
      # Another look tells whether what was not seen before is at work; one is enough.
      if ((idle && uptime - active_at >= idle && ${#stranger[@]})) && [[ $active_at != "$put_off" ]]; then
        active_at=$((uptime - idle + (idle < 20 ? (idle + 3) / 4 : 5))) put_off=$active_at
      fi
      ((idle == 0 || uptime - active_at < idle)) || unused idle "$idle" "no command and no busy process for $idle s"
    fi
  done
}

# read_claim: leaves in lease and work whose this job is now. Code in the sandbox could have written there since.
read_claim() {
  local winner=''
  { IFS= read -r -n 17 winner <"$private/decided"; } 2>/dev/null
  [[ ! $winner =~ ^cbx_[0-9a-f]{12}$ ]] || lease=$winner
  unclaimed='' work=$root/$lease
}

# begin_lease: as if it had been handed out at this moment.
begin_lease() {
  read_claim
  offered_at=$uptime active_at=$uptime next_look=$uptime
  ((ttl == 0)) || ends_at=$((uptime + ttl))
  say "claimed by $lease"
  [[ ! $warned ]] || announce_wall_time
}

watch_sessions() {
  [[ ! $private/began -nt $private/seen ]] || session_began
  [[ $listen == yes ]] || return 0
  if kill -0 "$sshd_pid" 2>/dev/null; then sshd_died=
  elif [[ ! $sshd_died ]]; then sshd_died=$uptime    # scancel's TERM reaches sshd too; then that is the reason
  elif ((uptime > sshd_died)); then fail sshd-failed "sshd ended by itself: see sshd.log"
  fi
}

# unused REASON SECONDS DETAIL: nobody could use what has not started.
unused() {
  [[ $stage != preamble ]] || fail preamble-timeout "the preamble has not ended within $2 s: $(tail -c 300 -- "$CBX_STATE_DIR/preamble.log" 2>/dev/null)"
  finish "$1" "$3"
}

takes_too_long() {
  case $stage in
    sshd)
      read_sshd_log
      [[ $sshd_said == *'Server listening on '* ]] || fail sshd-silent "sshd on $node has not begun to listen on ${addresses[*]} port $port within 20 s"
      fail sshd-silent "sshd listens on ${addresses[*]} port $port but takes no connection from its own node $node: /etc/hosts.deny or a firewall there"
      ;;
    launcher) fail launcher-failed "the launcher does not start bash within 120 s: $(tail -c 300 -- "$private/launcher.log" 2>/dev/null)" ;;
    *) fail start-timeout "a step of the start ($stage) does not end on $node: a file system or name service there hangs" ;;
  esac
}

# trim_log: sshd appends a few lines for each connection.
trim_log() {
  local size
  trimmed_at=$uptime
  [[ -f $sshd_log && ! -L $sshd_log ]] && has_changed "$sshd_log" || return
  size=$(stat -c %s -- "$sshd_log" 2>/dev/null)
  ((${size:-0} < 262144)) || : >"$sshd_log"
}

# ---------------------------------------------------------------- the end

# refuse_claims: none succeeds from now on. Fails when one just has; then the job is that lease's.
refuse_claims() {
  [[ $unclaimed && $private ]] || return 0
  mkdir -- "$private/decided" 2>/dev/null || [[ ! -f $private/decided ]]
}

# finish REASON DETAIL [STATUS]: the only way out; the first reason wins. Only the end of a spare that nobody took is
# called off by a claim that comes before it. The commands go before sshd: without it they would run on, where nobody
# finds them. Slurm kills what is left after KillWait, so nothing here takes long.
finish() {
  local LC_ALL=C IFS=$' \t\n'
  local reason=$1 detail=${2//[^[:print:]]/ } status=${3:-0} aside whose=lease claimed=() trees=()
  [[ $reason == unclaimed ]] || trap '' TERM INT HUP USR1
  if ! refuse_claims; then
    [[ $reason != unclaimed ]] || return 0
    read_claim
  fi
  trap '' TERM INT HUP USR1
  trap - EXIT
  say "ending: $reason: $detail"
  umask 077
  if [[ $unclaimed ]]; then whose=spare; elif ((spare)); then claimed=(leaseId "$lease"); fi
  [[ ! $watching ]] || stop_processes "$whose $lease ends: $detail"
  if [[ $private ]]; then
    move_aside "$private"
    trees+=("$aside")
  fi
  if [[ $phase == serving || $stage == endpoint || $reason == requeued ]]; then rm -f -- "$CBX_STATE_DIR/endpoint.json" "$CBX_STATE_DIR/session"; fi
  # A signal may come between what a step has made and what it says, and takes from the pipe what it interrupts.
  if [[ ! $work_made && $stage == work-dir && $(timeout -s KILL 5 head -n 1 -- "$owner" 2>/dev/null) == "$own_mark" ]]; then work_made=yes; fi
  [[ ! $work_made ]] || give_up_work_dirs
  read_clocks
  members nonce "$CBX_NONCE" jobId "${SLURM_JOB_ID:-}" "${claimed[@]}" reason "$reason" detail "${detail:0:500}" at "$epoch"
  [[ $reason == requeued && -e $CBX_STATE_DIR/ending.json ]] || publish "$CBX_STATE_DIR/ending.json" "{\"format\":1,$REPLY}"
  remove_tree 600 "${trees[@]}"
  [[ ! $work_made ]] || sweep_work_root
  exit "$status"
}

# give_up_work_dirs: leaves in trees what is to be removed. Another attempt of the lease may have its work directory by now. A
# claim may have come no further than the seat's; then one with the lease's name and another mark, or none, is not ours.
give_up_work_dirs() {
  local name unmoved=''
  [[ $lease == "$seat" || ! -d $root/$seat ]] || unmoved=yes
  for name in "$seat" "$lease"; do
    if read_mark "$root/.$name.owner"; then [[ $mark == "$own_mark" ]] || continue
    elif [[ $unmoved && $name == "$lease" ]]; then continue
    fi
    move_work_dir "$name" "$CBX_NONCE"
    trees+=("$root/$name" "$root/.$name.$CBX_NONCE" "$root/.$name.owner")
    [[ $lease != "$seat" ]] || break
  done
}

# tell_sessions TEXT: a line for who sits in a session, on its terminal or its stderr. A pipe that nobody empties would hold
# its writer, so that one is not waited for; what has its stderr in a file has no reader. Once for a session, by the process
# that sshd started.
tell_sessions() {
  local pid to end round writers=()
  for pid in "${!kind[@]}"; do
    [[ ${kind[pid]} == command && ${kind[${parent[pid]}]:-} == transport ]] || continue
    to=/proc/$pid/fd/2 end=$'\n'
    ((tty[pid] == 0)) || end=$'\r\n' to=/dev/pts/$((tty[pid] & 0xff | tty[pid] >> 12 & 0xfff00))
    [[ -p $to || $to == /dev/pts/* && -c $to ]] || continue
    { printf 'slurm-sandbox: %s%s' "$1" "$end" >"$to"; } 2>/dev/null 8>&- 9<&- &
    writers+=($!)
  done
  for ((round = 0; round < 25 && ${#writers[@]}; round++)); do
    kill -0 "${writers[@]}" 2>/dev/null || return 0
    await_event
  done
}

# stop_processes [TEXT]: says the text to sessions, then TERM, and after a second and a half KILL, until nothing of the job is
# left but sshd. The first look and the last one are at all processes.
stop_processes() {
  local pid round left all=all
  [[ ! $sshd_pid ]] || kill -STOP "$sshd_pid" 2>/dev/null    # no new logins
  [[ $listen == yes ]] || rm -f -- "$private/sshd_config"
  foreign=()
  for ((round = 0; round < 60; round++)); do
    survey $all
    if ((round == 0 && ${#kind[@]})); then
      start_ticker 0.04
      tell_sessions "$1"
    fi
    left=
    for pid in "${!kind[@]}"; do
      [[ ${kind[pid]} != transport ]] || continue
      left=yes
      if ((round > 30)); then kill -KILL "$pid"
      elif ((round == 0)); then
        # A shell at its prompt takes no notice of TERM; what it ought to get is HUP.
        ((tty[pid] == 0 || front[pid] != group[pid])) || kill -HUP "$pid"
        kill -TERM "$pid"
      fi
    done 2>/dev/null
    if [[ $left ]]; then
      all=
      await_event
    elif [[ $all ]]; then break
    else all=all
    fi
  done
  for pid in "${!kind[@]}" $sshd_pid; do kill -KILL "$pid"; done 2>/dev/null
  [[ ! $sshd_pid ]] || wait "$sshd_pid" 2>/dev/null
  [[ ! $ticker ]] || kill -KILL "$ticker" 2>/dev/null
}

left_unexpectedly() { fail runner-failed "the runner ended in the middle (status $?)"; }

set_traps() {
  trap told_to_end TERM INT HUP
  trap wall_time_is_near USR1
  trap left_unexpectedly EXIT
}

# ---------------------------------------------------------------- the course of the job

# The two steps of the start.
make_room() {
  make_private_dir
  begin preamble 0
  prepare
}

make_ready() {
  make_work_dir
  begin key 60
  copy_public_key
  begin sshd-path 60
  find_sshd
  begin login 20
  require_login
  begin host-key 60
  make_host_key
  [[ $listen == yes ]] || return 0
  begin addresses 20
  choose_addresses
}

phase=starting stage=other stage_ends=0 private='' work_made='' sshd_pid='' sshd='' sshd_said='' sftp_server='' full_name='' warned='' watching='' ticker=''
gone_since='' lost_since='' unseen_since='' sshd_died='' deadline_then='' own_mark=''
taken=no kept=no answered='' told_state='' input_then='' mine=() foreign=() cpu_then=() there_then=()
reaper=() ancestor=() orphans=() known_door=() in_cgroup=() stranger=() job_cgroup='' put_off=''
reject() {
  say "bad-request: $1: this script is submitted by slurm-sandbox"
  exit 1
}
for name in 'CBX_LEASE_ID:cbx_[0-9a-f]{12}' 'CBX_NONCE:[0-9a-f]{16}' CBX_{STATE_DIR,PERMIT_FILE,WORK_ROOT,SSH_PUBLIC_KEY_FILE}:/.+; do
  pattern="^${name#*:}$" name=${name%%:*}
  [[ ${!name:-} =~ $pattern ]] || reject "$name is missing or malformed"
done
for name in CBX_TAKEN_GRACE_SECONDS CBX_IDLE_TIMEOUT_SECONDS CBX_TTL_SECONDS CBX_SPARE_SECONDS SLURM_RESTART_COUNT; do
  [[ ${!name:-0} =~ ^[0-9]{1,10}$ ]] || reject "$name is not a number"
done
[[ ${CBX_SSH_PORT:-1} =~ ^([1-9][0-9]{0,4})(-([1-9][0-9]{0,4}))?$ && ${BASH_REMATCH[3]:-65535} -ge ${BASH_REMATCH[1]} ]] \
  || reject "CBX_SSH_PORT is neither a port nor a range of them"
grace=$((10#${CBX_TAKEN_GRACE_SECONDS:-300})) idle=$((10#${CBX_IDLE_TIMEOUT_SECONDS:-1800})) ends_at=0
ttl=$((10#${CBX_TTL_SECONDS:-0})) spare=$((10#${CBX_SPARE_SECONDS:-0})) unclaimed=''
((spare == 0)) || unclaimed=yes
[[ ${SLURM_JOB_END_TIME:-} =~ ^([0-9]{9,11})$ ]]
end_time=${BASH_REMATCH[1]:-}
root=${CBX_WORK_ROOT%/}
seat=$CBX_LEASE_ID lease=$seat work=$root/$CBX_LEASE_ID owner=$root/.$CBX_LEASE_ID.owner
sshd_log=$CBX_STATE_DIR/sshd.log
node=${SLURMD_NODENAME:-$HOSTNAME}
listen=yes
[[ ${CBX_LISTEN:-yes} != no ]] || listen=no
set_traps
[[ ! ${asked_to_end:-} ]] || told_to_end
[[ ! ${told_of_wall_time:-} ]] || wall_time_is_near

cd / || exit
shopt -s globstar
make_path_absolute

((10#${SLURM_RESTART_COUNT:-0} == 0)) || finish requeued "the job was requeued: a lease does not move"
require_one_job
require_permit
find_reapers "$$"
for name in "${!reaper[@]}"; do ancestor[name]=yes; done
begun=${birth[$PPID]:-0}
find_job_cgroup "/proc/$$/cgroup" "/proc/$$/mountinfo"
read_clocks
offered_at=$uptime active_at=$uptime looked_at=$uptime trimmed_at=$uptime previous=$uptime next_look=$((uptime + 1))
[[ $unclaimed ]] || ((ttl == 0)) || ends_at=$((uptime + ttl))
: "${HOME:=~}"
while read -r name session_umask && [[ $name != Umask: ]]; do :; done </proc/$$/status
[[ $session_umask =~ ^[0-7]{4}$ ]] || session_umask=$(umask)    # before Linux 4.7
umask 077
exec 8<> <(:)
watching=yes
start_ticker 0.5
make_mark
step private 60 make_room

export LC_ALL=C
((UID)) || mkdir -p /run/sshd
addresses=() port=22
step work-dir 60 make_ready
write_session_wrapper
[[ ! ${CBX_LAUNCHER:-} ]] || step launcher 120 try_launcher
if [[ $listen == yes ]]; then start_sshd; else step sessions 60 prepare_sessions; fi
phase=serving active_at=$uptime
start_ticker 2    # what follows is not waited for
if [[ $listen == yes ]]; then say "serving $CBX_LEASE_ID as $user on $node port $port"; else say "serving $CBX_LEASE_ID as $user on $node, without a listener"; fi
[[ ! $warned ]] || announce_wall_time
watch
