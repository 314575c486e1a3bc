"""Training where the photos lie in object storage, and the package that the cloud serves."""
