//! Runs small convolution networks (ResNets) fast, in little memory, on the processor that is there.
//!
//! Terms: a *tile* is a few output pixels by one *panel* of output channels, what one call of a kernel computes in registers.
//! A *run* is a row of the convolution's window, one contiguous piece of the input, since pictures lie here as
//! height x width x channel. *Narrow* weights are 8-bit codes with one scale for each output channel. *Arithmetic* is float,
//! or integer: then activations are rounded to 8 bits too, with one scale for a whole layer, found anew at every picture.
//! A *patch* is the 4x4 input pixels of four outputs in Winograd's form of a layer; its 16 *places* are those pixels and what
//! they are transformed to. Some patches are a *block*: what one thread takes at a time.
//!
//! The `unsafe` code of the project is here, vector instructions and the pointers that feed them, but for two calls of the system's in
//! `firmware::capture::realtime`. This crate knows
//! nothing of files, manifests or tract; `detector::model` builds a [`Network`] from a graph that fits, and leaves every
//! other graph to tract. The kernels of all processors compute integer layers to the same bit, float layers to rounding.

mod buffer;
mod builder;
mod conv;
mod isa;
mod network;
mod patches;
mod plan;
mod scalar;
mod simple;
mod tile;
mod weights;
mod winograd;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use builder::{Builder, Refused, Value, Window};
pub use isa::{Kernels, available};
pub use network::{Layer, Network, Workspace};

/// How convolutions compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arithmetic {
    /// In f32, whatever the weights are stored in.
    #[default]
    Float,
    /// In 8-bit integers where weights are narrow and the layer's input is never negative, in f32 elsewhere.
    Integer,
}

/// Hands memory that was freed back to the system, where the allocator would keep it (glibc).
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[allow(unsafe_code)]
        // SAFETY: glibc's own declaration (malloc.h); it takes its locks itself and touches free memory alone.
        unsafe extern "C" {
            safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        malloc_trim(0);
    }
}
