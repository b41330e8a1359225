"""Measure the machine that isplit runs on: times, memory and energy of a bundle's parts, without torch."""
