"""The pages, one file per part of the app; each lists the ways that lead to it."""
