"""A wheel as an image layer: laid out as an installer does, the same bytes on any machine."""
