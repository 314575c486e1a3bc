"""Shadow traffic: photos of clients that both versions are asked, without a client noticing."""
