"""Looking into runs: what they use, what they are doing, how they ended, and what they cost."""
