"""What the pipeline tells those who watch it from outside: metrics, traces, and logs as JSON."""
