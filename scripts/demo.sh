#!/bin/sh
# Trains models/tiny.vjepa on examples/clips and checks that it learnt: the mean loss of the last 20 steps must be below
# 0.9 of that of the first 20.
set -eu
vjepac=target/release/vjepac
run=target/release/vjepa-run
out=runs/demo

rm -rf "$out"
mkdir -p runs
"$vjepac" compile models/tiny.vjepa:tiny -o runs/tiny.vjc
"$run" train runs/tiny.vjc --data examples/clips --out "$out"

awk '
  match($0, /"loss":[-+0-9.eE]+/) { n += 1; loss[n] = substr($0, RSTART + 7, RLENGTH - 7) + 0 }
  END {
    if (n < 40) { printf "demo: only %d steps were logged, 40 are needed\n", n; exit 1 }
    for (i = 1; i <= 20; i++) { first += loss[i] / 20; last += loss[n - 20 + i] / 20 }
    printf "loss: mean of the first 20 steps %.4f, of the last 20 steps %.4f, ratio %.3f\n", first, last, last / first
    if (!(last < 0.9 * first)) { print "demo: the model did not learn (ratio must be below 0.9)"; exit 1 }
  }' "$out/metrics.jsonl"

cat <<END

The model has learnt. Next:
  cp models/tiny.vjepa models/mine.vjepa     then change a size or a mask, and
  $vjepac check models/mine.vjepa
  $vjepac compile models/mine.vjepa:tiny -o mine.vjc && $run train mine.vjc --data examples/clips --out runs/mine
END
