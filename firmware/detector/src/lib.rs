//! Sound in, decisions out.
//!
//! Architecture invariant: this crate cannot do I/O. It opens no file, reads no clock, starts no thread, and depends on no
//! device, network or async crate; the caller hands in bytes and times and carries out what is decided.
//!
//! The way of a sample: [`resample`] -> [`window`] -> [`front_end`] -> [`model`] -> [`alarm`]. [`pipeline`] is all of it
//! but the last, in one place, for the device and for the tools alike.
#![forbid(unsafe_code)]

pub mod alarm;
pub mod front_end;
pub mod golden;
mod graph;
pub mod guarded;
pub mod keys;
pub mod level;
pub mod limits;
pub mod manifest;
mod mel;
pub mod model;
mod native;
pub mod pipeline;
pub mod quiet_gate;
pub mod resample;
pub mod sound_health;
pub mod viridis;
pub mod window;
