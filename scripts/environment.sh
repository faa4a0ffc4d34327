# Finds or makes the Python environment of this repository. To be sourced; works from bash 3.2 on.
#
#   . scripts/environment.sh
#   use_environment            # or: use_environment dev, for the tools that tests/run.sh needs as well
#   "$PYTHON" -m ...
#
# The active Python is used if it meets the requirements, else .venv, which is made or completed when needed.
# Set PYTHON to have another Python looked at first. All messages go to stderr.

_env_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
_env_venv=$_env_root/.venv
_env_unfinished=$_env_venv/unfinished-installation

use_environment() {
    case ${1:-runtime} in
        runtime) _env_files=("$_env_root/requirements.txt") ;;
        dev) _env_files=("$_env_root/requirements.txt" "$_env_root/requirements-dev.txt") ;;
        *) _env_fail "use_environment: '$1' is unknown; use runtime or dev"; return 1 ;;
    esac
    local active
    if [ -n "${PYTHON:-}" ] && ! _env_version "$PYTHON" >/dev/null; then
        _env_fail "PYTHON is set to '$PYTHON', which does not run; set it to the path of a Python or unset it"
        return 1
    fi
    active=$(_env_active_python)
    if _env_meets "$active"; then
        PYTHON=$("$active" -c 'import sys; print(sys.executable)')
    else
        _env_venv_is_ready || _env_locked _env_prepare_venv "$active" || return 1
        PYTHON=$(_env_venv_python)
    fi
    export PYTHON
}

_env_say() { echo "$*" >&2; }

_env_fail() { echo "Error: $*" >&2; }

_env_active_python() {
    if [ -n "${PYTHON:-}" ]; then
        echo "$PYTHON"
    elif [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && command -v python; then
        :
    else
        command -v python3 || command -v python || true
    fi
}

_env_venv_python() {
    if [ -e "$_env_venv/Scripts/python.exe" ]; then
        echo "$_env_venv/Scripts/python.exe"
    else
        echo "$_env_venv/bin/python"
    fi
}

# _env_check PYTHON [option...]: whether that Python meets the requirements, see check_environment.py
_env_check() {
    local python=$1
    shift
    "$python" "$_env_root/scripts/check_environment.py" "${_env_files[@]}" "$@"
}

_env_meets() { [ -n "$1" ] && _env_check "$1" >/dev/null 2>&1; }

_env_keeps_torch() { [ -n "$1" ] && _env_check "$1" --only torch >/dev/null 2>&1; }

_env_venv_is_ready() { [ ! -e "$_env_unfinished" ] && _env_meets "$(_env_venv_python)"; }

_env_has_pip() { "$1" -m pip --version >/dev/null 2>&1 || "$1" -m ensurepip >/dev/null 2>&1; }

_env_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# Two commands at once must not install into one .venv; without flock (macOS, Windows) nothing keeps them apart.
_env_locked() {
    if ! [ -w "$_env_root" ]; then
        _env_fail "no environment meets requirements.txt and .venv cannot be made: $_env_root is not writable;" \
            "install requirements.txt into an environment, activate it and run this command again"
        return 1
    fi
    if ! command -v flock >/dev/null 2>&1; then
        "$@"
        return
    fi
    (
        if ! flock -n 9; then
            _env_say "Another command is preparing .venv: waiting for it."
            flock 9
        fi
        "$@"
    ) 9>"$_env_venv.lock"
}

_env_prepare_venv() {
    local active=$1 names python
    _env_venv_is_ready && return 0 # another command prepared it while this one waited
    names=$(printf ' %s' "${_env_files[@]##*/}")
    if [ -e "$_env_unfinished" ]; then
        _env_create_venv "$active" "An earlier installation into .venv was cut off: making .venv again," \
            "installing$names." || return 1
    elif ! _env_has_pip "$(_env_venv_python)"; then
        _env_create_venv "$active" "No Python environment with the requirements is active: creating .venv" \
            "in $_env_root, installing$names. This is done once." || return 1
    else
        _env_say "No Python environment with the requirements is active: installing$names into .venv," \
            "which lacks: $(_env_check "$(_env_venv_python)" --explain 2>/dev/null)"
    fi
    python=$(_env_venv_python)
    _env_install "$python" && _env_venv_is_ready && return 0
    _env_fail "installing$names into .venv failed (pip's message is above; still missing:" \
        "$(_env_check "$python" --explain 2>/dev/null)). Check the network connection and the free disk space and" \
        "run this command again, or install the requirements into an environment of your own and activate it."
    return 1
}

# _env_create_venv ACTIVE_PYTHON what to say first...
_env_create_venv() {
    local active=$1 creator
    shift
    if _env_keeps_torch "$active"; then
        creator=$active
        set -- "$@" "It keeps the torch of $active and inherits the packages there."
    else
        creator=$(_env_new_enough_python "$active") || return 1
    fi
    _env_say "$@" "This takes a few minutes."
    rm -rf "$_env_venv" && mkdir "$_env_venv" && : >"$_env_unfinished"
    if ! "$creator" -m venv "$_env_venv" >&2; then
        _env_fail "$creator could not make .venv (its message is above); on Debian and Ubuntu install the package" \
            "python$(_env_version "$creator")-venv, then run this command again"
        return 1
    fi
    if _env_keeps_torch "$active"; then
        _env_inherit_packages "$active" "$(_env_venv_python)"
    fi
}

# A path file shows .venv the packages of another Python. --system-site-packages would not do: it skips those of a
# Python that is a virtual environment itself.
_env_inherit_packages() {
    local packages='import os, sys; p = "site-packages", "dist-packages"
print(*[d for d in sys.path if os.path.basename(d) in p], sep="\n")'
    local home='import sysconfig; print(sysconfig.get_path("purelib"))'
    "$1" -c "$packages" >"$("$2" -c "$home")/inherited.pth"
}

# The active Python if it is new enough, else python3 or the newest python3.x on PATH.
_env_new_enough_python() {
    local name python version found=
    for name in "$1" python3 python3.13 python3.12 python3.11 python3.10 python; do
        python=$(command -v "$name") && version=$(_env_version "$python") || continue
        case $version in
            3.[1-9][0-9]) echo "$python"; return 0 ;;
        esac
        case $found in *"$python is "*) continue ;; esac
        found="$found${found:+, }$python is $version"
    done
    _env_fail "Python 3.10 or newer is needed (${found:-no Python is on PATH}); install one, or set PYTHON to its path"
    return 1
}

# The marker of an unfinished installation stands meanwhile: a pip that is killed leaves it behind.
_env_install() {
    local python=$1 file status=0 constraints=$_env_root/constraints.txt arguments=()
    for file in "${_env_files[@]}"; do arguments+=(-r "$file"); done
    : >"$_env_unfinished"
    if _env_keeps_torch "$python"; then
        constraints=$_env_venv/constraints-without-torch.txt
        sed '/^# --- torch ---$/,$d' "$_env_root/constraints.txt" >"$constraints"
    fi
    arguments+=(-c "$constraints")
    "$python" -m pip install --no-input --disable-pip-version-check "${arguments[@]}" >&2 || status=$?
    rm -f "$_env_unfinished"
    return "$status"
}
