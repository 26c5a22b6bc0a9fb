#!/bin/sh
# Installs what the build needs beside Rust: FFmpeg's development libraries, clang with libclang, pkg-config, a linker.
#
# Looks first and installs only what is missing, so with everything in place it neither needs the network nor asks for
# rights. Uses apt-get (Debian, Ubuntu), with sudo unless run as root; elsewhere it says what to install.
set -eu

# libavdevice, libavfilter and libswresample are not needed: the build enables codec, format and software-scaling only.
libraries="libavcodec libavformat libavutil libswscale"
missing=""
want() { missing="$missing $1"; }

command -v cc >/dev/null 2>&1 || want gcc
if command -v pkg-config >/dev/null 2>&1; then
    for library in $libraries; do
        pkg-config --exists "$library" || want "$library-dev"
    done
else
    want pkg-config
    for library in $libraries; do want "$library-dev"; done
fi
command -v clang >/dev/null 2>&1 || want clang
# The bindings are generated with libclang, found where the linker or llvm-config says.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    ldconfig_path=$(command -v ldconfig || echo /sbin/ldconfig)
    "$ldconfig_path" -p 2>/dev/null | grep -q 'libclang[-.0-9]*\.so' && return 0
    ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1
}
has_libclang || want libclang-dev
[ -e /usr/include/stdio.h ] || want libc6-dev

[ -n "$missing" ] || exit 0

fail() {
    echo "system packages are missing:$missing" >&2
    echo "$1" >&2
    exit 1
}

command -v apt-get >/dev/null 2>&1 ||
    fail "this system has no apt-get; install FFmpeg's development libraries (5.0 or newer), clang with libclang and pkg-config by its own package manager"

root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || fail "run as root: apt-get install$missing"
    root="sudo"
fi

echo "installing system packages:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# The lists of a fresh machine are empty or old; a failed refresh is no harm if the install then works.
$root apt-get update -qq || echo "apt-get update failed; trying with the lists that are there" >&2
# shellcheck disable=SC2086 # the list is words
$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2 ||
    fail "apt-get could not install them; install them by hand: ${root:+$root }apt-get install$missing"
