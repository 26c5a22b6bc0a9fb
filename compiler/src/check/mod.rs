//! What a model must satisfy.
