#!/bin/sh
# The programs that tests need besides Python's packages: a browser, its driver, PostgreSQL. Quick where they are there.
set -eu
packages=
command -v chromium >/dev/null && command -v chromedriver >/dev/null || packages="chromium chromium-driver"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || packages="$packages postgresql"
[ -n "$packages" ] || exit 0
as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if ! command -v apt-get >/dev/null || { [ -n "$as_root" ] && ! $as_root true 2>/dev/null; }; then
    echo "Some tests need these programs of Debian: $packages. Install them as root, or another system's packages of" \
        "the same programs. Everything else works without them." >&2
    exit 0
fi
# The tests start PostgreSQL by themselves: the package is to make no database of the system's own.
if [ ! -e /etc/postgresql-common ]; then
    $as_root mkdir -p /etc/postgresql-common/createcluster.d
    echo "create_main_cluster = false" | $as_root tee /etc/postgresql-common/createcluster.d/none.conf >/dev/null
fi
$as_root apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $packages
