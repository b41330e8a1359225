"""The figures of the page, each from series to a drawing and to what its scripts need."""
