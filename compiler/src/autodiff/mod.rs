//! Reverse-mode gradients.
