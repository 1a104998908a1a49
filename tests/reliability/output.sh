# shellcheck shell=bash disable=SC2034,SC2153 # the files of this directory share their variables
# What Slurm's commands print is cut, empty, garbled or wrapped; what surrounds us is strange. Nothing may follow from it.

FAULTS_OUTPUT=(empty 'truncate 3' truncate garble banner 'banner 4711' banner-after 'banner-after 12' banner-between
  banner-stderr 'error-exit0' 'error-exit0 slurm_load_jobs~error:~Unexpected~message~received' 'delay real')

# output_fault OPERATION COMMAND FAULT [VALUE]
output_fault() {
  row "4.1$(row_of "$2")" "output of $2" 'empty, truncated, garbage, banners before, between and after (with digits), on stderr, an error text with exit 0, late; mended; then the same, release'
  begin output_fault "$@"
  under_fault "$@"
}

# surroundings WHAT: the whole life of a lease in a strange place.
surroundings() {
  local before
  row 4.2 'environment' 'SQUEUE_*, SBATCH_*, SCANCEL_*, SLURM_* that steer Slurm, another time zone and language, a deleted working directory, no PATH but the site'\''s, closed streams; acquire, resolve, list, cleanup, release'
  begin surroundings "$@"
  new_lease
  (
    case $1 in
      squeue) export SQUEUE_STATES=CANCELLED SQUEUE_USERS=nobody SQUEUE_FORMAT=%i SQUEUE_NAMES=x SQUEUE_PARTITION=closed SQUEUE_SORT=-i ;;
      sbatch) export SBATCH_ARRAY_INX=1-3 SBATCH_PARTITION=closed SBATCH_TIMELIMIT=1 SBATCH_WAIT=1 SBATCH_EXPORT=NONE SBATCH_HOLD=1 SBATCH_REQUEUE=1 SBATCH_JOB_NAME=x ;;
      scancel) export SCANCEL_NAME=x SCANCEL_STATE=PENDING SCANCEL_INTERACTIVE=1 SCANCEL_ACCOUNT=x SCANCEL_BATCH=1 ;;
      slurm) export SLURM_JOB_ID=1 SLURM_JOBID=1 SLURM_CLUSTERS=nowhere SLURM_TIME_FORMAT=standard SLURM_NTASKS=9 SLURM_MEM_PER_CPU=1 SLURM_RESTART_COUNT=3 SACCT_FORMAT=x ;;
      zone) export TZ=Pacific/Kiritimati LANG=tr_TR.UTF-8 ;;
      gone) mkdir "$W/gone" && cd "$W/gone" && rmdir "$W/gone" ;;
      bash) export BASH_ENV=$W/poison ENV=$W/poison PS4='$(touch '"$W/pwned"')' SHELLOPTS && printf 'touch %q\n' "$W/pwned" >"$W/poison" ;;
    esac
    must_lease "$LEASE"
    before=$CLOUD_ID
    call list "$LEASE"
    [[ $OUT == *"$LEASE"* ]] || bad lost "list: $OUT"
    call cleanup "$LEASE"
    must_resolve "$LEASE" "$before"
    end_lease "$LEASE"
  )
}
