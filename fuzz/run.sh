#!/usr/bin/env bash
# Runs every fuzz target for some seconds (20, or the first argument) and fails on a crash.
#
# Builds with the toolchain of the repository: the coverage that libFuzzer steers by comes from
# the compiler's own pass, so that neither a nightly nor cargo-fuzz is needed. Other arguments
# name the targets to run. What is found stays in fuzz/target/corpus, and what crashes in
# fuzz/target/crashes. A row for the table in src/docs/guarantees.md ends each target: its name,
# seconds, executions and the most memory it took. ICECORE_FUZZ_BUILT=1 leaves out the build, and
# ICECORE_FUZZ_TIMEOUT=300 bears a machine that is busy with other things.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

seconds=${1:-20}
shift || true
host=x86_64-unknown-linux-gnu
case $(uname -m) in aarch64) host=aarch64-unknown-linux-gnu ;; esac

# The flags are for what is fuzzed alone: with --target, build scripts do without them.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table"
coverage+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
if [ -z "${ICECORE_FUZZ_BUILT:-}" ]; then
    RUSTFLAGS="$coverage -Ccodegen-units=1 --cfg fuzzing" \
        cargo build --release --target "$host" --target-dir target
fi

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for folder in seeds/*/; do
        targets+=("$(basename "$folder")")
    done
fi

# Times without a zone are read in this one.
export TZ=UTC
# Caches and small files of an execution are written in memory.
if [ -z "${TMPDIR:-}" ] && [ -d /dev/shm ]; then
    TMPDIR=$(mktemp -d /dev/shm/icecore-fuzz-XXXXXX)
    export TMPDIR
    trap 'rm -rf "$TMPDIR"' EXIT
fi
# What a length claims and nothing fills is no memory in use: it is bounded as addresses are.
ulimit -v 8388608
failed=()
for target in "${targets[@]}"; do
    mkdir -p "target/corpus/$target" "target/crashes/$target"
    log=target/crashes/$target.log
    if ICECORE_FUZZ_TARGET=$target "target/$host/release/fuzz" \
        "target/corpus/$target" "seeds/$target" \
        -max_total_time="$seconds" -artifact_prefix="target/crashes/$target/" \
        -rss_limit_mb=2048 -timeout="${ICECORE_FUZZ_TIMEOUT:-20}" -max_len=16384 -print_final_stats=1 >"$log" 2>&1; then
        executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        memory=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
        printf '| %s | %s | %s | %s MB |\n' "$target" "$seconds" "$executions" "$memory"
    else
        printf '== %s crashed\n' "$target"
        tail -n 40 "$log"
        failed+=("$target")
    fi
done

if [ ${#failed[@]} -gt 0 ]; then
    printf 'crashed: %s\n' "${failed[*]}"
    exit 1
fi
printf '%s targets, no crash\n' "${#targets[@]}"
