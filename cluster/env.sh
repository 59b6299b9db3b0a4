# What every command on a machine of the cluster starts with: `. ~/metadist/env.sh`.
# No secret stands here: the token is in a file of its own that only its owner reads.
export PATH="$HOME/metadist/venv/bin:$PATH"
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="$HOME/.ray/auth_token"
export RAY_USAGE_STATS_ENABLED=0
# Where the shared file system is mounted; the same path on every machine.
export METADIST_SHARED="${METADIST_SHARED:-/shared}"
export METADIST_DATA_DIR="$METADIST_SHARED/data"
# Ray opens many files. As many as are allowed: asking for more would be refused, and end here.
ulimit -n "$(ulimit -Hn)"
