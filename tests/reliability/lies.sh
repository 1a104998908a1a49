# shellcheck shell=bash disable=SC2001,SC2016,SC2034,SC2153 # the files of this directory share their variables; what is quoted is for others
# What Slurm prints is partly written by the owner of a job, and so by code in a lease: its name, comment and directory.

FORGED_ROWS=(row neighbour end marks query cluster controls empty long renamed)

# forged_text KIND JOB NEIGHBOUR: what is written into name and comment.
forged_text() {
  local s=$'\x1f' mark=0123456789abcdef0123456789abcdef user row
  user=$(on_client 'id -u')
  row="$2${s}CANCELLED${s}None${s}n1${s}1${s}2${s}3${s}batch${s}$user"
  case $1 in
    row) printf 'x\n@%s%s/x%s%s%sn%sc%s%s$\n' "$row" "$s" "$s" "$user" "$s" "$s" "$s" "$2" ;;
    # In the words of today's query, for the job of another lease.
    neighbour) printf '%s$\n%s@%s%smine%s/x%sx%s$\n' "$mark" "$mark" "${row/#$2/$3}" "$mark" "$mark" "$mark" "$mark" ;;
    end) printf '\n\n\n' ;;
    marks) printf '%s@%s%s$' "$mark" "$mark" "$mark" ;;
    query) printf '%%i|%%T|%%k $(touch %s) `touch %s`; touch %s' "$W/pwned" "$W/pwned" "$W/pwned" ;;
    cluster) printf 'x\nCLUSTER: annex\n%s\n' "$row" ;;
    controls) printf '\033]0;owned\007\033[2J\r\b\x7f\x1f' ;;
    empty) printf ' ' ;;
    long) printf 'cbx:%.0s' {1..250} ;;
    renamed) printf 'mine' ;;
  esac
}

# rewrite JOB TEXT: as its owner may.
rewrite() { on_client "scontrol update jobid=$1 jobname=$(printf %q "$2") comment=$(printf %q "$2")"; }

# shown_as LEASE: status and state in the last list.
shown_as() {
  sed 's/{"leaseId"/\n&/g' <<<"$OUT" | sed -n "s/^{\"leaseId\":\"$1\".*\"status\":\"\([A-Z]*\)\".*\"state\":\"\([a-z]*\)\".*/\1 \2/p"
}

# forged_job KIND BEFORE: the lie stands before BEFORE and all that follows: list, resolve, cleanup or release.
forged_job() {
  local kind=$1 liar beside job neighbour text operation cloud other
  row 6.5 'rows, ends, marks and control characters in name and comment of a job' \
    'written by code in a lease before list, resolve, touch, cleanup, release, for its own job and a neighbour'\''s; then all of them, release of both'
  begin forged_job "$@"
  rm -f -- "$W/pwned"
  new_lease
  must_lease "$LEASE" || return
  beside=$LEASE other=$CLOUD_ID
  new_lease
  must_lease "$LEASE" || return
  liar=$LEASE cloud=$CLOUD_ID job=${CLOUD_ID#slurm/job/} neighbour=${other#slurm/job/}
  text=$(forged_text "$kind" "$job" "$neighbour"; printf .)
  rewrite "$job" "${text%.}" || die "the job cannot be rewritten ($kind)"
  if [[ $2 != release ]]; then
    for operation in "$2" list resolve touch cleanup; do
      call "$operation" "$liar" ',"resolveWaitSeconds":5'
      case $operation in
        resolve) [[ $CLOUD_ID == "$cloud" ]] || bad lost "resolve of a rewritten job gives '$CLOUD_ID': $ERROR$MESSAGE" ;;
        cleanup) [[ $MESSAGE == 'nothing to clean up' ]] || bad wrong "cleanup beside a rewritten job: $OUT" ;;
        list)
          [[ $(shown_as "$liar") == 'RUNNING ready' ]] || bad lost "a rewritten job is shown as $(shown_as "$liar"): $OUT"
          [[ $(shown_as "$beside") == 'RUNNING ready' ]] || bad lost "the neighbour of a rewritten job is shown as $(shown_as "$beside"): $OUT"
          ;;
      esac
      ! printf '%s' "$OUT$(<"$W/err")" | tr -d '\n\t' | grep -q '[[:cntrl:]]' || bad wrong "control characters of a job reach the client of $operation"
    done
  fi
  call release "$liar"
  # By its id: its name says nothing any more.
  if [[ $MESSAGE == *'its job has ended'* || $MESSAGE == *'does not exist'* ]]; then
    [[ $(state_by_id "$job") != @(RUNNING|PENDING) ]] || bad lies "'$MESSAGE' while job $job is $(state_by_id "$job")"
  fi
  wait_for 30 has_ended "$job" || bad leaked "job $job lives after the release of its rewritten lease"
  end_lease "$liar"
  must_resolve "$beside" "$other"
  end_lease "$beside"
  [[ ! -e $W/pwned ]] || bad wrong 'words of a job were run'
}
has_ended() { [[ $(state_by_id "$1") != @(RUNNING|PENDING|COMPLETING|SUSPENDED) ]]; }
