"""What a project has around a cluster: APIs, accounts and their roles, buckets, images, network."""
