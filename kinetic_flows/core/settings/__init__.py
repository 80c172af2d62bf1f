"""Every setting: what it may be, and which of its givers wins."""
