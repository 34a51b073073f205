# Shared by the scripts of this folder: steps that are timed, skips that are said.
# shellcheck shell=bash

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
SKIPPED=()

# step NAME COMMAND...: runs a command and says how long it took; a failure ends the script.
step() {
    local name=$1 begin=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if ! "$@"; then
        printf '== %s: FAILED after %d s: %s\n' "$name" $((SECONDS - begin)) "$*" >&2
        exit 1
    fi
    printf '== %s: ok, %d s\n' "$name" $((SECONDS - begin))
}

# skip REASON: notes what was left out.
skip() {
    SKIPPED+=("$1")
    printf 'SKIPPED: %s\n' "$1"
}

summary() {
    local reason
    printf '\n== %s: all passed' "$(basename "$0")"
    if [ ${#SKIPPED[@]} -eq 0 ]; then
        printf ', nothing skipped\n'
        return
    fi
    printf ', %d skipped:\n' ${#SKIPPED[@]}
    for reason in "${SKIPPED[@]}"; do printf '   %s\n' "$reason"; done
}

# apt_install PACKAGE...: installs Debian packages where that is possible without a question.
apt_install() {
    local sudo=()
    if [ "${PALYRA_APT:-1}" = 0 ]; then
        skip "not installed, as PALYRA_APT=0 asks: $*"
        return 1
    fi
    if ! command -v apt-get >/dev/null; then
        skip "not installed, as there is no apt-get: $*"
        return 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            skip "not installed, as neither root nor sudo without a password is at hand: $*"
            return 1
        fi
        sudo=(sudo -n)
    fi
    echo "installing $*"
    if ! { timeout 120 "${sudo[@]}" apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive timeout 300 "${sudo[@]}" apt-get install -y -qq --no-install-recommends "$@"; } \
        >/dev/null 2>&1; then
        skip "apt-get could not install: $*"
        return 1
    fi
}
