"""Train adapters, fusions and heads on a frozen base model, and report on them."""
