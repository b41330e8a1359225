"""Run a bundle: the device agent, the server. No torch here: it installs and starts on a Raspberry Pi."""
