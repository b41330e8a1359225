"""Load models, their weights and labelled data."""
