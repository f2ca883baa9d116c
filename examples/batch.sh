#!/usr/bin/env bash
# Decompose every video of a folder, one after another; a failure is noted and the next one begins.
# `omnimatte batch` does this and more: several at a time, finished ones skipped, a table, a page.
#
#   examples/batch.sh SHOTS_FOLDER OUTPUT_FOLDER [options of omnimatte decompose]
#
# Masks are taken from NAME.masks/ beside NAME.mp4 where that is there. Ctrl-C ends the loop.
# OMNIMATTE names another program than `omnimatte`.
set -u
if [ $# -lt 2 ]; then
  echo "usage: $0 SHOTS_FOLDER OUTPUT_FOLDER [options]" >&2
  exit 2
fi
shots=$1 out=$2
shift 2
read -r -a omnimatte <<< "${OMNIMATTE:-omnimatte}"

failed=()
mkdir -p "$out"
shopt -s nullglob
for shot in "$shots"/*.mp4 "$shots"/*.mov "$shots"/*.mkv; do
  name=$(basename "${shot%.*}")
  if [ -e "$out/$name/manifest.json" ]; then
    continue  # done before
  fi
  masks=()
  if [ -d "${shot%.*}.masks" ]; then
    masks=(--masks "${shot%.*}.masks")
  fi
  "${omnimatte[@]}" decompose "$shot" ${masks[@]+"${masks[@]}"} -o "$out/$name" -q "$@" < /dev/null
  code=$?
  if [ "$code" -ge 129 ]; then  # ended by a signal: so is the loop
    exit "$code"
  fi
  if [ "$code" -ne 0 ]; then
    failed+=("$name")
  fi
done
if [ ${#failed[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
