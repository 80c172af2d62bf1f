"""Deciding a call before anything is done for it."""
