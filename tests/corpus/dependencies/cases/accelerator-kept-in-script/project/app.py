# /// script
# dependencies = [
#   "jax==0.4.0",  # kn:keep
# ]
# ///
