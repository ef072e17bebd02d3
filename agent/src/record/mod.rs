//! Stage 7: one incident, one story: journal, metrics and log.
