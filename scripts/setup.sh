#!/bin/sh
# Makes .venv ready: `setup.sh run` for the chat and the broker, `setup.sh dev` for the tests too.
#
# Safe to repeat, to interrupt and to run twice at once. All output goes to stderr, because
# stdout belongs to the chat that `make run` starts afterwards; stdin, too, is left for it.
set -eu
exec </dev/null >&2
cd "$(dirname "$0")/.."

say() { printf 'hubbub: %s\n' "$*"; }
fail() { say "$@"; exit 1; }

# Without these a shell may carry on after the interrupted pip and clear the mark of it below.
trap 'exit 130' INT
trap 'exit 143' TERM

mode=${1:-run}
case $mode in
    run) lock=requirements.lock ;;
    dev) lock=requirements-dev.lock ;;
    *) fail "usage: setup.sh [run|dev]" ;;
esac

# Everything that decides what .venv must hold. The path is in it because the scripts in
# .venv/bin name it, and the version because packages lie in a folder named after it.
fingerprint() {
    pwd
    .venv/bin/python -c 'import sys; print(sys.version)'
    cksum "$@" pyproject.toml common/version.py scripts/setup.sh
}

stamp() {
    name=$1
    shift
    fingerprint "$@" >".venv/.$name.new"
    mv ".venv/.$name.new" ".venv/.$name"
}

# One set-up at a time. The lock is on this script, which unlike .venv is never deleted.
if command -v flock >/dev/null; then
    exec 9<scripts/setup.sh
    flock -n 9 || { say "waiting for another set-up to finish"; flock 9; }
fi

# Only the dates have changed (or the other set-up did the work): nothing to install.
if [ -f ".venv/.ready-$mode" ] &&
    [ "$(fingerprint "$lock" 2>/dev/null)" = "$(cat ".venv/.ready-$mode")" ]; then
    touch ".venv/.ready-$mode"
    exit 0
fi

# Prints "VERSION VERDICT"; in words that Python 2 understands as well.
probe='
import sys
version = "%d.%d.%d" % tuple(sys.version_info[:3])
if sys.version_info < (3, 11):
    print(version + " old")
    sys.exit()
try:
    import venv, ensurepip
    print(version + " good")
except ImportError:
    print(version + " no-venv")
'

# Sets $python, or tells why there is none. A Python asked for by name is not replaced by another.
find_python() {
    too_old='' no_venv=''
    set -- python3 python3.13 python3.12 python3.11
    [ -z "${PYTHON:-}" ] || set -- "$PYTHON"
    for python; do
        answer=$("$python" -c "$probe" 2>/dev/null) || continue
        version=${answer% *}
        case $answer in
            *" good") return ;;
            *" no-venv") no_venv=${no_venv:-$version} ;;
            *" old") too_old=${too_old:-$version} ;;
        esac
    done
    if [ "$no_venv" ]; then
        say "Python $no_venv is here, but its venv module (with ensurepip) is missing."
        fail "Debian, Ubuntu: apt install python3-venv (or python${no_venv%.*}-venv)"
    fi
    say "Python 3.11 or newer is needed; found ${too_old:-none}${PYTHON:+ (PYTHON=$PYTHON)}."
    fail "Debian 12, Ubuntu 24.04 or later: apt install python3 python3-venv; or set PYTHON=..."
}

# pip is silent unless it fails, then its whole story is shown.
pip_install() {
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-input "$@" \
        >>.venv/setup.log 2>&1 && return
    rm -f .venv/.unfinished # pip failed by itself, so it has put things back
    cat .venv/setup.log
    fail "could not install the packages of $lock (see above); once that is mended: make setup"
}

# Start afresh unless an earlier set-up was finished and its Python is still there.
if [ -f .venv/.unfinished ] || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    find_python
    say "setting up .venv with Python $version; this takes up to a minute, once"
    rm -rf .venv
    mkdir .venv
    : >.venv/.unfinished # before anything else, so that half of pip does not pass for pip
    "$python" -m venv .venv >.venv/setup.log 2>&1 ||
        { cat .venv/setup.log; fail "could not make .venv with $python (see above)"; }
else
    say "bringing .venv up to date"
fi

: >.venv/setup.log
: >.venv/.unfinished
# Wheels only: building a source would fetch tools whose hashes are not in the lock.
pip_install --require-hashes --only-binary :all: -r "$lock"
# Makes .venv/bin/hubbub and hubbub-broker, which run the source in this folder. Compatible
# mode is one line with the folder's path: no import hooks, which mypy and others cannot follow.
pip_install --no-index --no-deps --no-build-isolation \
    --config-settings editable_mode=compat -e .
rm -f .venv/.unfinished
# What the tests need includes what the chat needs.
stamp ready-run requirements.lock
[ "$mode" = run ] || stamp "ready-$mode" "$lock"
