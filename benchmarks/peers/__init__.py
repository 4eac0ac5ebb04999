"""What else a user might pick, measured in an environment of its own: `make bench PEERS=1`."""
