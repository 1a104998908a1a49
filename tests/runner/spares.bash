# shellcheck shell=bash
# Spares: jobs that belong to no lease until a login claims them. tests/runner/run reads this; it has the tools.
#
# shellcheck disable=SC2016 # As there.
# shellcheck disable=SC2154 # As there: the tools leave things in variables of theirs.

# ---------------------------------------------------------------- tools

# spare NAME [VARIABLE=VALUE...]: starts one.
spare() {
  make "$1" && launch "$1" CBX_SPARE_SECONDS=600 "${@:2}"
}
private() { echo "$tree/$1/tmp"/slurm-sandbox.????????; }
# claim NAME LEASE [SLUG NAME]: its output, a blank and its status.
claim() {
  local said
  said=$(s "$1" "claim $2 ${3:-other-slug} ${4:-other name}" </dev/null 2>&1)
  printf '%s %s' "$said" "$?"
}
another() { echo "cbx_$(random 6)"; }
says() { grep -qF -- "$2" "$(run_dir "$1")/out"; }
dir_of() { printf %s "$tree/$1/work/$2"; }
lives() { kill -0 "${pid[$1]}" && [[ -e $(run_dir "$1")/endpoint.json && ! -e $(run_dir "$1")/ending.json ]]; }
# Both names that its work directory may have, as `seat`, `lease`, with a dot the marks.
work_names() { names "$tree/$1/work" | sed "s/${lease[$1]}/seat/g; s/$2/lease/g" | tr ' ' '\n' | LC_ALL=C sort | tr '\n' ' ' | sed 's/^ //'; }
refused='slurm-sandbox: this spare belongs to no lease yet 113'

# ---------------------------------------------------------------- those that take their time are started first

start_spares() {
  spare sp_unclaimed CBX_SPARE_SECONDS=4 CBX_PREAMBLE='sleep 2'
  spare sp_hung CBX_SPARE_SECONDS=3 CBX_PREAMBLE='sleep 1000'
  spare sp_times CBX_TAKEN_GRACE_SECONDS=2 CBX_IDLE_TIMEOUT_SECONDS=2 CBX_TTL_SECONDS=2
  echo ttl_left=0 >"$(run_dir sp_times)/deadline"
  spare sp_grace CBX_TAKEN_GRACE_SECONDS=3
  spare sp_idle CBX_IDLE_TIMEOUT_SECONDS=4
  spare sp_ttl CBX_TTL_SECONDS=3
  spare sp_deadline
  spare sp_suspended CBX_SPARE_SECONDS=20
  for name in sp_times sp_grace sp_idle sp_ttl sp_deadline sp_suspended; do up "$name"; done
  kill -STOP "${pid[sp_suspended]}"
  suspended_at=$SECONDS
}

# ---------------------------------------------------------------- before a claim, the claim, and after it

