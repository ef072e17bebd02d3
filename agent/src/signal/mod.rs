//! Stage 1: what is seen.
