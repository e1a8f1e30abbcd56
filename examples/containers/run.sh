#!/bin/sh
# The first process of a container is sent no signal that it does not ask for: this one asks, and passes on.
"$@" &
trap 'kill -TERM $!; wait $!; exit 0' TERM INT
wait $!
