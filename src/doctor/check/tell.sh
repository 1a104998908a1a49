# shellcheck shell=bash
# tell KEY VALUE: an answer of a script to doctor (see RemoteFacts): a key, a tab and a value, in a line.
tell() {
  local value=${2//$'\n'/ / }
  printf '%s\t%s\n' "$1" "${value//$'\t'/ }"
}
