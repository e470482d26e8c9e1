# shellcheck shell=bash
# Sourced by serve and test: makes the checkout's .venv, keeps it up to date and repairs it.

root=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")

die() {
    printf 'mailbe: %s\n' "$1" >&2
    exit 1
}

# Prints the Python to make .venv with, or says in one line why there is none. Not sys.executable: with .venv
# activated, that is the very one about to be removed.
find_python() {
    local python=${PYTHON:-python3}
    command -v "$python" >/dev/null || die "$python is missing; on Debian: apt-get install python3-venv"
    "$python" -c '
import sys
if sys.version_info < (3, 11):
    sys.exit("mailbe: Python 3.11 or newer is needed and %s is %s; name another: PYTHON=/path/to/python3 %s"
             % (sys.executable, sys.version.split()[0], sys.argv[1]))
try:
    import ensurepip, venv
except ImportError:
    sys.exit("mailbe: %s has no venv and pip to bring; on Debian: apt-get install python3-venv" % sys.executable)
print(sys._base_executable)
' "$0"
}

# ensure_venv . | ensure_venv '.[test]': the project and what it needs are in .venv, or that and its tests' tools.
ensure_venv() (
    venv=$root/.venv
    stamp=$venv/installed
    # pip ends with an ordinary failure on Ctrl-C, which is none to explain or to tidy up after.
    trap 'exit 130' INT
    cd "$root" || exit
    # serve and test may be started side by side in a clone that has no .venv yet.
    exec 9<"$root"
    flock 9

    # A virtual environment is bound to its Python's minor version and to its own path.
    identity() { echo "$("$venv/bin/python" -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null) $venv"; }
    project=$(sha256sum setup.cfg pyproject.toml)
    have=$(cat "$stamp" 2>/dev/null || true)
    # The start is enough: what was installed with the tests' tools serves as well.
    [[ $have != "$(identity)"$'\n'"$project"$'\n'"$1"* ]] || exit 0

    if [[ $have == "$(identity)"$'\n'* ]]; then
        echo "mailbe: bringing .venv up to date" >&2
        # Without its stamp, a .venv in which pip was interrupted is made anew the next time.
        mv "$stamp" "$stamp.before"
    else
        python=$(find_python)
        echo "mailbe: making .venv and installing into it; the first time this takes a minute" >&2
        rm -rf "$venv"
        "$python" -m venv "$venv" >&2 || {
            rm -rf "$venv"
            die "$python could not make $venv (its reason stands above)"
        }
    fi
    # A plain editable install hides the twistd plugin behind an import hook; compat puts the checkout on sys.path.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --config-settings editable_mode=compat --editable "$1" >&2 || {
        if [[ -e $stamp.before ]]; then mv "$stamp.before" "$stamp"; else rm -rf "$venv"; fi
        die "pip could not install (its reason stands above); with no network: connect it and start $0 again"
    }
    rm -f "$stamp.before"
    printf '%s\n%s\n%s' "$(identity)" "$project" "$1" >"$stamp"
)
