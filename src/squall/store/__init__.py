"""What must survive: records and blobs, behind interfaces. Shipped: SQLite and a directory; a double in memory."""
