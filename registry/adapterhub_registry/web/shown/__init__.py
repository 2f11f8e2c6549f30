"""What pages show, gathered from the services."""
