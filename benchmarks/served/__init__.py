"""What the benchmarks of the local server are made of: odd photos, mutated requests, clients that are killed."""
