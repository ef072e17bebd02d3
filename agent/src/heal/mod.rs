//! Stage 5: the act itself, one remedy per file.
pub mod soft;
