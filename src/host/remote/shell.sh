# shellcheck shell=bash
# The far end of a session on a login host (see shell.rs). $1 is the mark of our frames, $2 the site's BASH_ENV.
# Requests come on 8: a line with three lengths, then a script and its input. Nothing else may read from there.
mark=$1
[[ $2 != /* ]] || export BASH_ENV=$2
umask 077
cd /
# An entry that means the working directory may lead to programs of sandboxed code.
absolute=
set -f
IFS=:
for entry in $PATH; do
  if [[ $entry == /* ]]; then absolute+=${absolute:+:}$entry; fi
done
unset IFS
set +f
PATH=${absolute:-/usr/bin:/bin}
# Each process that is not started saves a caller a millisecond or two: bash 4.4 and later know the account's name by themselves.
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)); then
  shopt -u promptvars
  user='\u'
  user=${user@P}
else
  user=$(id -un)
fi
# What the site's admins have laid down goes along: a caller wants it before it asks anything, and one exchange does for both.
if [[ -e $3 || -L $3 ]]; then
  seen=$(LC_ALL=C stat --format='%u %a %F' -- "${3%/*}" "$3" 2>&1)
  whole=not
  text=
  if [[ -f $3 && -r $3 ]]; then
    # It fails where the file ends before that.
    LC_ALL=C IFS='' read -r -d '' -n "$(($4 + 1))" text <"$3" || whole=whole
  fi
  printf '\n%s file %s\036%s\036%s\n' "$mark" "$whole" "${seen//$'\n'/$'\036'}" "${text//$'\n'/$'\036'}"
fi
printf '\n%s hello %s %(%s)T %s\t%s\t%s\n' "$mark" "$UID" -1 "$user" "$HOSTNAME" "$HOME"
while read -r -t 86400 -u 8 number length size; do
  # bash reads byte by byte, head in one go: what is short is read sooner without starting head.
  if ((length <= 2048)); then
    LC_ALL=C IFS='' read -r -t 86400 -N "$length" -u 8 script
    script+=x
  else
    script=$(head -c "$length" <&8; echo x)
  fi
  input=
  ((size == 0)) || input=$(head -c "$size" <&8; echo x)
  printf '\n%s %d begins\n' "$mark" "$number"
  printf '\n%s %d begins\n' "$mark" "$number" >&2
  # The input's last letter keeps the shell from taking line ends off it.
  if ((size)); then
    (eval "${script%x}") 8<&- < <(printf %s "${input%x}" 8<&-)
  else
    (eval "${script%x}") 8<&- </dev/null
  fi
  printf '\n%s %d ended %d\n' "$mark" "$number" "$?"
  printf '\n%s %d ended\n' "$mark" "$number" >&2
done
