"""The SDK against an ingest that does what ingests, networks and proxies do wrong."""
