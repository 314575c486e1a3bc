"""What happens beside serving on the same machine, and what it costs the requests that are answered meanwhile."""
