"""The workspace: a small real AI-chat app that every recipe runs against."""
