# shellcheck shell=bash
# Sourced by the other scripts: brings this machine to the state they need, and says what it does.
# Written for Debian and Ubuntu; elsewhere it names what is missing and stops.

say() { printf '==> %s\n' "$*"; }
stop() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else stop "installing needs root: run as root, or install sudo. Wanted to run: $*"
    fi
}

# need_tools COMMAND=PACKAGE…: installs the packages whose command is not there.
need_tools() {
    local missing=() pair
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

install_packages() {
    command -v apt-get >/dev/null || stop "these packages are missing, and there is no apt-get to install them: $*"
    say "installing with apt-get: $*"
    # The package lists of a fresh machine are empty, so they are fetched when the first attempt fails.
    apt_get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 || {
        apt_get update -qq
        apt_get install -y -qq --no-install-recommends "$@" >/dev/null
    }
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@"; }

# SQLite and the TLS library are compiled, so a C compiler and the C headers are needed.
need_compiler() {
    need_tools cc=gcc ar=binutils
    [ -e /usr/include/stdlib.h ] || install_packages libc6-dev
}

need_rust() {
    [ -d "$HOME/.cargo/bin" ] && PATH="$HOME/.cargo/bin:$PATH"
    command -v cargo >/dev/null && return
    printf '%s\n' "error: there is no Rust toolchain. This brings one:" \
        "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" \
        "then run this script again." >&2
    exit 1
}

# Loads the kernel module and makes the device where that is possible; says what stays impossible otherwise.
need_fuse() {
    need_tools fusermount3=fuse3
    [ -c /dev/fuse ] || (as_root modprobe fuse) 2>/dev/null || true
    [ -c /dev/fuse ] || (as_root mknod -m 0666 /dev/fuse c 10 229) 2>/dev/null || true
    # Opening it is the only proof: a container may show the device and forbid its use.
    if ! (exec 3<>/dev/fuse) 2>/dev/null; then
        say "note: /dev/fuse cannot be used, so nothing can be mounted here." \
            "In a container add: --device /dev/fuse --cap-add SYS_ADMIN"
        return 1
    fi
}
