"""Scoring: the archive's own handler in worker processes, parts on disk, remote photos."""
