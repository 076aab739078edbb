"""The models of the tasks, each a Module with ``loss(batch, state)``."""
