"""
Adapters: what one request looks like in each framework.

Each module imports exactly one framework and is loaded on first use. They see a request
and hand what they saw to `_record.py`, where it becomes an event, the same for all.
"""
