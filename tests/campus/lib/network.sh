# shellcheck shell=bash
# Owns the cables: two switches (lan, wan) in a network namespace of their own, and one cable per address of a host.
# Nothing of it is visible in the machine's own network, so campuses can use the same addresses side by side.

in_switch() { recorded "$ROOT/run/switch.proc" || die "the switch is down"; nsenter -t "$PID" -n -- "$@" 9>&-; }

start_switch() {
  recorded "$ROOT/run/switch.proc" && return
  launch switch
  local i
  for ((i = 0; i < 300; i++)); do
    recorded "$ROOT/run/switch.proc" && [ "$(readlink "/proc/$PID/ns/net")" != "$(readlink /proc/self/ns/net)" ] && break
    sleep 0.01
  done
  printf '%s\n' 'link add lan type bridge forward_delay 0 mcast_snooping 0' 'link set lan up' \
    'link add wan type bridge forward_delay 0 mcast_snooping 0' 'link set wan up' | in_switch ip -batch - ||
    die "the switch could not be made: does this kernel have bridges and veth?"
}

# ports_of HOST: lines "port network address"; login is the only host on both networks.
ports_of() {
  local wan; wan=$(wan_address "$1")
  [ -z "$wan" ] || echo "$1-wan wan $wan"
  [ "$1" = laptop ] || echo "$1-lan lan $(lan_address "$1")"
}
mac_of() { local IFS=. part; read -r -a part <<<"$1"; printf '02:00:%02x:%02x:%02x:%02x' "${part[@]}"; }

# neighbours NET: every address on that network. Hosts know each other's MAC addresses for good, because a failed
# address resolution would turn silent loss into "No route to host" after three seconds.
neighbours() {
  local h a
  for h in $(all_hosts); do
    if [ "$1" = wan ]; then a=$(wan_address "$h"); else a=$(lan_address "$h"); fi
    [ -z "$a" ] || echo "$a"
  done
}

# plug HOST...: lay the cables of hosts that have none yet.
plug() {
  local host port net address other init switch_links='' host_links
  for host; do
    host_init "$host" || die "$host is down"; init=$PID
    [ ! -e "$ROOT/run/$host.plugged" ] || continue
    while read -r port net address; do
      switch_links+="link add $port type veth peer name $net address $(mac_of "$address") netns $init"$'\n'
      switch_links+="link set $port master $net up"$'\n'
    done < <(ports_of "$host")
  done
  [ -n "$switch_links" ] || return 0
  printf %s "$switch_links" | in_switch ip -batch - || die "cannot lay cables"
  for host; do
    [ ! -e "$ROOT/run/$host.plugged" ] || continue
    host_init "$host"
    host_links=
    while read -r port net address; do
      host_links+="addr add $address/24 dev $net"$'\n'"link set $net up"$'\n'
      for other in $(neighbours "$net"); do
        [ "$other" = "$address" ] ||
          host_links+="neigh replace $other lladdr $(mac_of "$other") dev $net nud permanent"$'\n'
      done
    done < <(ports_of "$host")
    printf %s "$host_links" | nsenter -t "$PID" -n -- ip -batch - || die "cannot configure the network of $host"
    : >"$ROOT/run/$host.plugged"
  done
}

unplug() {
  local port
  while read -r port _; do in_switch ip link del "$port" 2>/dev/null; done < <(ports_of "$1")
  rm -f "$ROOT/run/$1.plugged"
}

# A disabled bridge port drops everything both ways and keeps the carrier: neither side is told anything.
set_ports() {
  local port
  while read -r port _; do in_switch bridge link set dev "$port" state "$2" || return 1; done < <(ports_of "$1")
}
cut_host() { set_ports "$1" 0; }
heal_host() { set_ports "$1" 3; }

campus_net() {
  [ $# -eq 2 ] || die_usage "net needs HOST cut|heal"
  need_up; need_host "$1"; need_host_up "$1"
  case $2 in cut) cut_host "$1" ;; heal) heal_host "$1" ;; *) die_usage "net: $2? cut or heal" ;; esac
}
