//! Diagnostics as text with the source line.
