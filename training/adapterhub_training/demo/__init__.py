"""The main job from end to end: `python -m adapterhub_training.demo`."""
