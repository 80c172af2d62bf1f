"""Images assembled from layers: what one is made of, what is missing of it, and making it."""
