"""The HTTP door, fitted to the web frameworks."""
