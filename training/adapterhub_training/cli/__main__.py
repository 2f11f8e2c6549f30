"""`python -m adapterhub_training.cli`, for `torchrun -m`."""

from adapterhub_training.cli import main

main()
