"""The device's half of the runtime: heads, the wire, and what to do when the wire fails. No torch."""
