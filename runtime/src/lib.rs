#![doc = include_str!("../../ARCHITECTURE.md")]

pub mod bench;
pub mod checkpoint;
pub mod clips;
pub mod device;
pub mod error;
pub mod masks;
pub mod replay;
pub mod report;
pub mod settings;
pub mod train;
pub mod video;
