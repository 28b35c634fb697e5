#!/bin/sh
# Prometheus mends a log that a full disk has torn by writing it anew. Without room it loses all of it, and with it what it
# scraped in the last hours; and Docker would have it try again and again. So it starts when there is room.
#
# KiB: the log's last file once more (128 MiB), a file of chunks (128 MiB), and some to spare.
need=524288

df -Pk /prometheus | {
    read -r _
    read -r _ _ _ free _
    if [ "$free" -lt "$need" ]; then
        echo "No room: $((free / 1024)) MiB are free on its disk, and it needs $((need / 1024)) to start without losing data." >&2
        exit 1
    fi
} || exit 1
exec /bin/prometheus "$@"
