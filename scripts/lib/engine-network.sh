# shellcheck shell=bash
# The bridge of one ROOT's engine. Sourced by scripts/engine; uses its die, ROOT, BRIDGE.

run_tool() { PATH="$ROOT/dist/bin:$PATH" "$@"; }

# Prints "address mask" pairs as numbers of every network this machine has a route to.
routed_networks() {
    local destination mask
    while read -r _ destination _ _ _ _ _ mask _; do
        [[ $mask =~ ^[0-9A-F]{8}$ && $mask != 00000000 ]] || continue
        echo "$((16#${destination:6:2}${destination:4:2}${destination:2:2}${destination:0:2}))" \
            "$((16#${mask:6:2}${mask:4:2}${mask:2:2}${mask:0:2}))"
    done </proc/net/route
}

# Prints a free /24 gateway address. No address of its own: another daemon's bridge, a VPN or the
# machine's network may use any of the private ranges.
free_gateway() {
    local third candidate address mask common clash
    for ((third = 224; third < 255; third++)); do
        candidate=$(((192 << 24) | (168 << 16) | (third << 8)))
        clash=no
        while read -r address mask; do
            common=$((mask & 0xFFFFFF00))
            (((candidate & common) != (address & common))) || clash=yes
        done < <(routed_networks)
        [[ $clash == yes ]] || { echo "192.168.$third.1" && return; }
    done
    die 3 "no free network among 192.168.224.0/24 to 192.168.254.0/24 for the engine's bridge"
}

# One bridge for each ROOT, so that several daemons on one machine keep apart.
make_bridge() {
    local gateway
    # Two engines that start at once must not choose the same network.
    exec 8>/run/relforge-bridges.lock
    flock 8
    if [[ ! -e /sys/class/net/$BRIDGE ]]; then
        gateway=$(free_gateway)
        # dockerd would give the bridge the address back that it had before, which may be another
        # engine's by now.
        if [[ $(cat "$ROOT/state/gateway" 2>/dev/null) != "$gateway" ]]; then
            rm -f "$ROOT/data/network/files/local-kv.db"
            echo "$gateway" >"$ROOT/state/gateway"
        fi
        run_tool ip link add name "$BRIDGE" type bridge
        run_tool ip address add "$gateway/24" dev "$BRIDGE"
    fi
    run_tool ip link set "$BRIDGE" up
    exec 8>&-
}

remove_bridge() {
    [[ -e /sys/class/net/$BRIDGE ]] || return 0
    local table rule
    run_tool ip link set "$BRIDGE" down
    for table in nat filter; do
        while read -r rule; do
            # shellcheck disable=SC2086
            run_tool iptables -w -t "$table" -D ${rule#-A } 2>/dev/null || true
        done < <(run_tool iptables -w -t "$table" -S 2>/dev/null | grep -F -- "$BRIDGE" || true)
    done
    run_tool ip link delete "$BRIDGE"
}

uplink_mtu() {
    local interface
    interface=$(awk '$2 == "00000000" {print $1; exit}' /proc/net/route)
    cat "/sys/class/net/$interface/mtu" 2>/dev/null || echo 1500
}
