//! The questions. A script that makes jobs tells their ids with `is job ID`.

/// Helpers for the scripts.
pub const PRELUDE: &str = r#"
cd "$(mktemp -d -p ~)" && echo "IS dir $PWD"
trap 'rm -rf "$PWD"' EXIT
is() { echo "IS $*"; }
submit() { J=$(sbatch --parsable -o /dev/null "$@") && is job "${J%;*}"; }
await() { local i; for ((i = 0; i < 300; i++)); do [[ $(squeue -h -t all -j "$1" -o %T) == "$2" ]] && return; sleep 0.05; done; echo "no $2"; }
told() { local i; for ((i = 0; i < 75; i++)); do [[ $(sacct -X -n -P -j "$J" -o JobName,End) == "$1"\|2* ]] && return; sleep 0.2; done; echo "not told"; }
script() { printf '#!/bin/bash\n%s\n' "$*"; }
"#;

pub const QUESTIONS: &[(&str, &str)] = &[
    // ---------------------------------------------------------------- squeue
    ("squeue: nothing of that name", "squeue -h --me -t all -n no-such-name -o %A"),
    ("squeue: an unknown id", "squeue -h -j 999999 -o %A"),
    ("squeue: an unknown id, all states", "squeue -h -t all -j 999999 -o %A"),
    ("squeue: two unknown ids", "squeue -h -j 999998,999999 -o %A"),
    ("squeue: a bad id", "squeue -h -j abc"),
    ("squeue: a bad state", "squeue -h -t nonsense"),
    ("squeue: a bad option", "squeue --frobnicate"),
    ("squeue: an unknown user", "squeue -h -u nobody-at-all -o %A"),
    ("squeue: an unknown uid", "squeue -h -u 4242 -o %A"),
    ("squeue: an unknown cluster", "squeue -h -M nowhere"),
    ("squeue: another cluster, nothing there", "squeue -M annex -h -n no-such-name"),
    ("squeue: the header", "squeue --me -n no-such-name"),
    (
        "squeue: the header of a format",
        "squeue --me -n no-such-name -o '%A|%T|%r|%B|%V|%S|%e|%P|%U|%C|%m|%j|%Z|%k|%a|%q|%b'",
    ),
    (
        "squeue: a waiting job",
        "submit -p closed -J waits --comment 'one two' --wrap true; squeue -h -j $J -o '%A|%T|%r|%B|%S|%P|%U|%j|%k|%R'; scancel $J",
    ),
    ("squeue: a held job", "submit -H -J held --wrap true; squeue -h -j $J -o '%T|%r|%R|%k'; scancel $J"),
    (
        "squeue: a running job",
        "submit -J runs --wrap 'sleep 60'; await $J RUNNING; squeue -h -j $J -o '%A|%T|%r|%B|%N|%P|%U|%u|%j|%k|%c|%C|%D'; scancel $J",
    ),
    (
        "squeue: what a job has",
        "submit --gres=gpu:1 -c 2 --mem 100 --wrap 'sleep 60'; await $J RUNNING; squeue -h -j $J -o '%C|%m|%48a|%32q|%48b|'; scancel $J",
    ),
    (
        "squeue: what a job has that asks for little",
        "submit -H --wrap true; squeue -h -j $J -o '%C|%m|%48a|%32q|%48b|'; scancel $J",
    ),
    (
        "squeue: a cancelled job",
        "submit -H --wrap true; scancel $J; await $J CANCELLED; squeue -h -t all -j $J -o '%A|%T|%r|%B'",
    ),
    (
        "squeue: a cancelled job without -t all",
        "submit -H --wrap true; scancel $J; await $J CANCELLED; squeue -h -j $J -o %T; echo rc $?",
    ),
    ("squeue: a failed job", "submit --wrap 'exit 3'; await $J FAILED; squeue -h -t all -j $J -o '%T|%r'"),
    ("squeue: a completed job", "submit --wrap true; await $J COMPLETED; squeue -h -t all -j $J -o '%T|%r'"),
    (
        "squeue: by name and state",
        "submit -H -J by-name-$RANDOM$RANDOM --wrap true; squeue -h --me -t all -n $(squeue -h -j $J -o %j) -o %A; scancel $J",
    ),
    ("squeue: a known and an unknown id", "submit -H --wrap true; squeue -h -t all -j $J,999999 -o %A; scancel $J"),
    (
        "squeue: times as seconds",
        "submit -H --wrap true; SLURM_TIME_FORMAT=%s squeue -h -j $J -o '%V|%S|%e'; scancel $J",
    ),
    (
        "squeue: the environment hides a job",
        "submit -H --wrap true; SQUEUE_STATES=RUNNING squeue -h -j $J -o %T; SQUEUE_FORMAT=%T squeue -h -j $J; SQUEUE_NAMES=x squeue -h --me -o %A | grep -x $J; scancel $J",
    ),
    (
        "squeue: singleton",
        "N=single-$RANDOM$RANDOM; submit -J $N --dependency=singleton --wrap 'sleep 60'; A=$J; await $A RUNNING; submit -J $N --dependency=singleton --wrap true; squeue -h -j $J -o '%T|%r'; scancel $A; await $J COMPLETED; squeue -h -t all -j $J -o %T",
    ),
    (
        "squeue: a time limit that never fits",
        "submit -p short -t 30 --wrap true; sleep 2; squeue -h -j $J -o '%T|%r'; scancel $J",
    ),
    (
        "squeue: cpus that never fit",
        "submit -c 5000 --wrap true && { sleep 2; squeue -h -j $J -o '%T|%r'; scancel $J; }",
    ),
    (
        "squeue: nodes that never fit",
        "submit -N 90 --wrap true && { sleep 2; squeue -h -j $J -o '%T|%r'; scancel $J; }",
    ),
    // ---------------------------------------------------------------- sbatch
    ("sbatch: an unknown partition", "sbatch -p nope --wrap true"),
    ("sbatch: two partitions, one unknown", "sbatch -p batch,nope --wrap true"),
    ("sbatch: an unknown account", "sbatch -A nobody --wrap true"),
    ("sbatch: an unknown qos", "sbatch --qos=long --wrap true"),
    ("sbatch: an unknown feature", "sbatch -C unobtainium --wrap true"),
    ("sbatch: an unknown node", "sbatch -w n99 --wrap true"),
    ("sbatch: an unknown gres", "sbatch --gres=unicorn:1 --wrap true"),
    ("sbatch: too many gpus", "sbatch --gres=gpu:99 --wrap true"),
    ("sbatch: too much memory", "sbatch --mem=900T --wrap true"),
    ("sbatch: an unknown reservation", "sbatch --reservation=nobody --wrap true"),
    ("sbatch: an unknown license", "sbatch -L nobody:1 --wrap true"),
    ("sbatch: a bad time", "sbatch -t soon --wrap true"),
    ("sbatch: a bad number of cpus", "sbatch -c 0 --wrap true"),
    ("sbatch: a bad number", "sbatch -c x --wrap true"),
    ("sbatch: a bad memory", "sbatch --mem=much --wrap true"),
    ("sbatch: a bad dependency", "sbatch --dependency=nonsense --wrap true"),
    ("sbatch: an unknown cluster", "sbatch -M nowhere --wrap true"),
    ("sbatch: an unknown option", "sbatch --frobnicate --wrap true"),
    ("sbatch: an ambiguous option", "sbatch --no --wrap true"),
    ("sbatch: an option of 22.05", "sbatch --prefer=unobtainium --wrap true"),
    ("sbatch: an option of 23.11", "submit --tres-per-task=cpu=1 -H --wrap true && scancel $J"),
    ("sbatch: a value of 24.05", "submit --exclusive=topo -H --wrap true && scancel $J"),
    (
        "sbatch: when it would start",
        "sbatch --test-only --wrap true 2>&1 | sed -E 's/Job [0-9]+/Job N/; s/at [0-9T:-]+/at TIME/'",
    ),
    ("sbatch: when it would start, never", "sbatch --test-only -c 5000 --wrap true"),
    (
        "sbatch: the variables of a job",
        "script 'env | grep -o ^SLURM_[A-Z_]* | sort' | sbatch --parsable -J named -o out >id; J=$(<id); is job $J; await $J COMPLETED; tr '\\n' ' ' <out",
    ),
    ("sbatch: no script on stdin", "sbatch </dev/null"),
    ("sbatch: no shebang", "echo true | sbatch"),
    ("sbatch: DOS line ends", r"printf '#!/bin/bash\r\ntrue\r\n' | sbatch"),
    ("sbatch: a script that is missing", "sbatch no-such-script"),
    (
        "sbatch: without --parsable",
        "sbatch -H -o /dev/null --wrap true >out; cat out; is job $(tr -dc 0-9 <out); scancel $(tr -dc 0-9 <out)",
    ),
    (
        "sbatch: parsable",
        "sbatch --parsable -H -o /dev/null --wrap true >out; cat out; is job $(<out); scancel $(<out)",
    ),
    (
        "sbatch: parsable, another cluster",
        "sbatch --parsable -M annex -H -o /dev/null --wrap true >out; cat out; J=$(<out); is job ${J%;*}; scancel -M annex ${J%;*}",
    ),
    (
        "sbatch: a script on stdin with its own options",
        "script '#SBATCH -J from-script' '' | sed 's/ -J/\\n&/;' >s; printf '#!/bin/bash\\n#SBATCH -J from-script\\ntrue\\n' | sbatch --parsable -H -o /dev/null >out; is job $(<out); squeue -h -j $(<out) -o %j; scancel $(<out)",
    ),
    (
        "sbatch: what a job finds",
        "script 'echo $SLURM_JOB_NAME $SLURM_JOB_PARTITION $SLURM_CPUS_PER_TASK $SLURM_JOB_NUM_NODES $SLURM_CLUSTER_NAME $SLURM_JOB_USER $SLURM_JOB_ACCOUNT $SLURM_JOB_QOS ${SLURM_RESTART_COUNT-unset} $SLURM_JOB_ID $SLURM_JOBID $SLURMD_NODENAME; pwd; echo $MARK; umask' | MARK=mark sbatch --parsable -J found -c 2 -o out-%j.txt --export=ALL >out; is job $(<out); await $(<out) COMPLETED; cat out-$(<out).txt",
    ),
    (
        "sbatch: a job's output is kept where it is told",
        "J=$(script 'echo out; echo err >&2; exit 4' | sbatch --parsable -o o-%j -e e-%j); is job $J; await $J FAILED; cat o-$J e-$J",
    ),
    (
        "sbatch: the output cannot be written",
        "J=$(script true | sbatch --parsable -o /nonexistent/dir/x); is job $J; await $J FAILED; squeue -h -t all -j $J -o '%T|%r'; scontrol -o show job $J | tr ' ' '\\n' | grep ^ExitCode",
    ),
    // ---------------------------------------------------------------- scancel
    ("scancel: an unknown id", "scancel 999999"),
    ("scancel: a bad id", "scancel abc"),
    ("scancel: nothing", "scancel"),
    ("scancel: an option of 22.05", "scancel --me --name=no-such-name; echo rc $?"),
    ("scancel: no match", "scancel --name=no-such-name; echo rc $?"),
    ("scancel: an unknown cluster", "scancel -M nowhere 1"),
    ("scancel: a job that has ended", "submit --wrap true; await $J COMPLETED; scancel $J; echo rc $?"),
    ("scancel: twice", "submit -H --wrap true; scancel $J; scancel $J; echo rc $?"),
    (
        "scancel: a job of another state",
        "submit -H --wrap true; SCANCEL_STATE=RUNNING scancel $J; squeue -h -j $J -o %T; scancel $J",
    ),
    ("scancel: an unknown and a known id", "submit -H --wrap true; scancel 999999 $J; echo rc $?; await $J CANCELLED"),
    // Its child may be signalled first, and what waits for it go on before its own signal comes.
    (
        "scancel: what the job sees",
        "J=$(script 'trap \"echo TERM; exit 0\" TERM; touch ready; while :; do sleep 60 & wait; done' | sbatch --parsable -o o); is job $J; until [[ -e ready ]]; do sleep 0.1; done; scancel $J; await $J CANCELLED; sed -E 's/^\\[[0-9T:.-]+\\]/[TIME]/; s/JOB .*/JOB .../' o; squeue -h -t all -j $J -o '%T|%r'",
    ),
    // ---------------------------------------------------------------- scontrol
    ("scontrol: ping", "scontrol ping"),
    ("scontrol: an unknown job", "scontrol show job 999999"),
    (
        "scontrol: a partition's fields",
        "scontrol -o show partition batch | tr ' ' '\\n' | grep -oE '^[A-Za-z]+=' | tr -d '\\n'",
    ),
    (
        "scontrol: a node's fields",
        "scontrol -o show node $(sinfo -h -N -p batch -o %n | head -n 1) | tr ' ' '\\n' | grep -oE '^[A-Za-z]+=' | tr -d '\\n'",
    ),
    ("scontrol: no task plugin", "scontrol show config | grep '^TaskPlugin '"),
    ("scontrol: an unknown partition", "scontrol show partition nope"),
    ("scontrol: an unknown word", "scontrol frobnicate"),
    ("scontrol: process tracking", "scontrol show config | grep -c '^ProctrackType *= proctrack/'"),
    (
        "scontrol: a waiting job's fields",
        "submit -H -J fields --comment x --no-requeue --wrap true; scontrol -o show job $J | tr ' ' '\\n' | grep -oE '^[A-Za-z/:_]+=' | tr -d '\\n'; echo; scancel $J",
    ),
    (
        "scontrol: a waiting job",
        "submit -H -J fields --comment 'a b' --no-requeue -t 17 --wrap true; scontrol -o show job $J | grep -oE '(JobId|JobName|JobState|Reason|Requeue|Restarts|ExitCode|TimeLimit|Partition|Comment|BatchFlag|Account|QOS)=[^ ]*'; scancel $J",
    ),
    (
        "scontrol: a failed job",
        "submit --wrap 'exit 3'; await $J FAILED; scontrol -o show job $J | grep -oE '(JobState|Reason|ExitCode|BatchHost)=[^ ]*'",
    ),
    (
        "scontrol: hold and release",
        "submit -p closed --wrap true; scontrol hold $J; squeue -h -j $J -o %r; scontrol release $J; scancel $J",
    ),
    (
        "scontrol: requeue what may not be",
        "submit --no-requeue --wrap 'sleep 60'; await $J RUNNING; scontrol requeue $J; echo rc $?; scancel $J",
    ),
    (
        "scontrol: a job's comment",
        "submit -H --wrap true; scontrol update jobid=$J comment='x y'; squeue -h -j $J -o %k; scancel $J",
    ),
    (
        "scontrol: more time",
        "submit -t 5 --wrap 'sleep 60'; await $J RUNNING; scontrol update jobid=$J timelimit=10; echo rc $?; scancel $J",
    ),
    // ---------------------------------------------------------------- srun
    (
        "srun: a step in a job",
        "submit --wrap 'sleep 60'; await $J RUNNING; srun --jobid=$J --overlap --quiet --unbuffered --mem=0 --cpu-bind=none --ntasks=1 --nodes=1 --chdir=/ --export=ALL /bin/sh -c 'pwd; exit 3'; echo rc $?; scancel $J",
    ),
    (
        "srun: a step in a job that has ended",
        "submit --wrap true; await $J COMPLETED; srun --jobid=$J --overlap --quiet --mem=0 --ntasks=1 --nodes=1 --chdir=/ /bin/true; echo rc $?",
    ),
    (
        "srun: a step in an unknown job",
        "srun --jobid=999999 --overlap --quiet --mem=0 --ntasks=1 --nodes=1 /bin/true; echo rc $?",
    ),
    // ---------------------------------------------------------------- sacct
    ("sacct: an unknown id", "sacct -X -n -P -j 999999 -o JobIDRaw,State"),
    ("sacct: an unknown field", "sacct -X -n -P -j 1 -o frobnicate"),
    (
        "sacct: a failed job",
        "submit -J told --wrap 'exit 3'; await $J FAILED; told told; sacct -X -n -P -j $J -o JobIDRaw,JobName,State,ExitCode,Partition",
    ),
    (
        "sacct: a cancelled job",
        "submit -H -J told --wrap true; scancel $J; await $J CANCELLED; told told; sacct -X -n -P -j $J -o JobIDRaw,JobName,State%40,ExitCode",
    ),
    (
        "sacct: as slurm-sandbox asks",
        "submit -J told --wrap true; await $J COMPLETED; told told; SLURM_TIME_FORMAT=%s sacct --allocations --noheader --parsable2 --duplicates --format=JobIDRaw,JobName%64,State%40,ExitCode,Submit --jobs=$J",
    ),
    // ---------------------------------------------------------------- sinfo
    ("sinfo: partitions", "sinfo -h -o '%P|%a|%l'"),
    ("sinfo: an unknown partition", "sinfo -h -p nope"),
];
