"""Draw the figures of the page; each module turns series into a drawing and into what its scripts need."""
