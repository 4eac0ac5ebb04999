"""Back-ends that export the counts of this process. Each needs an extra of its own."""
