"""The web application: routes, pages, guards."""
