# shellcheck shell=bash
# What quickstart and test share: the virtual environment and Debian packages, each installed once.

say() { printf '\n== %s\n' "$*" >&2; }

fail() { # message, next step
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  next:  %s\n' "$2" >&2
  exit 3
}

# Stops where a disk has less free space than what follows fills. Arguments: GB, folders.
free_disk() {
  local need_gb=$1 folder free_kb
  shift
  for folder in "$@"; do
    free_kb=$(df --output=avail -k "$folder" | tail -n 1)
    [ "$((free_kb / 1000000))" -ge "$need_gb" ] ||
      fail "$((free_kb / 1000000)) GB are free at $folder, $need_gb GB are needed" \
        "free disk space there, or run from a checkout on another disk"
  done
}

# Installs the Debian packages that are missing, and names them. Arguments: package names.
debian_packages() {
  local missing=() package
  [ -z "${RELFORGE_NO_APT:-}" ] || return 0
  command -v dpkg-query >/dev/null ||
    fail "this is not a Debian system" "install these yourself, then set RELFORGE_NO_APT=1: $*"
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] ||
      missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] ||
    fail "missing Debian packages: ${missing[*]}" "sudo apt-get install ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  apt-get -qq update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    "${missing[@]}" >&2
}

# Makes .relforge/venv with this checkout and the named extras; again only when pyproject changed.
# Arguments: comma-separated extras.
virtual_environment() {
  local extras=$1 venv=.relforge/venv stamp want python=${PYTHON:-python3}
  stamp=$venv/.relforge-$extras
  want=$(sha256sum pyproject.toml)
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$python is older than Python 3.10" "set PYTHON to a newer interpreter"
  if [ "$(cat "$stamp" 2>/dev/null || true)" = "$want" ]; then return 0; fi
  say "installing relforge[$extras] into $venv"
  mkdir -p .relforge
  # A half-made environment has no stamp; it is made anew.
  [ -n "$(ls "$venv"/.relforge-* 2>/dev/null)" ] || rm -rf "$venv"
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check --editable ".[$extras]"
  printf '%s' "$want" >"$stamp"
}
