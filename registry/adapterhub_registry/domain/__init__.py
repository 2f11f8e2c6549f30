"""Rules that need neither database nor network."""
