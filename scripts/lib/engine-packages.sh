# shellcheck shell=bash
# shellcheck disable=SC2016 # apt and dpkg expand their own ${fields}
# Unpacks a container engine from Debian's packages into ROOT/dist/root, without installing
# anything on the machine; ROOT/dist/bin names its programs. Sourced by scripts/engine; uses its
# say, die, ROOT.
#
# Debian 12's own docker.io (20.10) has neither buildx nor the containerd image store. Debian 13's
# is new enough and its programs run on Debian 12's libc; its runc alone does not, so runc and the
# helper programs (iptables, iproute2, tini) come from the release that the machine runs.

# Raise it when what is unpacked, or how, changes: an older ROOT/dist is then made anew.
PACKAGES_RECIPE=3
ENGINE_PACKAGES=(docker.io docker-cli docker-buildx docker-compose containerd)
ENGINE_CODENAME=trixie

# apt with lists, cache and dpkg status of its own: the machine's apt state is read, never written.
# $1: work folder, $2: source list file ("" for the machine's own sources), rest: arguments.
private_apt() {
    local work=$1 list=$2
    shift 2
    local options=(
        -o "Dir::State=$work/state" -o "Dir::State::lists=$work/lists"
        -o "Dir::State::status=$work/state/status" -o "Dir::Cache=$work/cache"
        # The work folder may lie where the user _apt may not look.
        -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=2
    )
    [[ -z $list ]] || options+=(-o "Dir::Etc::sourcelist=$list" -o Dir::Etc::sourceparts=/dev/null)
    DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" "$@"
}

# Prints a keyring that knows the keys of $ENGINE_CODENAME. Debian 12 ships them since
# debian-archive-keyring 2023.3+deb12u2. An older machine's keyring lacks them: then the package is
# fetched from the machine's own Debian 12 sources, whose signature the machine's present keys
# prove, so that the chain of trust has no gap and nothing is ever marked trusted by hand.
engine_keyring() {
    local work=$1
    if [[ -e /usr/share/keyrings/debian-archive-$ENGINE_CODENAME-stable.gpg ]]; then
        echo /usr/share/keyrings/debian-archive-keyring.gpg
        return
    fi
    (cd "$work/debs" && private_apt "$work" "" download debian-archive-keyring) >>"$work/apt.log" 2>&1 ||
        die 3 "cannot fetch debian-archive-keyring from this machine's apt sources; see $work/apt.log"
    mkdir -p "$work/keyring"
    dpkg -x "$work"/debs/debian-archive-keyring_*.deb "$work/keyring"
    rm -f "$work"/debs/debian-archive-keyring_*.deb
    local rings="$work/keyring/usr/share/keyrings"
    [[ -e $rings/debian-archive-$ENGINE_CODENAME-stable.gpg ]] ||
        die 3 "the newest debian-archive-keyring of this machine's sources has no $ENGINE_CODENAME keys; update the mirror"
    echo "$rings/debian-archive-keyring.gpg"
}

# Writes the source list of $ENGINE_CODENAME: the machine's own Debian archive addresses, with the
# release's name replaced. Asks apt itself, so every way to write a source is understood.
write_engine_sources() {
    local work=$1 keyring=$2 uri suite origin component
    private_apt "$work" "" indextargets \
        --format '$(REPO_URI) $(RELEASE) $(ORIGIN) $(COMPONENT)' 'Created-By: Packages' 2>>"$work/apt.log" |
        while read -r uri suite origin component; do
            [[ $origin == Debian && $component == main ]] || continue
            # bookworm, bookworm-updates, bookworm-security, or the alias stable/oldstable of it
            [[ $suite =~ ^(oldstable|stable|$HOST_CODENAME)(-updates|-security)?$ ]] || continue
            echo "deb [signed-by=$keyring] $uri $ENGINE_CODENAME${BASH_REMATCH[2]} main"
        done | sort -u >"$work/engine.list" || true
    [[ -s $work/engine.list ]] ||
        die 3 "this machine's apt sources name no Debian archive (main); add one to /etc/apt/sources.list.d, then run this again. apt said: $(tail -n 3 "$work/apt.log" | tr '\n' ' ')"
}

# Helper programs from the machine's own release: those that are missing, with the libraries that
# are missing too (apt's resolver knows). An iptables or ip that the machine has is used as it is:
# two iptables back ends on one machine do not see each other's rules.
missing_helpers() {
    echo runc tini
    command -v iptables >/dev/null || echo iptables
    command -v ip >/dev/null || echo iproute2
    # modprobe only helps where there are modules to load
    if [[ -d /lib/modules/$(uname -r) ]] && ! command -v modprobe >/dev/null; then echo kmod; fi
    [[ -e /etc/ssl/certs/ca-certificates.crt ]] || echo ca-certificates
}

