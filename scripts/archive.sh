#!/usr/bin/env bash
# Pack a bundle (made by `python -m training export`) as a new version: model_store/NAME-VERSION.mar + .json
#
#   scripts/archive.sh BUNDLE VERSION        scripts/archive.sh models/classroom 1.1
#
# Exit 0 and one line on success; exit 1 and one line that names the fix otherwise. Never overwrites.
set -euo pipefail
here=$(pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python
[ -x "$python" ] || { echo "archive.sh: no $python: run make install first" >&2; exit 1; }
[ $# -eq 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 1; }
bundle=$1
[ "${bundle#/}" != "$bundle" ] || bundle=$here/$bundle
exec "$python" -m deploy archive "$bundle" "$2"
