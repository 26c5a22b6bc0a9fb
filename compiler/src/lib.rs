#![doc = include_str!("../../ARCHITECTURE.md")]

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
pub mod plan;
pub mod program;
pub mod lower;
pub mod driver;
