#!/bin/sh
# Installs the servers from Debian that Hubbub is measured beside; safe to repeat.
#
# Only their programs are wanted: the load tool starts them itself, on ports of its own. So what
# is installed here neither starts now nor at the next boot. What was there before stays as it is.
# (nats-server and Flask-SocketIO are Python packages, in the extra named bench.)
set -eu
exec </dev/null >&2

say() { printf 'hubbub: %s\n' "$*"; }
fail() { say "$@"; exit 1; }

sbin=${SBIN:-/usr/sbin} # Where Debian keeps servers, off people's PATH.
missing=''
for program in redis-server mosquitto ngircd; do
    PATH="$PATH:$sbin" command -v "$program" >/dev/null || missing="$missing $program"
done
if [ -z "$missing" ]; then
    say "redis-server, mosquitto and ngircd are all here"
    exit 0
fi

command -v apt-get >/dev/null ||
    fail "no apt-get here: install$missing with your system's package manager"
as_root=''
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "run this as root, or install sudo, to add$missing"
    as_root=sudo
fi

# Packages ask this program whether they may start what they bring; 101 is no. If there is one
# already, it is somebody's decision and stays.
policy=$sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # shellcheck disable=SC2016 # The inner shell has a $1 of its own.
    $as_root sh -c 'printf "#!/bin/sh\nexit 101\n" >"$1" && chmod 755 "$1"' sh "$policy"
fi

say "installing$missing"
$as_root apt-get update -q
# $missing is a list of words. env, because sudo does not pass variables on.
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends $missing
if command -v systemctl >/dev/null; then
    # shellcheck disable=SC2086
    $as_root systemctl disable --quiet $missing ||
        say "could not keep$missing from starting at the next boot: systemctl disable does it"
fi
