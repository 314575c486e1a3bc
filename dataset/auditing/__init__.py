"""Which files can be used: decoding, duplicates, a journal to resume from."""