check_claims() {
  local mine other ready name=$'it\'s a "$HOME" `id` \\ * ü  x'
  # shellcheck disable=SC2088 # It is a name, no path.
  local names_there='~/a $(touch owned); b & c'
  ready='printf "%s|" "$CBX_LEASE_ID" "$CBX_SLUG" "$CBX_NAME" "$FROM"; ls "$CBX_WORK_ROOT"; exit 5'
  spare sp CBX_READY_CHECK="$ready" CBX_PREAMBLE='export FROM=preamble' CBX_LAUNCHER='env LAUNCHED=yes' && up sp
  is 'a command before the claim' "$refused" "$(s sp 'echo in' </dev/null 2>&1) $?"
  is 'a login without a command' "$refused" "$(s sp </dev/null 2>&1) $?"
  is 'one that begins as a lease id' "$refused" "$(s sp cbx_0 </dev/null 2>&1) $?"
  ok 'sftp before the claim' not sftp -q -b <(printf 'put %s %s\n' "$tree/key.pub" "$tree/sp/sftp") "${options[@]}" -P "$(field sp endpoint.json port)" 127.0.0.1 </dev/null >/dev/null 2>&1
  ok 'nothing came by it' [ ! -e "$tree/sp/sftp" ]
  is 'the ready check sees the seat' "${lease[sp]}|slug|crabbox-slug|preamble|${lease[sp]} 5" "$(s sp "$ready" </dev/null) $?"
  mine=$(another) other=$(another)
  for text in 'claim ' "claim $mine" "claim $mine slug" "claim $mine slug " "claim  $mine slug name" "claim $mine Slug name" "claim $mine -a name" \
    "claim $mine slug "$'a\nb' "claim $mine slug "$'a\tb' "claim cbx_0123456789aB slug name" "claim $mine slug $(printf 'x%.0s' {1..256})" "claim $mine $(printf 'x%.0s' {1..129}) n"; do
    is "malformed: $(printf %q "${text:0:60}")" 'slurm-sandbox: malformed claim 113' "$(s sp "$text" </dev/null 2>&1) $?"
  done
  ok 'nothing of it decides' [ ! -e "$(private sp)/decided" ]

  is 'the claim goes on as the ready check' "$mine|s-1|$name|preamble|$mine 5" "$(claim sp "$mine" s-1 "$name")"
  is 'the work directory has its name' '.lease.owner lease ' "$(work_names sp "$mine")"
  is 'again by the same lease' "$mine|s-1|$name|preamble|$mine 5" "$(claim sp "$mine" s-2 again)"
  is 'by another one' 'slurm-sandbox: another lease has this spare 113' "$(claim sp "$other")"
  is 'malformed' 'slurm-sandbox: malformed claim 113' "$(s sp 'claim x' </dev/null 2>&1) $?"
  ok 'a claim is no use' [ ! -e "$(private sp)/began" ]
  ok 'the runner says whose it is' soon says sp "claimed by $mine"
  ok 'and that it is not taken' [ ! -e "$(run_dir sp)/taken" ]
  is 'a session sees the lease, by the launcher' "$mine s-1 $name yes" "$(s sp 'echo "$CBX_LEASE_ID $CBX_SLUG $CBX_NAME $LAUNCHED"' </dev/null)"
  ok 'and takes it' soon [ -s "$(run_dir sp)/taken" ]
  ok 'sftp' sftp -q -b <(printf 'put %s %s\n' "$tree/key.pub" "$(dir_of sp "$mine")/sftp") "${options[@]}" -P "$(field sp endpoint.json port)" 127.0.0.1 </dev/null >/dev/null
  s sp "touch $tree/sp.in; sleep 1000" >/dev/null 2>"$tree/sp.err" </dev/null &
  soon [ -e "$tree/sp.in" ]
  sleep 0.5
  stop sp
  is 'the end names the lease' "$mine" "$(field sp ending.json leaseId)"
  is 'to who sits in a session too' "slurm-sandbox: lease $mine ends: the job was told to end: scancel, preemption or a limit" "$(<"$tree/sp.err")"

  # In an ordinary lease all of this is nothing.
  start sp_ordinary CBX_SPARE_SECONDS=0 && up sp_ordinary
  is 'an ordinary lease has a command of that name' 'mine 3' "$(s sp_ordinary "claim() { echo mine; return 3; }; claim $mine a b" </dev/null) $?"
  s sp_ordinary "claim $mine a b" </dev/null 2>/dev/null
  is 'or has none' 127 "$?"
  ok 'its wrapper knows of none' not grep -q -e decided -e claim "$(private sp_ordinary)/session"
  stop sp_ordinary
  is 'its end names none' '' "$(field sp_ordinary ending.json leaseId)"
  start sp_number CBX_SPARE_SECONDS=x && wait "${pid[sp_number]}"
  unset 'pid[sp_number]'
  ok 'a number' grep -q '^slurm-sandbox: bad-request: CBX_SPARE_SECONDS is not a number' "$(run_dir sp_number)/out"

  # Without a ready check, and with the name that nothing may look into.
  spare sp_bare CBX_READY_CHECK= && up sp_bare
  is 'without a ready check' ' 0' "$(claim sp_bare "$mine" a "$names_there")"
  is 'the name is only a name' "$names_there" "$(s sp_bare 'echo "$CBX_NAME"' </dev/null)"
  is 'of 255 bytes' "slurm-sandbox: another lease has this spare 113" "$(claim sp_bare "$other" a "$(printf 'é%.0s' {1..127})x")"
  stop sp_bare

  spare sp_stdio CBX_LISTEN=no && soon [ -s "$(run_dir sp_stdio)/endpoint.json" ]
  is 'without a listener: before' "$refused" "$(x sp_stdio 'echo in' </dev/null 2>&1) $?"
  is 'the claim' 'ready 0' "$(x sp_stdio "claim $mine a-b c d" </dev/null) $?"
  is 'after it' "$mine a-b c d" "$(x sp_stdio 'echo "$CBX_LEASE_ID $CBX_SLUG $CBX_NAME"' </dev/null)"
  is 'by another one there' 'slurm-sandbox: another lease has this spare 113' "$(x sp_stdio "claim $other a b" </dev/null 2>&1) $?"
  stop sp_stdio
}

