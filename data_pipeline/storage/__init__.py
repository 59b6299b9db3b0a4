"""The one door to files: local, shared, or in an object store (s3://)."""
