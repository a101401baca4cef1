"""Random input for every front door, with independent checks of what comes back."""