# ---------------------------------------------------------------- the wall time, the permit, the end

check_ends_of_spares() {
  local mine
  mine=$(another)
  spare sp_wall CBX_ON_ENDING="echo \"\$CBX_LEASE_ID \$PWD\" >$tree/sp_wall/ending" && up sp_wall && kill -USR1 "${pid[sp_wall]}"
  sleep 2
  ok 'nobody is told of the wall time of a spare' [ ! -e "$(run_dir sp_wall)/warning" ]
  is 'who claims it then' 'ready 0' "$(claim sp_wall "$mine")"
  ok 'is' soon [ -s "$(run_dir sp_wall)/warning" ]
  ok 'and its hook runs' soon [ -s "$tree/sp_wall/ending" ]
  is 'in the directory of the lease' "$mine $(dir_of sp_wall "$mine")" "$(<"$tree/sp_wall/ending")"
  stop sp_wall
  spare sp_permit && up sp_permit && rm "$tree/sp_permit/shared/${lease[sp_permit]}/permit" && ended sp_permit permit-removed 0
  is 'the end of a spare is no lease' '' "$(field sp_permit ending.json leaseId)"
  # The runner has decided to end.
  spare sp_ends && up sp_ends && mkdir "$(private sp_ends)/decided"
  is 'a claim of a spare that ends' 'slurm-sandbox: this spare ends 113' "$(claim sp_ends "$mine")"
  is 'and another command' "$refused" "$(s sp_ends 'echo in' </dev/null 2>&1) $?"
  stop sp_ends
  # What code in the sandbox writes there is no path.
  spare sp_forged && up sp_forged
  mkdir "$tree/sp_forged/precious"
  printf '%s\n' ../precious slug name >"$(private sp_forged)/decided"
  stop sp_forged
  ok 'a forged name removes nothing' [ -d "$tree/sp_forged/precious" ]
}

# ---------------------------------------------------------------- the name of the work directory is taken

