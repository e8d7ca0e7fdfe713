"""What tells of one person is removed wherever it is kept, looked for once more, and the removal proven."""
