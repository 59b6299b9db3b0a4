"""What a process stands on: environment, import path, signals, the code it runs."""