check_taken_names() {
  local mine
  mine=$(another)
  spare sp_foreign && up sp_foreign && mkdir "$(dir_of sp_foreign "$mine")" && touch "$(dir_of sp_foreign "$mine")/thesis"
  ok 'a directory of that name without a mark' grep -q ' 114$' <<<"$(claim sp_foreign "$mine")"
  is 'each stays where it is' '.seat.owner lease seat ' "$(work_names sp_foreign "$mine")"
  kill -TERM "${pid[sp_foreign]}" && soon gone "${pid[sp_foreign]}"
  unset 'pid[sp_foreign]'
  is 'also at the end' 'lease ' "$(work_names sp_foreign "$mine")"
  ok 'with what is in it' [ -e "$(dir_of sp_foreign "$mine")/thesis" ]

  # Another attempt of the lease, that runs here: until it ends.
  start sp_attempt && up sp_attempt
  spare sp_beside CBX_WORK_ROOT="$tree/sp_attempt/work" && up sp_beside
  ok 'one of a runner that lives' grep -q ' 114$' <<<"$(claim sp_beside "${lease[sp_attempt]}")"
  rm "$tree/sp_attempt/shared/${lease[sp_attempt]}/permit"
  is 'and ends in the middle of a claim' 'ready 0' "$(claim sp_beside "${lease[sp_attempt]}")"
  soon gone "${pid[sp_attempt]}"
  unset 'pid[sp_attempt]'
  is 'then the seat has it' "..owner ${lease[sp_attempt]} " "$(names "$tree/sp_attempt/work" | sed "s/\.${lease[sp_attempt]}/./")"
  kill -TERM "${pid[sp_beside]}" && soon gone "${pid[sp_beside]}"
  unset 'pid[sp_beside]'
  is 'and removes it' '' "$(names "$tree/sp_attempt/work")"

  # Left there by a runner that was killed.
  start sp_killed && up sp_killed && touch "$(dir_of sp_killed "${lease[sp_killed]}")/old"
  kill -KILL "${pid[sp_killed]}" && wait "${pid[sp_killed]}" 2>/dev/null
  unset 'pid[sp_killed]'
  pkill -KILL -f -- "sshd.*$tree/sp_killed/tmp"
  spare sp_after CBX_WORK_ROOT="$tree/sp_killed/work" && up sp_after
  is 'one of a runner that was killed' 'ready 0' "$(claim sp_after "${lease[sp_killed]}")"
  is 'is moved aside' '' "$(names "$(dir_of sp_killed "${lease[sp_killed]}")")"
  kill -TERM "${pid[sp_after]}" && soon gone "${pid[sp_after]}"
  unset 'pid[sp_after]'
  is 'and removed' '' "$(names "$tree/sp_killed/work")"
}

# ---------------------------------------------------------------- claims that are killed

# A claim uses these tools in this order: ln (decided), rm, ln (the mark), mv, rm. The one that is named kills it, before or after
# its work. Nothing may be left undecided, half renamed or behind.
check_killed_claims() {
  local tool real point name mine other status
  mkdir "$tree/killing-tools"
  for tool in ln rm mv; do
    real=$(type -P "$tool")
    cat >"$tree/killing-tools/$tool" <<TOOL
#!/bin/bash
case \$(tr '\\0' ' ' <"/proc/\$PPID/cmdline") in *claim_script*) ;; *) exec $real "\$@" ;; esac
place=\$(tr '\\0' '\\n' <"/proc/\$PPID/cmdline" | sed -n 's,^\\(.*\\)/tmp/slurm-sandbox.*/claim_script\$,\\1,p')
[[ -e \$place/kill ]] || exec $real "\$@"
echo >>"\$place/count"
at=\$(wc -l <"\$place/count") point=\$(<"\$place/kill")
[[ \$point != "before \$at" ]] || kill -KILL \$PPID
[[ \$point == "before \$at" ]] || $real "\$@"
[[ \$point != "after \$at" ]] || kill -KILL \$PPID
TOOL
    chmod +x "$tree/killing-tools/$tool"
  done
  local points=('before 1' 'after 1' 'after 2' 'before 3' 'after 3' 'before 4' 'after 4' 'before 5' 'after 5')
  for point in "${points[@]}"; do
    for name in "sp_finish_${point/ /_}" "sp_stop_${point/ /_}"; do
      spare "$name" PATH="$tree/killing-tools:$PATH"
      echo "$point" >"$tree/$name/kill"
    done
    up "sp_finish_${point/ /_}" && up "sp_stop_${point/ /_}"
  done
  for point in "${points[@]}"; do
    name=sp_finish_${point/ /_} mine=$(another) other=$(another)
    status=$(claim "$name" "$mine")
    is "killed $point: its status" 137 "${status##* }"
    rm "$tree/$name/kill"
    if [[ $point == 'before 1' ]]; then
      is "killed $point: nothing is decided" "$refused" "$(s "$name" 'echo in' </dev/null 2>&1) $?"
    else
      is "killed $point: it is that lease's" 'slurm-sandbox: another lease has this spare 113' "$(claim "$name" "$other")"
      is "killed $point: sessions see it" "$mine" "$(s "$name" 'echo "$CBX_LEASE_ID"' </dev/null 2>&1)"
    fi
    is "killed $point: the next login" 'ready 0' "$(claim "$name" "$mine")"
    is "killed $point: has moved the work directory" '.lease.owner lease ' "$(work_names "$name" "$mine")"
    stop "$name"

    name=sp_stop_${point/ /_}
    status=$(claim "$name" "$mine")
    is "killed $point, and no other login: its status" 137 "${status##* }"
    stop "$name"    # all is removed
  done

  # And the runner killed with it: the next one on the node finds both names.
  for point in 'after 1' 'after 3' 'after 4'; do
    name=sp_both_${point/ /_} mine=$(another)
    spare "$name" PATH="$tree/killing-tools:$PATH" && up "$name"
    echo "$point" >"$tree/$name/kill"
    status=$(claim "$name" "$mine")
    kill -KILL "${pid[$name]}" && wait "${pid[$name]}" 2>/dev/null
    unset "pid[$name]"
    pkill -KILL -f -- "sshd.*$tree/$name/tmp"
    start "next_$name" TMPDIR="$tree/$name/tmp" CBX_WORK_ROOT="$tree/$name/work" && up "next_$name"
    kill -TERM "${pid[next_$name]}" && soon gone "${pid[next_$name]}"
    unset "pid[next_$name]"
    is "killed $point, and the runner: all is removed" '' "$(names "$tree/$name/work" "$tree/$name/tmp")"
  done
}

