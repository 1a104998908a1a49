# shellcheck shell=bash
# Command lines as GNU getopt_long reads them: short and long forms, unambiguous abbreviations, its very error texts.
#
# A command describes its options in OPTIONS, one word each: key[/short][/n|r|o]; n takes no value (the default), r needs one,
# o may have one. A key that begins with `-` is a flag of the real command that the fake refuses; `@difference:` goes before an
# option that not all versions have.

OPT_KEYS=()
OPT_VALUES=()
ARGS=()
declare -A OPT_KIND=() OPT_SHORT=() OPT_REFUSED=()
OPT_NAMES=()
USAGE_CODE=1

describe_options() {
  local word key rest short kind
  OPT_NAMES=()
  for word in "$@"; do
    if [[ $word == @* ]]; then
      key=${word%%:*}
      speaks "${key#@}" || continue
      word=${word#*:}
    fi
    key=${word%%/*} rest=${word#*/} short='' kind=n
    case $word in
      */*/*) short=${rest%/*} kind=${rest#*/} ;;
      */*) kind=$rest ;;
    esac
    if [[ $key == -* ]]; then
      key=${key#-}
      OPT_REFUSED[$key]=1
    fi
    OPT_NAMES+=("$key")
    OPT_KIND[$key]=$kind
    [[ $short ]] && OPT_SHORT[$short]=$key
  done
  return 0
}

usage_error() {
  warn "$CMD: $1"
  [[ $CMD == sacct ]] || warn "Try \"$CMD --help\" for more information"
  refuse_now "$USAGE_CODE"
}

refuse_now() {
  printf '%s' "$ERR" >&2
  log_exit "$1"
  exit "$1"
}

take_option() {
  [[ ${OPT_REFUSED[$1]+x} ]] && not_imitated "--$1"
  OPT_KEYS+=("$1")
  OPT_VALUES+=("${2-}")
}

long_option() {
  local given=$1 whole=$2 name found=() hits=''
  if [[ ${OPT_KIND[$given]+x} ]]; then
    LONG_NAME=$given
    return
  fi
  for name in "${OPT_NAMES[@]}"; do
    [[ $name == "$given"* ]] || continue
    found+=("$name")
    hits+=" '--$name'"
  done
  case ${#found[@]} in
    0) usage_error "unrecognized option '--$whole'" ;;
    1) LONG_NAME=${found[0]} ;;
    *) usage_error "option '--$given' is ambiguous; possibilities:$hits" ;;
  esac
}

# parse_options stop|permute ARG...: `stop` ends at the first word that is no option, as sbatch and srun do.
parse_options() {
  local mode=$1 word body name value char
  shift
  OPT_KEYS=() OPT_VALUES=() ARGS=()
  while (($#)); do
    word=$1
    shift
    case $word in
      --)
        ARGS+=("$@")
        return 0
        ;;
      --*)
        body=${word#--}
        name=${body%%=*}
        long_option "$name" "$body"
        name=$LONG_NAME
        if [[ $body == *=* ]]; then
          [[ ${OPT_KIND[$name]} == n ]] && usage_error "option '--$name' doesn't allow an argument"
          take_option "$name" "${body#*=}"
        elif [[ ${OPT_KIND[$name]} == r ]]; then
          (($#)) || usage_error "option '--$name' requires an argument"
          take_option "$name" "$1"
          shift
        else
          take_option "$name"
        fi
        ;;
      -?*)
        body=${word#-}
        while [[ $body ]]; do
          char=${body:0:1}
          body=${body:1}
          [[ $char != [=/] && ${OPT_SHORT[$char]+x} ]] || usage_error "invalid option -- '$char'"
          name=${OPT_SHORT[$char]}
          case ${OPT_KIND[$name]} in
            n) take_option "$name" ;;
            o)
              take_option "$name" "$body"
              body=
              ;;
            r)
              value=$body
              body=
              if [[ ! $value ]]; then
                (($#)) || usage_error "option requires an argument -- '$char'"
                value=$1
                shift
              fi
              take_option "$name" "$value"
              ;;
          esac
        done
        ;;
      *)
        ARGS+=("$word")
        if [[ $mode == stop ]]; then
          ARGS+=("$@")
          return 0
        fi
        ;;
    esac
  done
}
