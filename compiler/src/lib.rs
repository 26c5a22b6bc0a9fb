#![doc = include_str!("../../ARCHITECTURE.md")]

pub mod autodiff;
pub mod build;
// pub mod check;
pub mod diag;
// pub mod driver;
pub mod elaborate;
pub mod ir;
pub mod lower;
pub mod model;
pub mod optim;
pub mod passes;
pub mod plan;
pub mod program;
pub mod render;
pub mod source;
pub mod syntax;
