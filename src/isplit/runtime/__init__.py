"""Run a bundle on the device and on the server. It needs no torch, so it installs and starts on a Raspberry Pi."""
