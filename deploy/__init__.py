"""A bundle -> an archive -> a version that is registered, proven and answers. Imports no torch."""
