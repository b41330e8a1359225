"""Run the device's half of a bundle: heads, requests to the server, and the fallback when these fail. No torch."""
