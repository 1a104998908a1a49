# shellcheck shell=bash disable=SC2034,SC2153,SC2016 # the files of this directory share their variables; what is quoted is for others
# The allocation turns against us: code in it rewrites what it can reach. Nothing of that may run here, lead anywhere
# else, or keep the lease from its release.

FORGERIES=(huge binary empty truncated fifo link-file link-dir directory device port port-shell host user key proxy ready nonce host-keys deep)
REPLACED=(attempt-link attempt-gone attempt-file lease-link lease-gone lease-file permit-link permit-dir permit-other attempt-locked jobs-link)

# forge KIND FILE: writes a lie in place of FILE.
forge() {
  local kind=$1 file=$2 run
  run='$(touch '"$W/pwned"');touch '"$W/pwned"';`touch '"$W/pwned"'`'
  rm -rf -- "$file"
  case $kind in
    huge) head -c 30000000 /dev/zero | tr '\0' a >"$file" ;;
    binary) head -c 5000 /dev/urandom >"$file" ;;
    empty) : >"$file" ;;
    truncated) printf '{"port":' >"$file" ;;
    fifo) mkfifo "$file" ;;
    link-file) ln -s "$W/outside/secret" "$file" ;;
    link-dir) ln -s "$W/outside" "$file" ;;
    directory) mkdir -p "$file/x" && : >"$file/x/y" ;;
    device) ln -s /dev/zero "$file" ;;
    port) printf '{"port":"1"}' >"$file" ;;
    port-shell) printf '{"port":"22 -o ProxyCommand=touch %s"}' "$W/pwned" >"$file" ;;
    host) printf '{"port":"1","host":"-oProxyCommand=touch %s"}' "$W/pwned" >"$file" ;;
    user) printf '{"port":"1","user":"%s","host":"%s"}' "$run" "$run" >"$file" ;;
    key) printf '{"port":"1","key":"%s","identityFile":"/etc/passwd"}' "$W/outside/secret" >"$file" ;;
    proxy) printf '{"port":"1","proxyCommand":"touch %s","loginHost":"%s"}' "$W/pwned" "$run" >"$file" ;;
    ready) printf '{"port":"1","readyCheck":"touch %s","reason":"%s","detail":"%s"}' "$W/pwned" "$run" "$run" >"$file" ;;
    nonce) printf '{"port":"1","nonce":"ffffffffffffffff"}' >"$file" ;;
    host-keys) printf '{"port":"1","hostKeys":["ssh-ed25519 %s\\n@cert-authority * ssh-ed25519 AAAA"]}' "$run" >"$file" ;;
    deep) printf '[%.0s' {1..60000} >"$file" ;;
  esac
}

# replace KIND ATTEMPT LEASE_DIR: puts something else in place of a directory.
replace() {
  local kind=$1 attempt=$2 lease=$3
  case $kind in
    attempt-link) rm -rf -- "$attempt" && ln -s "$W/outside" "$attempt" ;;
    attempt-gone) rm -rf -- "$attempt" ;;
    attempt-file) rm -rf -- "$attempt" && : >"$attempt" ;;
    lease-link) rm -rf -- "$lease" && ln -s "$W/outside" "$lease" ;;
    lease-gone) rm -rf -- "$lease" ;;
    lease-file) rm -rf -- "$lease" && : >"$lease" ;;
    permit-link) ln -sfn "$W/outside/secret" "$lease/permit" ;;
    permit-dir) rm -f -- "$lease/permit" && mkdir -p "$lease/permit/x" ;;
    permit-other) printf 'ffffffffffffffff\n' >"$lease/permit" ;;
    attempt-locked) chmod 0 "$attempt" ;;
    jobs-link) rm -rf -- "$attempt/jobs" && ln -s "$W/outside" "$attempt/jobs" ;;
  esac
}

prepare_outside() {
  rm -rf -- "$W/outside" "$W/pwned"
  mkdir "$W/outside"
  printf 'a secret of somebody else\n' >"$W/outside/secret"
  printf '{"port":"1"}' >"$W/outside/endpoint.json"
  : >"$W/outside/permit"
}

# nothing_escaped: nothing ran here, nothing outside was read, written or deleted.
nothing_escaped() {
  [[ ! -e $W/pwned ]] || bad wrong 'code of the sandbox ran on the client'
  local file
  [[ -e $W/outside/permit && $(<"$W/outside/secret") == 'a secret of somebody else' ]] || bad wrong "outside there is now $(find "$W/outside" | tr '\n' ' ')"
  for file in "$W"/outside/*; do
    case ${file##*/} in
      secret | permit) ;;
      # Written by the job, which can write there without our help.
      endpoint.json | ending.json | sshd.log | slurm-*.out | taken | warning | preamble.log) ;;
      *) bad wrong "written outside: $file" ;;
    esac
  done
  ! grep -qr 'a secret of somebody' "$W/out" "$W/err" "$STATE/leases" 2>/dev/null || bad wrong 'something outside was read'
}

# all_operations: each of them, bounded, and never led astray.
all_operations() {
  local operation
  for operation in resolve list touch cleanup; do
    call "$operation" "$LEASE" ',"resolveWaitSeconds":2'
    ((MS < 60000)) || bad answer "$operation took $MS ms"
    [[ $CODE != internal ]] || bad answer "$operation: $OUT"
    nothing_escaped
  done
}

