#![doc = include_str!("../../ARCHITECTURE.md")]

// In reading order: blank lines keep it.
pub mod driver;

pub mod source;

pub mod diag;

pub mod render;

pub mod syntax;

pub mod elaborate;

pub mod model;

pub mod check;

pub mod build;

pub mod ir;

pub mod passes;

pub mod autodiff;

pub mod optim;

pub mod program;

pub mod plan;

pub mod lower;
