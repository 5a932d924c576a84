"""The user's rules over closed windows and over silence; those over single readings are in `core/spikes.py`."""
