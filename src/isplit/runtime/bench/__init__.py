"""Run every placement of a bundle from a device's process, and measure what the answers alone do not show."""
