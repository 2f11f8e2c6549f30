"""Evaluates compositions inside a model: what is bound where, and what it computes there."""
