"""Sample clips, and the programs that made them; no package imports this one."""
