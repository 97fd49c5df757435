#!/usr/bin/env bash
# A month of hourly backups, then `forget` and `prune`: what is stored before and after.
#
# The folder begins with 200 notes and 50 pictures, 9 MB; each hour four notes get a line, and each
# third hour a picture is new. Without encryption, as each backup is a process of its own. What the
# newest backup gives back is compared with the folder.
set -euo pipefail

icecore=${1:?usage: month.sh ICECORE}
work=$(mktemp -d -p /dev/shm)
trap 'rm -r "$work"' EXIT
export XDG_CACHE_HOME=$work/cache
folder=$work/notes
repository=$work/repository
mkdir "$folder"

python3 - "$folder" <<'PYTHON'
import random, sys
letters = b"abcdefghijklmnopqrstuvwxyz"
words = [bytes(random.Random(n).choices(letters, k=2 + n % 9)) for n in range(3000)]
for n in range(200):
    text = b" ".join(random.Random(n).choices(words, k=3000))
    open(f"{sys.argv[1]}/{n:03}.txt", "wb").write(text)
for n in range(50):
    open(f"{sys.argv[1]}/{n:03}.jpg", "wb").write(random.Random(n).randbytes(100_000))
PYTHON

size() {
    find "$repository" -type f -printf '%s\n' |
        awk -v when="$1" '{ bytes += $1 } END { printf "%s: %.1f MB, %d objects\n", when, bytes / 1e6, NR }'
}

for ((hour = 0; hour < 720; hour++)); do
    python3 - "$folder" "$hour" <<'PYTHON'
import random, sys
folder, hour = sys.argv[1], int(sys.argv[2])
random.seed(hour)
for _ in range(4):
    with open(f"{folder}/{random.randrange(200):03}.txt", "ab") as note:
        note.write(b" ".join(b"%x" % random.randrange(1 << 32) for _ in range(8)) + b"\n")
if hour % 3 == 0:
    open(f"{folder}/new-{hour:03}.jpg", "wb").write(random.randbytes(100_000))
PYTHON
    time=$(date -u -d "2026-10-01 00:00 UTC + $hour hours" +%FT%TZ)
    "$icecore" -q -r "$repository" backup "$folder" --init --time "$time"
done
size "before"
"$icecore" -r "$repository" forget notes --keep-daily 7 --keep-weekly 4 --prune | tail -2
size "after"
"$icecore" -r "$repository" check --read-data
"$icecore" -r "$repository" restore notes "$work/restored"
diff -r "$folder" "$work/restored"
