"""What is copied of rows before they leave: frames of JSON lines, sealed, kept in a store, and put back from there."""
