"""Cloud jobs: photos in object storage, resource monitoring, and the package that the cloud serves."""
