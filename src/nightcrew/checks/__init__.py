"""What a doctor looks at: each kind of fault with what is seen, its cause, and the line to paste."""
