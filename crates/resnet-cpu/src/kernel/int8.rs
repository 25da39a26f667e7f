//! Int8 inference: convolution on bytes, pools, conversions.
//!
//! ```text
//! y[n,oy,ox,co] = requantize(offset[co] + Σ_ky,kx,ci x[n,iy,ix,ci] · w[co,ci,ky,kx], multiplier[co], residual)
//! ```
//!
//! Sums are exact, so results are the same bits however the work is cut and whatever the instruction
//! set; what remains is speed. As in f32, a tile of pixels times a panel of channels stays in registers
//! while the whole reduction runs, over pointers to the rows that the taps touch.

mod convert;
mod gather;
mod layout;
mod plan;
mod pool;
mod product;
mod scalar;
#[cfg(test)]
mod tests;
mod tile;

pub use convert::{dequantize, quantize};
pub use layout::Int8Layout;
pub use plan::{Int8Output, Int8Plan};
pub use pool::{global_average_pool, max_pool, subsample_pad};
pub use product::{Int8Target, int8_conv};
pub use scalar::int8_conv_scalar;
