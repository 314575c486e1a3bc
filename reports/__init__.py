"""The data team's product: a table of photos becomes scores, and scores become a report of shares and moves."""

import os

# Arrow's own allocator asks for huge pages, so memory rises by 10 MB long after the start (docs/log.md).
# Arrow reads this once, when it is imported.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