# ---------------------------------------------------------------- at the same time

# one_round DIRECTORY LEASE...: all of them claim in the same moment, and the runner ends if there is a file `end`.
one_round() {
  local dir=$1 number racers=()
  shift
  rm -rf "$dir" && mkdir "$dir" && mkfifo "$dir/go"
  exec 7<>"$dir/go"    # open for writing until all have been let go
  for number; do
    (read -r _ <&7; exec "$BASH" "$tree/race" "$dir" "$number" 7>&-) >"$dir/$number" 2>/dev/null &
    racers+=($!)
  done
  sleep 0.02
  for number; do echo; done >&7
  wait "${racers[@]}"
  exec 7>&-
}

check_races() {
  local round i got winners endings=0 claims=0 all name
  # The functions themselves, many times.
  {
    sed -n '/^refuse_claim() {/,/^}/p; /^decide_claim() {/,/^}/p; /^refuse_claims() {/,/^}/p' "$runner"
    printf '%s\n' 'private=$1' 'if [[ $2 == end ]]; then unclaimed=yes; refuse_claims && echo won; else decide_claim "claim $2 a b"; echo won; fi'
  } >"$tree/race"
  for ((round = 0; round < 60; round++)); do
    all=()
    for i in 1 2 3 4; do all+=("cbx_00000000000$i"); done
    ((round % 2)) || all[round / 2 % 4]=end
    one_round "$tree/round" "${all[@]}"
    winners=$(grep -lx won "$tree/round"/{cbx_*,end} 2>/dev/null)
    got=${winners##*/}
    if [[ $got == end ]]; then
      endings=$((endings + 1))
      [[ -d $tree/round/decided ]] || got=
    else
      claims=$((claims + 1))
      [[ $(tr '\n' ' ' <"$tree/round/decided") == "$got a b " ]] || got=
    fi
    [[ $winners && $winners != *$'\n'* && $got ]] || bad "round $round: these have won: $winners"
    [[ ! $(find "$tree/round" -name '.decided*') ]] || bad "round $round: something is left"
  done
  pass
  echo "measured: $endings ends and $claims claims have won in 60 rounds"

  # Real ones: two leases by login, and a claim in the moment at which the spare has waited for long enough, or is cancelled.
  for round in 1 2 3 4; do spare "sp_two_$round"; done
  for round in 1 2 3 4; do
    name=sp_two_$round
    up "$name"
    for i in 1 2 3; do claim "$name" "cbx_00000000000$i" >"$tree/$name/$i" & done
    soon [ -s "$tree/$name/1" ] && soon [ -s "$tree/$name/2" ] && soon [ -s "$tree/$name/3" ]
    is "round $round: one of three logins wins" 1 "$(cat "$tree/$name"/[123] | grep -o 'ready 0' | wc -l)"
    is "round $round: the others know" 2 "$(cat "$tree/$name"/[123] | grep -o 'another lease has this spare 113' | wc -l)"
  done
  for round in 1 2 3 4; do stop "sp_two_$round"; done

  local ended_ones=0 claimed_ones=0 wrong=0 status mine
  for round in {1..12}; do
    name=sp_last_$round
    spare "$name" CBX_SPARE_SECONDS=6 CBX_TAKEN_GRACE_SECONDS=0
    launched[round]=${EPOCHREALTIME/./}
    up "$name"
    (
      i=$((launched[round] + 4500000 + round * 130000 - ${EPOCHREALTIME/./}))
      ((i < 0)) || sleep "$((i / 1000000)).$(printf %06d $((i % 1000000)))"
      claim "$name" "cbx_00000000000a" >"$tree/$name/status.new"
      mv "$tree/$name/status.new" "$tree/$name/status"
    ) &
  done
  for round in {1..12}; do soon [ -s "$tree/sp_last_$round/status" ] || bad "round $round: no answer"; done
  sleep 4
  for round in {1..12}; do
    name=sp_last_$round status=$(<"$tree/sp_last_$round/status")
    case ${status##* } in
      0)
        claimed_ones=$((claimed_ones + 1))
        lives "$name" || { wrong=$((wrong + 1)) && bad "$name: claimed, and ended"; }
        [[ ! ${pid[$name]:-} ]] || stop "$name"
        ;;
      113 | 255)
        ended_ones=$((ended_ones + 1))
        ended "$name" unclaimed 0
        ;;
      *) bad "$name: $status" ;;
    esac
  done
  is 'a claim or an end, never both' 0 "$wrong"
  echo "measured: $claimed_ones claims and $ended_ones ends have won of 12 in the last moment"

  for round in {1..8}; do spare "sp_term_$round"; done
  for round in {1..8}; do
    name=sp_term_$round
    up "$name"
    mine=$(another)
    kill -TERM "${pid[$name]}"
    sleep "0.0$round"
    status=$(claim "$name" "$mine")
    ended "$name" cancelled 0
    case ${status##* } in
      0) is "$name: the claim came first" "$mine" "$(field "$name" ending.json leaseId)" ;;
      113 | 255 | 127) is "$name: the end came first" '' "$(field "$name" ending.json leaseId)" ;;
    esac
  done
}

