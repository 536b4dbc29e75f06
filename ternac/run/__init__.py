"""Running a program without hardware: NumPy executor, sampling, loss, profile, comparison of executors."""
