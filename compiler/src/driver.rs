//! The pipeline, one line a stage; the only file that orders stages.
