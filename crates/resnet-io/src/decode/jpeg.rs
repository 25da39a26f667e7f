//! JPEG by libjpeg's C code (`mozjpeg-sys`), through a small C file that turns its errors into values.
//!
//! The decoder, its inverse transform and its smooth chroma upsampling are libjpeg's defaults, as in
//! Pillow, so the pixels are the same. The `unsafe` here is the three calls into that C file.
#![expect(unsafe_code, reason = "calls into C; each call proves its buffers")]

use std::ffi::{CStr, c_char, c_int};

use crate::picture::Part;

// The C library that `jpeg.c` calls is linked by this crate.
use mozjpeg_sys as _;

/// libjpeg's JMSG_LENGTH_MAX.
const MESSAGE_LEN: usize = 200;

unsafe extern "C" {
    fn resnet_jpeg_header(
        data: *const u8,
        len: usize,
        header: *mut u32,
        message: *mut c_char,
    ) -> c_int;
    fn resnet_jpeg_decode(
        data: *const u8,
        len: usize,
        out: *mut u8,
        out_len: usize,
        message: *mut c_char,
    ) -> c_int;
    fn resnet_jpeg_decode_part(
        data: *const u8,
        len: usize,
        part: *const u32,
        out: *mut u8,
        out_len: usize,
        message: *mut c_char,
    ) -> c_int;
    fn resnet_jpeg_exif(data: *const u8, len: usize, out: *mut u8, message: *mut c_char) -> usize;
}

/// Bytes of the longest segment of a JPEG.
const SEGMENT_LEN: usize = 65_535;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) width: usize,
    pub(super) height: usize,
    /// 1 grey, 3 RGB, 4 CMYK.
    pub(super) channels: usize,
    /// Adobe's files hold CMYK inverted.
    pub(super) adobe: bool,
}

/// Reads the header.
///
/// # Errors
/// What libjpeg says.
pub(super) fn header(bytes: &[u8]) -> Result<Header, String> {
    let (mut header, mut message) = ([0; 4], [0; MESSAGE_LEN]);
    // SAFETY: `bytes` is readable for its length, `header` has the four places and `message` the
    // MESSAGE_LEN bytes that the function writes at most; it keeps no pointer and does not unwind.
    let status = unsafe {
        let (header, message) = (header.as_mut_ptr(), message.as_mut_ptr());
        resnet_jpeg_header(bytes.as_ptr(), bytes.len(), header, message)
    };
    if status != 0 {
        return Err(text(&message));
    }
    let [width, height, channels] = [header[0], header[1], header[2]].map(|n| n as usize);
    Ok(Header { width, height, channels, adobe: header[3] == 1 })
}

/// The EXIF data, without the mark before them, if there are any.
pub(super) fn exif(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut chunk, mut message) = (vec![0; SEGMENT_LEN], [0; MESSAGE_LEN]);
    // SAFETY: `bytes` is readable for its length, `chunk` has the SEGMENT_LEN bytes and `message` the
    // MESSAGE_LEN bytes that the function writes at most; it keeps no pointer and does not unwind.
    let length = unsafe {
        let (out, message) = (chunk.as_mut_ptr(), message.as_mut_ptr());
        resnet_jpeg_exif(bytes.as_ptr(), bytes.len(), out, message)
    };
    chunk.truncate(length);
    (length != 0).then_some(chunk)
}

/// Decodes the pixels, `[height][width][channels]`.
///
/// # Errors
/// What libjpeg says, or that the file ends too early.
pub(super) fn pixels(bytes: &[u8], header: &Header) -> Result<Vec<u8>, String> {
    let mut pixels = vec![0; header.width * header.height * header.channels];
    let mut message = [0; MESSAGE_LEN];
    // SAFETY: `bytes` is readable and `pixels` writable for their lengths, of which the function
    // makes sure that the rows fit; `message` has the MESSAGE_LEN bytes that it writes at most; it
    // keeps no pointer and does not unwind.
    let status = unsafe {
        let (out, out_len) = (pixels.as_mut_ptr(), pixels.len());
        resnet_jpeg_decode(bytes.as_ptr(), bytes.len(), out, out_len, message.as_mut_ptr())
    };
    outcome(status, pixels, &message)
}

/// Decodes a part of the pixels, `[part.height][part.width][channels]`: the same as of [`pixels`].
///
/// # Errors
/// As of [`pixels`], wherever the damage is.
pub(super) fn part(bytes: &[u8], header: &Header, part: Part) -> Result<Vec<u8>, String> {
    let mut pixels = vec![0; part.width * part.height * header.channels];
    let mut message = [0; MESSAGE_LEN];
    // A header's sides are 16 bits, and a part that does not lie within them is refused.
    let numbers = [part.x, part.y, part.width, part.height].map(|n| n as u32);
    // SAFETY: `bytes` is readable and `pixels` writable for their lengths, which the function compares
    // with the part's size and the part with the picture's; `numbers` has the four places that it reads
    // and `message` the MESSAGE_LEN bytes that it writes at most; it keeps no pointer and does not
    // unwind.
    let status = unsafe {
        let (out, out_len) = (pixels.as_mut_ptr(), pixels.len());
        let message = message.as_mut_ptr();
        resnet_jpeg_decode_part(
            bytes.as_ptr(),
            bytes.len(),
            numbers.as_ptr(),
            out,
            out_len,
            message,
        )
    };
    outcome(status, pixels, &message)
}

fn outcome(
    status: c_int,
    pixels: Vec<u8>,
    message: &[c_char; MESSAGE_LEN],
) -> Result<Vec<u8>, String> {
    match status {
        0 => Ok(pixels),
        2 => Err("the file is truncated".into()),
        _ => Err(text(message)),
    }
}

fn text(message: &[c_char; MESSAGE_LEN]) -> String {
    let bytes = message.map(|c| c.cast_unsigned());
    CStr::from_bytes_until_nul(&bytes)
        .map_or_else(|_| "unknown error".into(), |text| text.to_string_lossy().to_lowercase())
}
