"""Photos that people uploaded: metadata removed, hashed, stored in a folder or in object storage."""
