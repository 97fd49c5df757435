#!/usr/bin/env bash
# Installs the tools that compare.rs compares with into DIR/bin (/opt/peers, or the first argument).
#
#   restic   the package of Debian's unstable suite: a static program, unpacked and not installed
#   borg     from PyPI, in an environment of its own, after what it is built with
#   rustic   cargo install: some 20 minutes on two cores
#
# tar and zstd are taken from the system. What is there already stays as it is. The versions are
# those of src/docs/measurements.md; of restic the suite may have a later one by now.
set -euo pipefail

peers=${1:-/opt/peers}
mkdir -p "$peers/bin"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

has() {
    [ -x "$peers/bin/$1" ]
}

install_restic() {
    local mirror
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    : >"$work/status"
    # The mirror that this machine's own apt uses.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | head -n 1)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" \
        >"$work/sources.list"
    local options=(
        -o "Dir::State::lists=$work/lists" -o "Dir::State::status=$work/status"
        -o "Dir::Cache=$work/cache" -o "Dir::Etc::sourcelist=$work/sources.list"
        -o "Dir::Etc::sourceparts=/dev/null" -o "Dir::Etc::preferencesparts=/dev/null"
        -o "APT::Sandbox::User=root" -o "Acquire::Languages=none"
    )
    apt-get "${options[@]}" -qq update
    (cd "$work" && { apt-get "${options[@]}" -qq download 'restic=0.19.1*' ||
        apt-get "${options[@]}" -qq download restic; })
    dpkg-deb -x "$work"/restic_*.deb "$work/root"
    cp "$work/root/usr/bin/restic" "$peers/bin/"
}

install_borg() {
    local packages=(
        build-essential python3-dev python3-venv pkg-config
        libacl1-dev liblz4-dev libssl-dev libxxhash-dev libzstd-dev
    )
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${packages[@]}" >/dev/null
    python3 -m venv "$peers/borg"
    "$peers/borg/bin/pip" -q install borgbackup==1.4.5
    ln -sf "$peers/borg/bin/borg" "$peers/bin/borg"
}

has restic || install_restic
has borg || install_borg
has rustic || cargo install --root "$peers" --locked --version 0.11.4 rustic-rs

"$peers/bin/restic" version
"$peers/bin/borg" --version
"$peers/bin/rustic" --version
echo "PATH=$peers/bin:\$PATH"
