"""Commands that set up Google Cloud, change it, show it and remove it."""
