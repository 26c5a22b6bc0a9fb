#![doc = include_str!("../../ARCHITECTURE.md")]

pub mod error;
pub mod settings;
pub mod video;
pub mod clips;
pub mod masks;
pub mod device;
pub mod train;
pub mod checkpoint;
pub mod report;
pub mod replay;
pub mod bench;
