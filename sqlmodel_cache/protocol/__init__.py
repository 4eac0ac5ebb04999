"""The coherence protocol, sans-IO: generators that yield operations and never wait."""
