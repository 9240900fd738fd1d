# shellcheck shell=bash
# Starts and stops the engine of one ROOT. Sourced by scripts/engine; uses its say, die, ROOT,
# RUN_DIR, BRIDGE.

# A process is known by its id, its start time and the boot it belongs to: an id alone is given
# out again, and such a process must never be killed.
process_start() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The command's name may hold spaces and brackets: count fields after the last bracket.
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    [[ $1 != Z ]] || return 1
    echo "${20} $(cat /proc/sys/kernel/random/boot_id)"
}

record_process() {
    echo "$2 $(process_start "$2")" >"$ROOT/state/$1.new"
    mv "$ROOT/state/$1.new" "$ROOT/state/$1"
}

# Prints the id of the recorded process $1 when that very process still runs.
recorded_pid() {
    local pid start
    [[ -e $ROOT/state/$1 ]] || return 1
    read -r pid start <"$ROOT/state/$1"
    [[ $(process_start "$pid") == "$start" ]] && echo "$pid"
}

# Ends the recorded process $1: politely, and after $2 seconds for good.
stop_process() {
    local name=$1 patience_s=$2 pid i
    if pid=$(recorded_pid "$name"); then
        kill -TERM "$pid" 2>/dev/null || true
        for ((i = 0; i < patience_s * 10; i++)); do
            recorded_pid "$name" >/dev/null || break
            sleep 0.1
        done
        if recorded_pid "$name" >/dev/null; then
            say "$name ($pid) did not stop within ${patience_s} s: killing it"
            kill -KILL "$pid" 2>/dev/null || true
            sleep 0.2
        fi
    fi
    rm -f "$ROOT/state/$name"
}

engine_answers() {
    [[ -S $RUN_DIR/docker.sock ]] &&
        DOCKER_HOST="unix://$RUN_DIR/docker.sock" DOCKER_CONFIG="$ROOT/config" \
            timeout 20 "$ROOT/dist/bin/docker" version --format '{{.Server.Version}}' 2>/dev/null
}

# $1: name, rest: argv. The process outlives this script and its terminal. Of the environment it
# gets what a daemon needs and no more: the caller's tokens are not its business.
start_process() {
    local name=$1 variable
    shift
    local environment=("PATH=$ROOT/dist/bin:$PATH" "HOME=$HOME")
    # The log of a long compilation stays whole: its error stands at the end.
    environment+=(BUILDKIT_STEP_LOG_MAX_SIZE=-1 BUILDKIT_STEP_LOG_MAX_SPEED=-1)
    for variable in SSL_CERT_FILE SSL_CERT_DIR {HTTP,HTTPS,NO}_PROXY {http,https,no}_proxy; do
        [[ -z ${!variable:-} ]] || environment+=("$variable=${!variable}")
    done
    # 9 is the lock's descriptor: a daemon that inherited it would hold the lock for ever.
    setsid -- env -i "${environment[@]}" "$@" </dev/null >>"$ROOT/log/$name.log" 2>&1 9>&- &
    record_process "$name" $!
    disown $!
}

# Waits until "$@" succeeds while the recorded process $1 lives; $2: seconds.
wait_for() {
    local name=$1 limit_s=$2 i
    shift 2
    for ((i = 0; i < limit_s * 5; i++)); do
        ! "$@" >/dev/null || return 0
        recorded_pid "$name" >/dev/null ||
            die 3 "$name ended while starting: $(grep -E 'level=(fatal|error)|^failed' "$ROOT/log/$name.log" | tail -n 1 || tail -n 1 "$ROOT/log/$name.log"). Whole log: $ROOT/log/$name.log"
        sleep 0.2
    done
    die 3 "$name did not answer within $limit_s s; see $ROOT/log/$name.log"
}

containerd_answers() {
    timeout 5 "$ROOT/dist/bin/ctr" --address "$RUN_DIR/containerd.sock" version 2>/dev/null
}

# overlayfs, unless ROOT lies on a file system that cannot carry one (the overlay of a container):
# then plain copies, slow and large but right.
snapshotter() {
    local probe=$ROOT/overlay-probe answer=native
    mkdir -p "$probe"/{lower,upper,work,merged}
    # shellcheck disable=SC2016 # expanded by the inner shell
    if unshare --mount sh -c 'mount -t overlay overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/merged"' sh "$probe" 2>/dev/null; then
        answer=overlayfs
    else
        say "$ROOT cannot carry overlay mounts: using plain copies, which are slow; a --root on a disk of its own is better"
    fi
    rm -rf "$probe"
    echo "$answer"
}

