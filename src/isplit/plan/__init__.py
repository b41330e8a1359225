"""Plan where a model should run: profiles, links, placements, and a simulator. No torch: numpy and records only."""
