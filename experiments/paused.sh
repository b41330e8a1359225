#!/bin/sh
# Runs a command while the long experiments of this machine, if any run, stand still: figures are not spoilt.
experiments=$(pgrep -f 'python.*[ /]experiments/[a-z_/]*[.]py' | grep -vx "$$")
signal() { for pid in $experiments; do kill "-$1" "$pid" 2>/dev/null; done; }
trap 'signal CONT' EXIT INT TERM
signal STOP
"$@"
