"""Memory systems in small: what each is to show, the task that shows it, and how its model is trained."""
