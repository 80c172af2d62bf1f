"""Making, comparing and removing what runs need on Google Cloud: cluster, pools, accounts."""
