"""Verbs that join rooms: measuring a study or a bundle, bench, and everything in one go."""
