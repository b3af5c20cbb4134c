"""A short distillation: what is asked of the teacher, what is remembered, what is learnt."""
