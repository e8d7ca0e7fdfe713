"""The kinds of relational database: everything that speaks SQL, and the only place that names a dialect."""
