#!/usr/bin/env bash
# Fetches the versions of the npm package `typescript` that compare.rs makes a series of, into DIR.
#
# 25 stable versions, about 140 MB packed. What is there already is not fetched again; each is
# held against the registry's own checksum. Then: ICECORE_BENCH_TYPESCRIPT=DIR cargo bench ...
set -euo pipefail

dir=${1:?usage: typescript.sh DIR}
registry=${NPM_REGISTRY:-https://registry.npmjs.org}
versions=(
    4.8.4 4.9.5 5.0.2 5.0.3 5.0.4
    5.1.3 5.1.6 5.2.2 5.3.2 5.3.3
    5.4.2 5.4.3 5.4.5 5.5.2 5.5.4
    5.6.2 5.6.3 5.7.2 5.7.3 5.8.2
    5.8.3 5.9.2 5.9.3 6.0.2 6.0.3
)

mkdir -p "$dir"
for version in "${versions[@]}"; do
    file=$dir/typescript-$version.tgz
    [ -f "$file" ] && continue
    sum=$(curl -fsSL --retry 3 "$registry/typescript/$version" |
        grep -o '"shasum": *"[0-9a-f]\{40\}"' | grep -o '[0-9a-f]\{40\}')
    curl -fsSL --retry 3 -o "$file.part" "$registry/typescript/-/typescript-$version.tgz"
    echo "$sum  $file.part" | sha1sum --check --quiet
    mv "$file.part" "$file"
done
echo "${#versions[@]} versions of typescript in $dir"
