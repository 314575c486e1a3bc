"""The data team's product: a table of photos becomes scores, and scores become a report of shares and moves."""
