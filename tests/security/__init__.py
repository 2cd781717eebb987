"""The key stays where it belongs, and so does everything else."""
