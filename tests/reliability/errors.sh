# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# Errors of the file system at each write: a full disk, a full quota, a file system that became read-only, a broken one;
# and at each lock: one that has none.

ERRNOS=(ENOSPC EDQUOT EROFS EIO)
LOCK_ERRNOS=(ENOLCK ENOSYS EOPNOTSUPP EIO)

# error_at OPERATION CALL FROM TO STEP
error_at() {
  local operation=$1 call=$2 from=$3 n first survived=0
  row 2.1 'full disk, full quota, read-only, broken disk' \
    'ENOSPC, EDQUOT, EROFS, EIO at the n-th mkdirat, renameat, fsync, write, openat of acquire, release, list, once and from there on; then acquire or list, release'
  [[ $call != flock ]] || row 2.2 'a file system without locks' \
    'ENOLCK, ENOSYS, EOPNOTSUPP, EIO at the n-th flock of acquire, release, list, once and from there on; then acquire or list, release'
  for ((n = from; n <= $4; n += $5)); do
    ERRNO=${ERRNOS[n % 4]} MORE=''
    [[ $call != flock ]] || ERRNO=${LOCK_ERRNOS[n % 4]}
    # A disk that is full stays so for a while. What is only read, or goes to stdout, is not what fills a disk.
    ((n % 2)) || [[ $call == openat ]] || MORE=+
    if [[ $call == openat && $n == "$from" ]]; then
      # Before the first file of ours the loader and libc open theirs.
      first=$(first_own_open "$operation")
      ((n >= first)) || n=$((first + (n - first) % $5))
    fi
    begin error_at "$operation" "$call" "$n" "$n" 1
    if error_once "$operation" "$call" "$n"; then
      survived=0
    elif ((++survived == 2)); then
      break
    fi
  done
}

first_own_open() {
  new_lease
  request list "$LEASE" >"$W/request"
  strace -qq -o "$W/strace" -e trace=openat "$BIN" --state-dir "$STATE" <"$W/request" >/dev/null 2>&1
  grep -nF "$STATE" "$W/strace" | head -n 1 | cut -d : -f 1
}

# error_once OPERATION CALL N: 1 when there is no n-th call.
error_once() {
  local operation=$1 call=$2 n=$3 before=''
  new_lease
  if [[ $operation != acquire ]]; then
    must_lease "$LEASE" || return 0
    before=$CLOUD_ID
  fi
  request "$operation" "$LEASE" ',"acquireTimeoutSeconds":20' >"$W/request"
  timeout -s KILL 100 strace -qq -o "$W/strace" -e "trace=$call" -e "inject=$call:error=$ERRNO:when=$n$MORE" \
    "$BIN" --state-dir "$STATE" <"$W/request" >"$W/out" 2>"$W/err"
  RC=$?
  local hit
  hit=$(grep -m 1 INJECTED "$W/strace")
  # An answer that cannot be written is not a state of the lease; nothing else may suffer.
  if ! grep -q '^write(1,.*INJECTED' "$W/strace"; then
    read_answer "$operation"
    if [[ $ERROR && $hit ]]; then told "$operation"; fi
    if [[ $operation == release && $MESSAGE == *'its job has ended'* ]]; then honest "$LEASE"; fi
  elif ((RC == 0)); then
    bad answer "$operation exits with 0 although its answer could not be written"
  fi
  still_known "$LEASE"
  case $operation in
    acquire) if ((n % 3)); then must_lease "$LEASE"; fi ;;
    list) must_resolve "$LEASE" "$before" ;;
  esac
  end_lease "$LEASE"
  [[ $hit ]]
}

# told OPERATION: the message names the trouble in the words of the system.
told() {
  case $ERROR in
    *'No locks'* | *'not implemented'* | *'not supported'* | *'No space left'* | *'quota'* | *'Read-only'* | *'I/O error'* | *'Input/output'* | *'os error'* | *ENOSPC* | *EDQUOT* | *EROFS* | *EIO*) ;;
    *) bad answer "$1 does not say what the file system said ($ERRNO): $ERROR" ;;
  esac
}
