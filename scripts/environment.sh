# shellcheck shell=bash
# What the scripts share; sourced by them. Says where things are and which Rust is used.

root=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# A relative path would mean another folder to cargo, which runs in the root.
if [ -n "${CARGO_TARGET_DIR:-}" ]; then
    CARGO_TARGET_DIR=$(realpath -m "$CARGO_TARGET_DIR")
    export CARGO_TARGET_DIR
fi
# shellcheck disable=SC2034 # for those who source this
programs=${CARGO_TARGET_DIR:-$root/target}/debug

# The venv's name says what is in it: another list makes another venv.
ytdlp_list=$(sha256sum "$root/workers/media/yt-dlp.txt" | cut -c 1-12)
ytdlp=${XDG_CACHE_HOME:-$HOME/.cache}/fourmi/yt-dlp-$ytdlp_list/bin/yt-dlp
export FOURMI_YTDLP=${FOURMI_YTDLP:-$ytdlp}

# Clients that others have written, for the tests; named like the venv.
clients_list=$(sha256sum "$root/tests/clients/package-lock.json" | cut -c 1-12)
export FOURMI_CLIENTS=${FOURMI_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/fourmi/clients-$clients_list}

# Tools in Python that hold the API to its description.
tools_list=$(sha256sum "$root/tests/clients/requirements.txt" | cut -c 1-12)
export FOURMI_TOOLS=${FOURMI_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/fourmi/tools-$tools_list}

# A Python with the libraries that scripts/bench insight compares with.
rivals_list=$(sha256sum "$root/tests/clients/insight-requirements.txt" | cut -c 1-12)
export FOURMI_RIVALS=${FOURMI_RIVALS:-${XDG_CACHE_HOME:-$HOME/.cache}/fourmi/rivals-$rivals_list/bin/python}

say() { printf '%s\n' "$*" >&2; }

# The version of Rust that rust-toolchain.toml asks for.
rust_wanted=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$root/rust-toolchain.toml")

# rustup from a distribution leaves cargo in PATH; the one from rustup.rs puts it here.
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    export PATH="$HOME/.cargo/bin:$PATH"
fi

# rustup would download "1.95.0" even where "stable" is that very version: name the toolchain that is there.
use_installed_rust() {
    [ -z "${RUSTUP_TOOLCHAIN:-}" ] && command -v rustup >/dev/null || return 0
    local installed
    installed=$(rustup toolchain list)
    grep -q "^$rust_wanted\b" <<<"$installed" && return 0
    local default
    default=$(sed -n 's/ (.*default.*//p' <<<"$installed")
    if [ -n "$default" ] && [[ $(rustc "+$default" --version) == "rustc $rust_wanted "* ]]; then
        export RUSTUP_TOOLCHAIN=$default
    fi
}
use_installed_rust
