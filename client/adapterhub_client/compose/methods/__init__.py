"""One file per adapter method; each builds its modules and names their tensors in a file."""
