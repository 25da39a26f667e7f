//! GIF: the first frame by its palette, as Pillow shows it: transparency is not looked at.

use std::io::Cursor;
use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use crate::picture::Image;

/// Bytes that a frame may take, a pixel each; the limit on pixels is checked before.
const MEMORY: NonZeroU64 = NonZeroU64::new(super::MAX_PIXELS).expect("it is above 0");

/// The size that the header claims: of the screen, or of a first frame that reaches beyond it.
///
/// # Errors
/// What the library says.
pub(super) fn size(bytes: &[u8]) -> Result<(u64, u64), gif::DecodingError> {
    let mut decoder = options().read_info(Cursor::new(bytes))?;
    let (width, height) = (decoder.width(), decoder.height());
    let frame = decoder.next_frame_info()?;
    let reach = |start: u16, size: u16| u64::from(start) + u64::from(size);
    let (right, bottom) =
        frame.map_or((0, 0), |f| (reach(f.left, f.width), reach(f.top, f.height)));
    Ok((right.max(width.into()), bottom.max(height.into())))
}

/// The pixels of the first frame on a screen of this size.
///
/// # Errors
/// What the library says; a file without a frame.
pub(super) fn pixels(bytes: &[u8], (width, height): (usize, usize)) -> Result<Image, String> {
    let text = |error: gif::DecodingError| error.to_string();
    let mut decoder = options().read_info(Cursor::new(bytes)).map_err(text)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.read_next_frame().map_err(text)?.ok_or("there is no frame")?;
    let palette = frame.palette.as_ref().or(global.as_ref()).ok_or("there is no palette")?;
    let (palette, _) = palette.as_chunks::<3>();
    // Behind the palette's end all is black.
    let colour = |index: u8| palette.get(usize::from(index)).copied().unwrap_or_default();
    // The screen is transparent where the frame does not cover it, else of the first colour.
    let mut image = Image::filled(width, height, colour(frame.transparent.unwrap_or(0)));
    let [left, top, columns] = [frame.left, frame.top, frame.width].map(usize::from);
    let (out, _) = image.pixels.as_chunks_mut::<3>();
    for (y, row) in frame.buffer.chunks_exact(columns.max(1)).enumerate() {
        let start = (top + y) * width + left;
        for (out, &index) in out[start..start + columns].iter_mut().zip(row) {
            *out = colour(index);
        }
    }
    Ok(image)
}

fn options() -> DecodeOptions {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Bytes(MEMORY));
    options
}
