#!/bin/sh
# Makes .venv from a lock file with hashes, or brings it up to date: devtools/venv.sh requirements.lock
# The lock's checksum is noted inside, so the next time takes no time.
set -eu
cd "$(dirname "$0")/.."

say() { echo "$*" >&2; }

fits() { command -v "$1" >/dev/null && "$1" -c "import sys; sys.exit(not ($2))" 2>/dev/null; }

find_python() {
    # 3.11 and 3.12 first: for them redis-server and PostgreSQL come as packages
    for python in ${PYTHON:-python3 python3.12 python3.11}; do
        fits "$python" '(3, 11) <= sys.version_info < (3, 13)' && echo "$python" && return
    done
    for python in ${PYTHON:-python3 python3.13 python3.14}; do
        fits "$python" 'sys.version_info >= (3, 11)' && echo "$python" && return
    done
    return 1
}

make_venv() {
    python=$(find_python) || { say "Python 3.11 or later is needed; found none (PYTHON=… names one)."; exit 1; }
    say "Making .venv with $("$python" -V)"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then # Debian keeps them in a package of their own
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$package" >/dev/null
        else
            say "This Python cannot make virtual environments; install $package."
            exit 1
        fi
    fi
    "$python" -m venv --clear .venv || { say "Cannot make .venv in $PWD."; exit 1; }
}

install() {
    say "Installing $1 into .venv (once; a minute or so)"
    rm -f .venv/done-*
    # What builds a package that comes as source is locked as well. The locks are complete: --no-deps.
    { pip_install -r requirements-build.lock && pip_install --no-deps --no-build-isolation -r "$1"; } ||
        { say "Could not install $1."; exit 1; }
}

pip_install() { .venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes "$@"; }

note() { cksum <"$1" >".venv/done-$1"; }

is_done() { [ -f ".venv/done-$1" ] && [ "$(cat ".venv/done-$1")" = "$(cksum <"$1")" ]; }

lock=$1
[ -w . ] || { say "Cannot write to $PWD."; exit 1; }
.venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || make_venv
if ! is_done "$lock"; then
    install "$lock"
    # each lock holds all of the one before it, in the same versions
    for held in requirements.lock requirements-demo.lock requirements-dev.lock; do
        note "$held"
        [ "$held" != "$lock" ] || break
    done
fi
