"""What one connection does: its transaction and snapshot, what it wrote, its commit."""
