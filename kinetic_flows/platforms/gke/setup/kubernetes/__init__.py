"""What is made inside of the cluster, over its own API."""
