#!/usr/bin/env bash
# Pack a bundle of `python -m training export` as a new version: model_store/NAME-VERSION.mar and .json
#
#   scripts/archive.sh BUNDLE VERSION        scripts/archive.sh models/classroom 1.1
#
# Prints one line. Exit 0 on success; exit 1 with the fix otherwise. Never overwrites a version.
set -euo pipefail
here=$(pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python
[ -x "$python" ] || { echo "archive.sh: no $python: run make install first" >&2; exit 1; }
[ $# -eq 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 1; }
bundle=$1
[ "${bundle#/}" != "$bundle" ] || bundle=$here/$bundle
exec "$python" -m deploy archive "$bundle" "$2"
