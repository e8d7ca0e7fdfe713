"""The desk: what ran, what did not, and why, as pages; and what a person may do about it."""
