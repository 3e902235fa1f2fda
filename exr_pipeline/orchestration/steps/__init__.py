"""What the steps of runs do, and the events that they log."""
