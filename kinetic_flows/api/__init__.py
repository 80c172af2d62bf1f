"""What people hold: the decorator, remote functions, runs, groups and deployments."""