# ---------------------------------------------------------------- those that took their time

check_times_of_spares() {
  local mine
  ended sp_unclaimed unclaimed 0
  is 'it says how long' 'no lease took this spare within 4 s' "$(detail sp_unclaimed)"
  ended sp_hung preamble-timeout 1
  for name in sp_grace sp_idle sp_ttl sp_deadline sp_times; do
    ok "$name: no time of a lease runs before the claim" lives "$name"
  done
  for name in sp_grace sp_idle sp_ttl sp_deadline; do
    mine=$(another)
    is "$name: claimed" 'ready 0' "$(claim "$name" "$mine")"
  done
  s sp_idle : </dev/null
  s sp_ttl : </dev/null
  echo ttl_left=2 >"$(run_dir sp_deadline)/deadline"
  ended sp_grace untaken 0
  ended sp_idle idle 0
  ended sp_ttl ttl 0
  ended sp_deadline ttl 0
  is 'a deadline counts from the claim' 'ready 0' "$(claim sp_times "$mine")"
  ended sp_times ttl 0

  while ((SECONDS < suspended_at + 35)); do sleep 1; done
  kill -CONT "${pid[sp_suspended]}"
  sleep 4
  ok 'a time when the job was suspended does not count' lives sp_suspended
  ended sp_suspended unclaimed 0
}

launched=()
start_spares
check_claims
check_ends_of_spares
check_taken_names
check_killed_claims
check_races
check_times_of_spares
