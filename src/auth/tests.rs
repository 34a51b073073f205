//! Selection and breaker against models.