# forged_after KIND FILE: a file of the attempt is rewritten after the answer.
forged_after() {
  local before attempt
  row 6.1 'files of the sandbox rewritten after the answer' 'endpoint.json, ending.json, answered, deadline, authorized_keys, the job'\''s output: huge, binary, links, FIFO, directory, other host, port, user, key, commands, shell text; then resolve, list, touch, cleanup, release'
  begin forged_after "$@"
  prepare_outside
  new_lease
  must_lease "$LEASE" || return
  before=$CLOUD_ID attempt=$STATE/shared/$LEASE/$(permit_of "$LEASE")
  local file=$2
  [[ $file != output ]] || file=slurm-${before#slurm/job/}.out
  forge "$1" "$attempt/$file"
  must_resolve "$LEASE" "$before"
  [[ $OUT != *pwned* && $OUT != *outside* ]] || bad wrong "the answer repeats what the sandbox wrote: $OUT"
  all_operations
  end_lease "$LEASE"
  nothing_escaped
}

# forged_before KIND: a runner that publishes a lie.
forged_before() {
  row 6.2 'an endpoint that lies before the answer' 'a runner that publishes it in place of its own, with each of these; then resolve, list, touch, cleanup, release'
  begin forged_before "$@"
  prepare_outside
  new_lease
  export -f forge
  # The job itself writes the lie: it is the code in the sandbox.
  {
    printf '#!/bin/bash\n# slurm-sandbox runner contract: 1\nW=%q\n' "$W"
    declare -f forge
    printf 'forge %s "$CBX_STATE_DIR/endpoint.json"\nwhile [[ -f $CBX_PERMIT_FILE ]]; do sleep 0.5; done\n' "$1"
  } >"$W/runner"
  call acquire "$LEASE" ",\"runnerScript\":\"$W/runner\",\"acquireTimeoutSeconds\":2" ',"keep":true'
  [[ ! $CLOUD_ID ]] || bad lies "a lie was handed out: $OUT"
  [[ $OUT != *"$W/pwned"* || $ERROR ]] || bad wrong "$OUT"
  nothing_escaped
  if [[ -e $STATE/leases/$LEASE ]]; then all_operations; fi
  end_lease "$LEASE"
  nothing_escaped
}

# replaced KIND WHEN: a directory is replaced, before or after the answer.
replaced() {
  local attempt
  row 6.3 'directories of the sandbox replaced' 'attempt, lease, permit, jobs: a link to somewhere else, a file, gone, unreadable; before and after the answer; then resolve, list, touch, cleanup, release'
  begin replaced "$@"
  prepare_outside
  new_lease
  if [[ $2 == before ]]; then
    set_fault sched pause
    call acquire "$LEASE" ',"acquireTimeoutSeconds":1' ',"keep":true'
  else
    must_lease "$LEASE" || return
  fi
  attempt=$STATE/shared/$LEASE/$(permit_of "$LEASE")
  replace "$1" "$attempt" "$STATE/shared/$LEASE"
  clear_faults
  all_operations
  if [[ $2 == before ]]; then call acquire "$LEASE" ',"acquireTimeoutSeconds":5' ',"keep":true'; nothing_escaped; fi
  end_lease "$LEASE"
  nothing_escaped
}

# root_replaced: the shared dir itself is a link.
root_replaced() {
  row 6.3 'directories of the sandbox replaced' 'attempt, lease, permit, jobs: a link to somewhere else, a file, gone, unreadable; before and after the answer; then resolve, list, touch, cleanup, release'
  begin root_replaced
  clean_state
  prepare_outside
  new_lease
  must_lease "$LEASE" || return
  mv "$STATE/shared" "$STATE/shared.was"
  ln -s "$W/outside" "$STATE/shared"
  all_operations
  release_once "$LEASE"
  nothing_escaped
  rm -f -- "$STATE/shared"
  mv "$STATE/shared.was" "$STATE/shared"
  # Out of reach, it could not be removed.
  [[ -e $STATE/leases/$LEASE ]] || rm -rf -- "$STATE/shared/$LEASE"
  end_lease "$LEASE"
  nothing_escaped
}

# secrets: what is in the environment of the caller, and the private key, stay there.
secrets() {
  local secret='kEpt-To-Itself-4711' where key
  row 6.4 'secrets' 'planted in the environment; looked for with the private key in argv, job environment, comment, records, events, shared files'
  begin secrets
  new_lease
  export AWS_SECRET_ACCESS_KEY=$secret CBX_TOKEN=$secret SLURM_JWT=$secret
  must_lease "$LEASE"
  unset AWS_SECRET_ACCESS_KEY CBX_TOKEN SLURM_JWT
  fake-slurm env "${CLOUD_ID#slurm/job/}" | tr '\0' '\n' >"$W/jobenv"
  [[ -s $W/jobenv ]] || die 'the environment of the job cannot be seen'
  where=$(grep -rlF "$secret" "$W/jobenv" "$W/out" "$W/err" "$W/site" "$STATE" 2>/dev/null | grep -v '/env$')
  [[ ! $where ]] || bad wrong "a secret of the caller is in ${where//$'\n'/ }"
  key=$(sed -n 2p "$STATE/leases/$LEASE/id_ed25519")
  where=$(grep -rlF "$key" "$W/jobenv" "$W/out" "$W/err" "$W/site" "$STATE/shared" "$STATE/leases/$LEASE/record.json" 2>/dev/null)
  [[ ! $where ]] || bad wrong "the private key is in ${where//$'\n'/ }"
  end_lease "$LEASE"
}
