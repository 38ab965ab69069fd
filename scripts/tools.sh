#!/usr/bin/env bash
# tools.sh TOOL… finds each tool, or installs the missing ones together through apt-get where root or sudo is at hand;
# otherwise it says what to install and ends with 1. With all tools there it takes milliseconds.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

go_wanted=1.26

found() {
    case $1 in
    go) go_is_new_enough ;;
    pip) python3 -m pip --version >/dev/null 2>&1 ;;
    qemu) command -v qemu-x86_64 >/dev/null ;;
    venv) python3 -c 'import ensurepip, venv' >/dev/null 2>&1 ;;
    ffmpeg) command -v ffmpeg >/dev/null && command -v ffprobe >/dev/null ;;
    postgresql) command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ;; # not in Debian's PATH
    certificates) [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/ssl/cert.pem ] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# From 1.21 on, go fetches the toolchain that go.mod names by itself.
go_is_new_enough() {
    local have
    have=$(go env GOVERSION 2>/dev/null) || return 1
    have=${have#go}
    [ "$(printf '%s\n' 1.21 "$have" | sort -V | head -n 1)" = 1.21 ]
}

package_of() {
    case $1 in
    c++) echo g++ ;;
    pip) echo python3-pip ;;
    venv) echo python3-venv ;;
    qemu) echo qemu-user ;;
    mkfs.ext4) echo e2fsprogs ;;
    unshare) echo util-linux ;;
    certificates) echo ca-certificates ;;
    *) echo "$1" ;;
    esac
}

missing=()
for tool in "$@"; do
    found "$tool" || missing+=("$tool")
done
[ ${#missing[@]} -gt 0 ] || exit 0

packages=()
for tool in "${missing[@]}"; do
    # Debian's own Go is older than what go.mod asks for.
    [ "$tool" != go ] || die "Go is missing or older than 1.21: install Go $go_wanted or newer from https://go.dev/dl and run make again."
    packages+=("$(package_of "$tool")")
done

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
fi
if ! command -v apt-get >/dev/null || { [ ${#as_root[@]} -gt 0 ] && ! sudo -n true 2>/dev/null; }; then
    die "missing: ${missing[*]}. Install them with your package manager (on Debian and Ubuntu:" \
        "sudo apt-get install ${packages[*]}) and run make again."
fi

say "installing ${packages[*]} with apt-get"
log=$build/apt.log
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1; }
: >"$log"
apt update || say "apt-get update did not end well; going on with the package lists at hand"
apt install --no-install-recommends "${packages[@]}" || {
    tail -n 15 "$log" >&2
    die "apt-get could not install ${packages[*]}: install them by hand and run make again (all output: $log)."
}

for tool in "${missing[@]}"; do
    found "$tool" || die "$tool is still missing after apt-get install $(package_of "$tool"): install it by hand."
done
