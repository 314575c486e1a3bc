"""What tests share: servers, awkward pictures, small recipes, an S3 server."""
