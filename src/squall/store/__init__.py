"""What must survive: records and blobs, behind interfaces.

Shipped: SQLite and a directory; doubles in memory.
"""
