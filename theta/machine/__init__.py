"""What the machine decides: devices, number formats, threads, and the process that training runs in."""
