# shellcheck shell=bash
# How Slurm's versions differ in what they know and say. The setting Version chooses; a command asks `speaks NAME`.
#
# 20.11, 22.05, 24.11 and 26.05 were measured, and tests/contract holds the fake against each of them. Of the versions
# between nobody here has a cluster: `read` marks what Slurm's source or change log says of them. Where nothing was read,
# a difference begins with the first version that was measured to have it.

# NAME: the first version that has it, and where it ended the first that has it no more.
declare -A DIFFERENCES=(
  # Options and values.
  [scancel-me]=22.05 [prefer]=22.05
  [tres-per-task]=23.11
  [exclusive-topo]=24.05                 # read
  # What clients say.
  [states-of-requeue]=22.05              # more states are listed as valid
  [state-expediting]=25.11               # read
  [states-in-lower-case]=24.11           # 23.02 has not, read
  [unknown-uid-error]=22.05:26.05
  [gres-checked-by-client]=22.05
  [cluster-fatal]=24.11                  # 23.02 has not, read
  [test-only-a]=26.05
  [binding-complaint]=20.11:24.11
  [dead-ping-fails]=22.05
  # sbatch, when munge comes back after the controller has hung up. 24.11 works.
  [late-munge-endpoint]=20.11:22.05 [late-munge-socket]=22.05:24.11 [late-munge-bufs]=26.05
  # What the controller decides. 25.11.2 accepts again what never fits, read.
  [impossible-refused]=24.11:25.11.2
  # What becomes of a job whose output cannot be written.
  [output-failure-launch]=22.05:24.11 [output-failure-signal]=24.11
  [stamped-step-errors]=26.05
  # The job's environment.
  [env-node-aliases]=20.11:24.11 [env-working-cluster]=20.11:24.11
  [env-times]=23.02                      # read
  [env-oom-kill-step]=24.11 [env-exclusive]=26.05 [env-sluid]=26.05 [env-batch-step]=26.05
  # How squeue's %b and scontrol begin a GRES: with nothing, `gres:` or `gres/`.
  [gres-bare]=20.11:22.05 [gres-slash]=24.11
  # Fields of scontrol.
  [job-scheduler]=22.05
  [job-req-tres]=23.02 [job-power]=20.11:24.11    # read: 23.02 has both
  [job-exclusive]=26.05 [job-submit-line]=26.05
  [partition-topo]=24.11:26.05 [partition-exclusive-user]=20.11:26.05 [partition-nodesets]=24.11
  [partition-tres]=22.05
  [node-effective-cpus]=22.05 [node-last-busy]=22.05 [node-comment]=20.11:22.05 [node-cap-watts]=20.11:24.11
  [node-resume-after]=24.11 [node-suspend-time]=26.05
  [task-plugin-null]=24.11
  [config-error-without-blank]=26.05
)

# version_number VERSION: 22.05.8 as a number that can be compared, in NUMBER.
version_number() {
  local year month micro
  IFS=. read -r year month micro <<<"$1"
  NUMBER=$(((10#$year * 100 + 10#$month) * 1000 + 10#${micro:-0}))
}

# speaks NAME: whether the chosen version has this difference.
speaks() {
  local from=${DIFFERENCES[$1]:-}
  [[ $from ]] || die "there is no difference of dialects '$1'"
  version_number "${from%%:*}"
  ((DIALECT >= NUMBER)) || return 1
  [[ $from == *:* ]] || return 0
  version_number "${from#*:}"
  ((DIALECT < NUMBER))
}

# said NAME TEXT [ELSE]: TEXT if the chosen version has this difference, else ELSE.
said() { if speaks "$1"; then printf %s "$2"; else printf %s "${3-}"; fi; }

choose_dialect() {
  version_number "$1"
  DIALECT=$NUMBER
}
