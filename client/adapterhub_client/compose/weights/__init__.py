"""What is done with weights: merging, folding into the base, leaving out, pruning."""
