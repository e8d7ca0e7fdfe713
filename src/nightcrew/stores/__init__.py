"""Where things are kept outside the database: disk · memory."""
