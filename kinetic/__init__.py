"""`import kinetic`: the public names of kinetic_flows, loaded when first used."""
