#!/bin/sh
# The programs that tests need besides Python's packages: a browser and its driver. Quick where they are there already.
set -eu
command -v chromium >/dev/null && command -v chromedriver >/dev/null && exit 0
as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if ! command -v apt-get >/dev/null || { [ -n "$as_root" ] && ! $as_root true 2>/dev/null; }; then
    echo "The tests of the pages need chromium and chromedriver: install Debian's chromium and chromium-driver as root," \
        "or another system's packages of these programs. Everything else works without them." >&2
    exit 0
fi
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends chromium chromium-driver
