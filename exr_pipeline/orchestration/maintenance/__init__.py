"""Jobs and schedules that look after what is there: retention, archiving, reconciliation, backup."""
