#!/usr/bin/env bash
# Install metadist on a machine of a cluster: bash ~/metadist/install.sh [EXTRA_PACKAGE...]
#
# Wanted beside this file: constraints.txt, and dist/ with a wheel of metadist (the newest file: an
# older one stays behind where the launcher brings a new one). Makes venv/ there.
# Does nothing if the same wheel, constraints and packages are installed already, so that it may run
# at every start. TORCH_INDEX_URL names another index for torch, as in `make setup`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

wheel=$(ls -t "$here"/dist/metadist-*.whl 2>/dev/null | head -n 1 || true)
[[ -n $wheel ]] || fail "there is no wheel in $here/dist; build it where the cluster is started" \
    "from: python -m build --wheel"
[[ -f $here/constraints.txt ]] || fail "there is no $here/constraints.txt"
python=$(command -v python3.11) || fail "python3.11 is needed; constraints.txt was tested with it"
torch=$(grep -m1 '^torch==' "$here/constraints.txt") || fail "constraints.txt does not name torch"

wanted=$(cat "$wheel" "$here/constraints.txt" <(echo "$torch ${TORCH_INDEX_URL:-} $*") |
    sha256sum)
if [[ -f $here/venv/.installed && $(<"$here/venv/.installed") == "$wanted" ]]; then
    echo "metadist is installed already in $here/venv"
    exit 0
fi
rm -rf "$here/venv" # never a mixture of two versions
"$python" -m venv "$here/venv" || fail "python3.11 -m venv failed; on Debian: python3.11-venv"
pip=("$here/venv/bin/python" -m pip --disable-pip-version-check -q install)
# torch first and alone: an index that is given need not hold anything else.
"${pip[@]}" --no-deps ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$torch"
"${pip[@]}" -c "$here/constraints.txt" "${wheel}[tune]" "$@"
"$here/venv/bin/metadist" --version
echo "$wanted" >"$here/venv/.installed" # written last: half an installation is none
