# shellcheck shell=bash
# shellcheck disable=SC2034 # what is found is read by scripts/engine
# Finds a container engine that somebody else runs and that relforge can use. Sourced by
# scripts/engine.

# True when this docker client has buildx 0.13 or newer. Many machines have a client without any
# (or an old one) first on PATH, so every client found is asked.
can_build() {
    local version
    version=$("$1" buildx version 2>/dev/null) || return 1
    [[ $version =~ ([0-9]+)\.([0-9]+)\.[0-9]+ ]] || return 1
    ((BASH_REMATCH[1] > 0 || BASH_REMATCH[2] >= 13))
}

# True when the client's engine answers and keeps images in containerd's store: the classic store
# knows no manifest digest.
has_containerd_store() {
    timeout 20 "$1" info --format '{{json .DriverStatus}}' 2>/dev/null |
        grep -q '"driver-type","io.containerd.snapshotter.v1"'
}

docker_clients() {
    { PATH=$CALLER_PATH type -ap docker || true; ls /usr/bin/docker /usr/local/bin/docker 2>/dev/null || true; } |
        awk '!seen[$0]++'
}

# Sets FOREIGN_DOCKER, FOREIGN_HOST, FOREIGN_CONFIG; false when there is no usable engine.
find_foreign_engine() {
    local client
    while read -r client; do
        can_build "$client" || continue
        has_containerd_store "$client" || continue
        FOREIGN_DOCKER=$client
        FOREIGN_HOST=${DOCKER_HOST:-$("$client" context inspect --format '{{.Endpoints.docker.Host}}')}
        FOREIGN_CONFIG=${DOCKER_CONFIG:-$HOME/.docker}
        return 0
    done < <(docker_clients)
    return 1
}
