"""Who may do what: passwords, sessions, tokens of machines, rate limits."""
