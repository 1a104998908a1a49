# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# File systems that hang or are slow, for one call at a time: a library between the program and the system (shim.c).

# need_shim: makes it once. Without a compiler nothing is proven.
need_shim() {
  local shim=$ROOT/shim.so
  {
    flock 8
    [[ -e $shim ]] || cc -shared -fPIC -o "$shim.new" "$REPOSITORY/tests/reliability/shim.c" -ldl 2>"$W/cc" || die "no C compiler: $(tail -n 1 "$W/cc")"
    [[ -e $shim ]] || mv "$shim.new" "$shim"
  } 8>"$ROOT/shim.lock"
}

# under_shim COMMAND...: what SHIMMED says, for the program alone: it gives its children an environment of their own.
SHIMMED=()
under_shim() {
  if ((${#SHIMMED[@]})); then env LD_PRELOAD="$ROOT/shim.so" "${SHIMMED[@]}" "$@"; else "$@"; fi
}

# What each may take, in seconds, while the file system never answers: a release must be heard by its client.
declare -A HUNG_BOUND=([release]=30 [list]=45 [resolve]=30 [touch]=30 [cleanup]=60 [acquire]=45)

# Where the shared dir lies, how it is made to hang or slow, how it answers again: of the fake; campus.sh has the other way.
hung_place() { printf '%s/hung' "$W"; }
hang() {
  need_shim
  SHIMMED=(SHIM_PATH="$1")
  [[ ! ${2:-} ]] || SHIMMED+=(SHIM_WAIT="$2")
}
heal() { SHIMMED=(); }

# hung OPERATION [MS]: the shared dir of a lease in use hangs, or takes MS a call.
hung() {
  local operation=$1 before other place job=''
  row 2.3 'a file system that hangs' 'the shared dir never answers, or takes 50 or 300 ms a call, during acquire, release, resolve, list, touch, cleanup, beside a lease elsewhere; it answers again; then the same, release'
  begin hung "$@"
  place=$(hung_place)
  on_client "mkdir -p -m 700 $place"
  new_lease
  other=$LEASE
  must_lease "$other" || return
  before=$CLOUD_ID
  new_lease
  SHARED=$place
  if [[ $operation != acquire ]]; then
    must_lease "$LEASE" ",\"sharedDir\":\"$place\"" || return
    job=${CLOUD_ID#slurm/job/}
  fi
  hang "$place" "${2:-}"
  call "$operation" "$LEASE" ",\"acquireTimeoutSeconds\":20,\"resolveWaitSeconds\":3,\"sharedDir\":\"$place\""
  ((MS <= 1000 * HUNG_BOUND[$operation])) || bad answer "$operation took $MS ms while the shared dir hangs"
  case $operation in
    acquire) [[ ! $CLOUD_ID ]] || one_job "$LEASE" ;;
    release)
      # The job is ended all the same; the lease is gone only with its permit.
      wait_for 20 has_ended "$job" || bad stuck "a release beside a shared dir that hangs does not end the job: $OUT"
      [[ ! $MESSAGE ]] || honest "$LEASE"
      [[ ! $MESSAGE || ! $(permit_of "$LEASE") ]] || bad lies "'$MESSAGE' while its permit is there"
      ;;
    list) [[ $OUT == *"\"leaseId\":\"$LEASE\""* && $OUT == *"\"leaseId\":\"$other\""* ]] || bad lost "list beside a shared dir that hangs: $OUT" ;;
  esac
  heal "$place"
  if [[ $operation == acquire ]]; then
    still_known "$LEASE"
    must_lease "$LEASE" ",\"sharedDir\":\"$place\""
  elif [[ $operation != release ]]; then
    must_resolve "$LEASE" "slurm/job/$job"
  fi
  release_all "$LEASE"
  # What was too slow to remove lies aside, until a cleanup that knows the place.
  call cleanup "$LEASE" ",\"sharedDir\":\"$place\""
  nothing_left "$LEASE"
  SHARED=''
  must_resolve "$other" "$before"
  end_lease "$other"
}
