"""The user's masks: read, checked, ordered."""
