#!/bin/sh
# Runs a command while the long experiments of this machine, if any run, stand still: figures are not spoilt.
experiments=$(pgrep -f 'python.* experiments/[a-z_/]*[.]py')
if [ -n "$experiments" ] && kill -STOP $experiments; then trap 'kill -CONT $experiments' EXIT INT TERM; fi
"$@"