fetch_debs() {
    local work=$1 keyring helpers
    mkdir -p "$work"/{debs,lists/partial,cache/archives/partial,state}
    cp /var/lib/dpkg/status "$work/state/status"
    : >"$work/apt.log"
    # A third-party source that fails to load does not matter here, so the status does not either:
    # what is needed is checked by name below.
    private_apt "$work" "" update >>"$work/apt.log" 2>&1 || true
    keyring=$(engine_keyring "$work")
    write_engine_sources "$work" "$keyring"

    mapfile -t helpers < <(missing_helpers | tr ' ' '\n')
    # "install" resolves what this machine lacks of their libraries; nothing gets past the download.
    private_apt "$work" "" install -y --download-only --no-install-recommends --reinstall \
        "${helpers[@]}" >>"$work/apt.log" 2>&1 ||
        die 3 "cannot fetch ${helpers[*]} from this machine's apt sources: $(grep -m1 '^E:' "$work/apt.log" || tail -n1 "$work/apt.log"); check the network and /etc/apt"
    mv "$work"/cache/archives/*.deb "$work/debs/"

    private_apt "$work" "$work/engine.list" update >>"$work/apt.log" 2>&1 ||
        die 3 "cannot read Debian 13's package list: $(grep -m1 -E '^(E|W):' "$work/apt.log"); is it on the mirror that /etc/apt names?"
    (cd "$work/debs" && private_apt "$work" "$work/engine.list" download "${ENGINE_PACKAGES[@]}") >>"$work/apt.log" 2>&1 ||
        die 3 "cannot fetch ${ENGINE_PACKAGES[*]}: $(grep -m1 '^E:' "$work/apt.log")"
}

# A program of ROOT/dist/root whose libraries may lie there too (only its own process sees them).
write_wrapper() {
    local name=$1 target=$2
    shift 2
    cat >"$DIST_NEW/bin/$name" <<WRAPPER
#!/bin/sh
export LD_LIBRARY_PATH="$ROOT/dist/root/usr/lib/$MULTIARCH:$ROOT/dist/root/lib/$MULTIARCH"
export XTABLES_LIBDIR="$ROOT/dist/root/usr/lib/$MULTIARCH/xtables"
exec "$ROOT/dist/root/$target" $* "\$@"
WRAPPER
    chmod 755 "$DIST_NEW/bin/$name"
}

# The kernel may know nftables, the older tables, or both: take the back end that answers.
link_iptables() {
    local backend name
    for backend in nft legacy; do
        if LD_LIBRARY_PATH="$DIST_NEW/root/usr/lib/$MULTIARCH:$DIST_NEW/root/lib/$MULTIARCH" \
            XTABLES_LIBDIR="$DIST_NEW/root/usr/lib/$MULTIARCH/xtables" \
            "$DIST_NEW/root/usr/sbin/xtables-$backend-multi" iptables -w -t nat -S >/dev/null 2>&1; then
            for name in iptables ip6tables iptables-save ip6tables-save iptables-restore ip6tables-restore; do
                write_wrapper "$name" "usr/sbin/xtables-$backend-multi" "$name"
            done
            return
        fi
    done
    die 3 "this kernel answers neither to nftables nor to the older iptables; containers would have no network. Load nf_tables, or use a machine with Docker installed"
}

link_programs() {
    local program files=$DIST_NEW/root
    mkdir -p "$DIST_NEW/bin"
    for program in usr/bin/{docker,containerd,containerd-shim-runc-v2,ctr} usr/sbin/{dockerd,docker-proxy,runc}; do
        [[ -x $files/$program ]] || die 1 "the packages hold no $program"
        ln -s "../root/$program" "$DIST_NEW/bin/${program##*/}"
    done
    ln -s ../root/usr/bin/tini-static "$DIST_NEW/bin/docker-init"
    [[ ! -e $files/usr/sbin/xtables-nft-multi ]] || link_iptables
    # Debian 12 keeps ip and modprobe in /bin and /sbin, Debian 13 below /usr.
    for program in {,usr/}{bin/ip,sbin/modprobe}; do
        [[ ! -e $files/$program && ! -L $files/$program ]] || write_wrapper "${program##*/}" "$program"
    done
    if [[ -d $files/usr/share/ca-certificates ]]; then
        find "$files/usr/share/ca-certificates" -name '*.crt' -print0 | sort -z |
            xargs -0 cat >"$DIST_NEW/ca-certificates.crt"
    fi
}

# Unpacks the engine into ROOT/dist unless it is there whole. Killed at any point, it starts over:
# ROOT/dist appears by one rename.
install_packages() {
    local stamp="recipe=$PACKAGES_RECIPE host=$HOST_CODENAME root=$ROOT"
    [[ $(head -n 1 "$ROOT/dist/.complete" 2>/dev/null) != "$stamp" ]] || return 0
    local work="$ROOT/unpack.new" deb
    rm -rf "$work"
    say "fetching ${ENGINE_PACKAGES[*]} of Debian $ENGINE_CODENAME and helpers of Debian $HOST_CODENAME into $ROOT (nothing is installed on the machine)"
    fetch_debs "$work"
    DIST_NEW="$work/dist"
    mkdir -p "$DIST_NEW/root"
    MULTIARCH=$(dpkg-architecture -q DEB_HOST_MULTIARCH 2>/dev/null || gnu_triplet)
    for deb in "$work"/debs/*.deb; do
        dpkg -x "$deb" "$DIST_NEW/root"
        dpkg-deb --show --showformat '${Package} ${Version}\n' "$deb" >>"$work/packages"
    done
    link_programs
    { echo "$stamp" && cat "$work/packages"; } >"$DIST_NEW/.complete"
    sync -f "$DIST_NEW/.complete"
    rm -rf "$ROOT/dist"
    mv -T "$DIST_NEW" "$ROOT/dist"
    rm -rf "$work"
    say "unpacked: $(tail -n +2 "$ROOT/dist/.complete" | tr ' \n' '=  ')"
}

# dpkg-architecture belongs to the developer tools, which a bare machine lacks.
gnu_triplet() {
    case $(dpkg --print-architecture) in
        amd64) echo x86_64-linux-gnu ;;
        arm64) echo aarch64-linux-gnu ;;
        *) echo "$(uname -m)-linux-gnu" ;;
    esac
}
