#!/bin/sh
# Runs a command while the long experiment of this checkout, if one runs, stands still: figures are not spoilt.
pid=$(cat .cache/reproduction/pid 2>/dev/null) && kill -STOP "$pid" 2>/dev/null && trap 'kill -CONT "$pid"' EXIT INT TERM
"$@"
