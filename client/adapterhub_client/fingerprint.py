"""To be written (interface fixed)."""
