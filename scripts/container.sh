#!/bin/sh
# The image's entry point (Dockerfile): what one container does.
#
#     serve [OPTIONS]       TorchServe, its keeper and its nginx, which checks the clients' tokens
#     traffic [COMMAND]     nginx before the nodes NODES (name:port) on LISTEN; with a command: python -m traffic COMMAND
#     feedback [OPTIONS]    the upload and review pages; other commands of python -m feedback too: feedback nightly ...
#     reports COMMAND       as python -m reports: score, build, drift
#     PACKAGE COMMAND       any other command: training train, deploy rollout
#
# SIGTERM answers the requests in progress and ends it.
set -eu
cd "$(dirname "$0")/.."

run_edge() {
    resolver=${RESOLVER:-$(awk '/^nameserver/ { print $2; exit }' /etc/resolv.conf)}
    folder=${TMPDIR:-/tmp}
    sed -e "s|@TMP@|$folder|; s|@RESOLVER@|$resolver|; s|@NODES@|${NODES:-nodes:8086}|; s|@LISTEN@|${LISTEN:-8086}|" \
        config/edge.conf > "$folder/edge.conf"
    nginx -e stderr -p "$folder" -c "$folder/edge.conf" &
    trap 'kill -QUIT $!' TERM INT # nginx drops the requests that it has at SIGTERM, and answers them at SIGQUIT
    wait $! || wait $! # the first is over when the signal comes
    exit
}

[ $# -gt 0 ] || set -- serve
case $1 in
serve)
    shift
    SERVE_WEB_PORT=${SERVE_WEB_PORT:-0} exec python -m deploy serve "$@"
    ;;
traffic)
    [ $# -gt 1 ] || run_edge
    ;;
feedback)
    case ${2:-} in
    "" | -*)
        shift
        exec python -m feedback serve "$@"
        ;;
    esac
    ;;
esac
exec python -m photoloop "$@"
