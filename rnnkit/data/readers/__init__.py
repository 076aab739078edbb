"""Readers of the user's files: every way in which one can be wrong gives one clear line."""
