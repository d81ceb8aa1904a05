"""A run of training: its settings, folder, backups, callbacks, schedules, devices."""
