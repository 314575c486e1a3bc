"""What each role may do. A role includes the ones before it."""

ROLES = ("uploader", "reviewer", "admin")
SCOPES = {
    "labels": "GET /user-labels and its photos",
    "models": "POST /model",
    "nightly": "both",
    "reports": "POST /samples, and GET /user-labels",
}
"""Scopes of machine tokens."""


def at_least(role: str, needed: str) -> bool:
    """Whether a role includes another one."""
    return ROLES.index(role) >= ROLES.index(needed)