write_configuration() {
    mkdir -p "$ROOT"/{state,log,data,containerd,config/cli-plugins}
    mkdir -p "$RUN_DIR"
    chmod 711 "$RUN_DIR"
    cat >"$ROOT/containerd.toml" <<TOML
version = 2
root = "$ROOT/containerd"
state = "$RUN_DIR/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$RUN_DIR/containerd.sock"
[ttrpc]
address = "$RUN_DIR/containerd.sock.ttrpc"
TOML
    cat >"$ROOT/daemon.json" <<JSON
{
  "features": {"containerd-snapshotter": true},
  "storage-driver": "$(snapshotter)",
  "builder": {"gc": {"enabled": true, "defaultKeepStorage": "20GB"}},
  "log-opts": {"max-size": "50m"}
}
JSON
    local plugin
    for plugin in buildx compose; do
        ln -sfn "$ROOT/dist/root/usr/libexec/docker/cli-plugins/docker-$plugin" "$ROOT/config/cli-plugins/docker-$plugin"
    done
    # Logins to registries are the user's: shared, not copied.
    local logins=${DOCKER_CONFIG:-$HOME/.docker}/config.json
    if [[ -e $logins && ! $logins -ef $ROOT/config/config.json ]]; then
        ln -sfn "$logins" "$ROOT/config/config.json"
    fi
}

start_engine() {
    write_configuration
    # A bare machine has no CA bundle: then the one that was unpacked serves for pulling.
    if [[ -e $ROOT/dist/ca-certificates.crt ]]; then
        export SSL_CERT_FILE=${SSL_CERT_FILE:-$ROOT/dist/ca-certificates.crt}
    fi
    if ! { recorded_pid containerd && containerd_answers; } >/dev/null; then
        stop_process containerd 10
        rm -f "$RUN_DIR"/containerd.sock*
        start_process containerd "$ROOT/dist/bin/containerd" --config "$ROOT/containerd.toml"
        wait_for containerd 60 containerd_answers
    fi
    stop_process dockerd 20
    rm -f "$RUN_DIR/docker.sock" "$RUN_DIR/docker.pid"
    make_bridge
    start_process dockerd "$ROOT/dist/bin/dockerd" \
        --config-file "$ROOT/daemon.json" --data-root "$ROOT/data" --exec-root "$RUN_DIR/exec" \
        --pidfile "$RUN_DIR/docker.pid" --host "unix://$RUN_DIR/docker.sock" --group root \
        --containerd "$RUN_DIR/containerd.sock" --bridge "$BRIDGE" --mtu "$(uplink_mtu)"
    wait_for dockerd 90 engine_answers
}

# Container processes of this ROOT that outlived a killed dockerd: those whose root file system is
# an overlay or bind mount inside ROOT, and the shims that hold them, known by our socket's path.
kill_leftover_containers() {
    local pid
    for pid in /proc/[0-9]*; do
        pid=${pid#/proc/}
        if awk -v root="$ROOT/" '
            $5 == "/" && (index($0, "upperdir=" root) || index($0, "lowerdir=" root) || index($4, root) == 1) { found = 1 }
            END { exit !found }' "/proc/$pid/mountinfo" 2>/dev/null ||
            { tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF "$RUN_DIR/containerd.sock" &&
                [[ $(readlink "/proc/$pid/exe") == */containerd-shim-runc-v2 ]]; } 2>/dev/null; then
            kill -KILL "$pid" 2>/dev/null || true
        fi
    done
}

unmount_leftovers() {
    local target
    # deepest first; the kernel writes a blank as \040
    awk -v root="$ROOT/" -v run="$RUN_DIR/" '{ gsub(/\\040/, " ", $5) } index($5, root) == 1 || index($5, run) == 1 { print $5 }' \
        /proc/self/mountinfo | sort -r | while read -r target; do
        umount "$target" 2>/dev/null || umount -l "$target" || true
    done
}

stop_engine() {
    stop_process dockerd 60
    kill_leftover_containers
    stop_process containerd 20
    unmount_leftovers
    remove_bridge
    rm -rf --one-file-system "$RUN_DIR"
}
